"""Arguments and options that several verbs share, and the JSON that `--json` prints."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from keeptune.config.yaml_reader import YamlError, parse_yaml
from keeptune.errors import RecipeError

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


def parse_setting(option: str, text: str) -> Any:
    """The YAML value of an option, such as the name of a grader, or a mapping.

    Raises:
        RecipeError: it is no YAML.
    """
    try:
        return parse_yaml(text)
    except YamlError as error:
        raise RecipeError(f"{option} {text}: {error}") from None


_CONTROL = re.compile(r"[\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters that json.dumps leaves as they are."""


def json_text(tree: Any) -> str:
    """The JSON that `--json` prints, indented and with Chinese characters unescaped."""
    # JSON may contain these characters as they are; a terminal would act on them.
    text = json.dumps(tree, ensure_ascii=False, indent=1)
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
