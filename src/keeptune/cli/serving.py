"""The verbs `serve` and `studio`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from keeptune.errors import RunError

_EXTRA = ("fastapi", "starlette", "uvicorn", "prometheus_client")
"""The packages of the extra `serve`."""


def serve(
    context: typer.Context,
    target: Annotated[str, typer.Argument(metavar="RUN", help="run directory or adapter folder")],
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="port to listen on; 0: any free one")] = 8000,
    scale: Annotated[
        list[float],
        typer.Option(metavar="NUMBER", help="also serve the tuned change times this, as tuned@NUMBER; repeatable"),
    ] = [],  # noqa: B006  (typer copies it)
    context_tokens: Annotated[
        int | None, typer.Option("--context", min=2, help="maximum tokens of prompt and answer; default: at most 2048")
    ] = None,
    slots: Annotated[int, typer.Option(min=0, help="answers decoded together; 0: as many as the memory allows")] = 0,
    queue: Annotated[int, typer.Option(min=1, help="maximum number of waiting requests")] = 256,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="maximum seconds from a request to the end of its answer")
    ] = 600,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="KEEPTUNE_API_KEY", help="key that clients must send; default: KEEPTUNE_API_KEY, or none"),
    ] = None,
) -> None:
    """Serve base and tuned model of a run over an OpenAI-compatible HTTP interface.

    SIGTERM or Ctrl+C stops the server after the running answers. It needs `pip install 'keeptune[serve]'`.
    """
    with _extra_required("serve"):
        from keeptune.serving.server import ServerSettings
        from keeptune.serving.server import serve as run_server
    settings = ServerSettings(host, port, tuple(scale), context_tokens, slots, queue, timeout, api_key or None)
    run_server(target, settings, context.obj)


def studio(
    context: typer.Context,
    target: Annotated[Path, typer.Argument(metavar="RUN_OR_FOLDER", help="run directory, or folder of runs")] = Path(
        "runs"
    ),
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="port to listen on; 0: any free one")] = 8010,
    recipe: Annotated[list[Path], typer.Option(metavar="FILE", help="recipe that the page may start; repeatable")] = [],  # noqa: B006  (typer copies it)
    read_only: Annotated[
        bool, typer.Option("--read-only", help="runs cannot be started, resumed or stopped from the page")
    ] = False,
    context_tokens: Annotated[
        int | None, typer.Option("--context", min=2, help="maximum tokens of prompt and answer; default: at most 2048")
    ] = None,
) -> None:
    """Open a local page on runs: progress, report, every answer, comparisons, and a playground for base and tuned.

    Open the address that it prints. Ctrl+C stops it, and the runs that were started from it. It needs
    `pip install 'keeptune[serve]'`.
    """
    with _extra_required("studio"):
        from keeptune.serving.studio.server import StudioSettings, run_studio
    run_studio(target, StudioSettings(host, port, tuple(recipe), read_only, context_tokens), context.obj)


@contextmanager
def _extra_required(verb: str) -> Iterator[None]:
    """Raises RunError if a package of the extra `serve` is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in _EXTRA:
            raise
        raise RunError(
            f"keeptune {verb} needs a package that is missing ({error.name}): pip install 'keeptune[serve]'"
        ) from None
