"""Runs the studio until a signal stops it."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from keeptune.errors import RecipeError
from keeptune.progress import Reporter
from keeptune.serving.guard import LOOPBACK
from keeptune.serving.listener import address_of, listen, run_until_stopped
from keeptune.serving.studio.app import Studio, create_studio
from keeptune.serving.studio.model_host import ModelHost
from keeptune.serving.studio.runs import RunFolder

GRACE_SECONDS = 3
"""The time that running responses have to finish after a stop signal."""

WILDCARDS = ("0.0.0.0", "::")

SLOTS = 4
"""Answers that the playground decodes together: base and tuned, in two windows."""


@dataclass(frozen=True, slots=True)
class StudioSettings:
    """Settings of `keeptune studio`; see its options."""

    host: str = "127.0.0.1"
    port: int = 8010
    recipes: tuple[Path, ...] = ()
    is_read_only: bool = False
    context_tokens: int | None = None

    @property
    def hosts(self) -> Sequence[str] | None:
        """The host names that requests may use; None for all, where the server listens on all addresses."""
        return None if self.host in WILDCARDS else tuple(dict.fromkeys((self.host, *LOOPBACK)))


def open_studio(target: Path, settings: StudioSettings) -> Studio:
    """The studio of a run or a folder of runs.

    Raises:
        RunError: there is no such folder.
        RecipeError: there is no such recipe, or two have the same name.
    """
    folder, recipes = RunFolder.open(target), _recipes(settings.recipes)
    models = ModelHost(settings.context_tokens, SLOTS)
    return Studio(folder, recipes, settings.is_read_only, secrets.token_urlsafe(24), settings.hosts, models)


def _recipes(paths: Sequence[Path]) -> dict[str, Path]:
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise RecipeError(f"--recipe {missing[0]}: no such file")
    names = Counter(path.name for path in paths)
    doubled = [name for name, count in names.items() if count > 1]
    if doubled:
        raise RecipeError(f"--recipe: two files are called {doubled[0]}; rename one")
    return {path.name: path.absolute() for path in paths}


def run_studio(target: Path, settings: StudioSettings, reporter: Reporter) -> None:
    """Serves the page until SIGTERM or SIGINT. Runs that the page has started are stopped with it.

    Raises:
        RunError: the address cannot be used.
        as `open_studio`.
    """
    studio = open_studio(target, settings)
    with listen(settings.host, settings.port) as listener:
        address = address_of(settings.host, listener)
        if settings.host not in LOOPBACK:
            reporter.info("anyone who can reach this address can read the runs; only the token allows more")
        # Behind #, so that no server and no log sees it.
        reporter.info(f"open {address}/#token={studio.token} (Ctrl+C stops)")
        run_until_stopped(create_studio(studio), listener, GRACE_SECONDS)
