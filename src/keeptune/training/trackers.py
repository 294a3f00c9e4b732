"""A training shown while it runs, by TensorBoard or another of the trackers that Accelerate knows.

log.jsonl stays the record of a run; a tracker only shows the same figures to people who look on. So a tracker that
fails on the way, for want of a network or of space, is told of and left out, and the training goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keeptune.errors import RecipeError


class Trackers:
    """The trackers of one training, which start with the first figures they get."""

    def __init__(self, names: Sequence[str], folder: Path, run_name: str, tell: Callable[[str], None]) -> None:
        """errors: RecipeError when the package of one is not installed."""
        self.folder, self.run_name, self.tell = folder, run_name, tell
        self.waiting = list(names)
        self.started: dict[str, Any] = {}
        if names:
            _require(names)

    def log(self, event: str, step: int, figures: Mapping[str, Any]) -> None:
        """Shows the figures of a step; those in a mapping as `event/mapping/name`."""
        for name in self.waiting:
            with self._left_out_if_it_fails(name):
                self.started[name] = self._start(name, step)
        self.waiting = []
        for name, tracker in list(self.started.items()):
            with self._left_out_if_it_fails(name):
                tracker.log(dict(_flat(event, figures)), step=step)

    def finish(self) -> None:
        """Lets every tracker write what it still holds."""
        for name, tracker in list(self.started.items()):
            with self._left_out_if_it_fails(name):
                tracker.finish()
        self.started = {}

    def _start(self, name: str, step: int) -> Any:
        from accelerate.state import PartialState
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        PartialState()  # its trackers refuse to log without one
        options: dict[str, Any] = {}
        # What an interrupted training had shown of later steps will happen again.
        if name == "tensorboard":
            options["purge_step"] = step
        kind = LOGGER_TYPE_TO_CLASS[name]
        if kind.requires_logging_directory:
            options["logging_dir"] = self.folder
        tracker = kind(self.run_name, **options)
        tracker.start()
        return tracker

    @contextmanager
    def _left_out_if_it_fails(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever a third party's client may raise
            self.started.pop(name, None)
            self.tell(f"tracker {name} failed and is left out from here on ({error}); log.jsonl holds all figures")


def _require(names: Sequence[str]) -> None:
    from accelerate.tracking import get_available_trackers

    there = [str(name) for name in get_available_trackers()]
    for name in names:
        if name not in there:
            raise RecipeError(
                f"train.trackers: the package of {name} is not installed; install it, or take {name} out "
                "(`--set train.trackers=[]` for none)"
            )


def _flat(path: str, figures: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{path}/{name}", value)
        else:
            yield f"{path}/{name}", value
