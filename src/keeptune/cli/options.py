"""Arguments and options that several verbs share, and the JSON that `--json` prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="recipe file, e.g. recipes/quickstart.yaml")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="run directory")]
Settings = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="override a recipe value, e.g. train.epochs=2; repeatable"),
]
Processes = Annotated[int, typer.Option(min=0, help="processes of the data stage; 0: chosen automatically")]
ClusterAddress = Annotated[
    str | None, typer.Option("--cluster", metavar="HOST:PORT", help="Ray cluster that runs the data stage")
]
Suite = Annotated[
    Literal["quick", "standard", "full"], typer.Option(help="number of questions per ability of the retention suite")
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON to standard output")]


def json_text(tree: Any) -> str:
    """The JSON that `--json` prints, indented and with Chinese characters unescaped."""
    return json.dumps(tree, ensure_ascii=False, indent=1)
