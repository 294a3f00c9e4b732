"""What several verbs take, and how what they return is printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="a recipe, e.g. recipes/quickstart.yaml")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="a run directory")]
Settings = Annotated[list[str], typer.Option("--set", metavar="A.B=C", help="override a value of the recipe")]
Processes = Annotated[int, typer.Option(min=0, help="processes for the data stage; 0: as many as pay")]
ClusterAddress = Annotated[
    str | None, typer.Option("--cluster", metavar="ADDRESS", help="a Ray cluster (HOST:PORT) for the data stage")
]
Suite = Annotated[Literal["quick", "standard", "full"], typer.Option(help="how much of the retention suite is asked")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON to standard output")]


def json_text(tree: Any) -> str:
    """What `--json` prints: Chinese as it is, for people read it too."""
    return json.dumps(tree, ensure_ascii=False, indent=1)
