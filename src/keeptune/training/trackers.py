"""Live metrics of a training in TensorBoard or another tracker that Accelerate supports.

log.jsonl remains the record of a run; a tracker only displays the same metrics. So a tracker that fails, for lack of a
network or of disk space, is reported and disabled, and training continues.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keeptune.errors import RecipeError


class Trackers:
    """The trackers of one training. They start with the first metrics."""

    def __init__(self, names: Sequence[str], folder: Path, run_name: str, report: Callable[[str], None]) -> None:
        """Checks that the trackers are installed.

        Args:
            names: the names that Accelerate gives to the trackers.
            folder: where trackers write their files.
            run_name: the name of the run in each tracker.
            report: called with a message when a tracker fails.

        Raises:
            RecipeError: if the package of a tracker is not installed.
        """
        self.folder, self.run_name, self.report = folder, run_name, report
        self.pending = list(names)
        self.started: dict[str, Any] = {}
        if names:
            _require_installed(names)

    def log(self, event: str, step: int, metrics: Mapping[str, Any]) -> None:
        """Logs the metrics of a step as `event/name`, nested ones as `event/mapping/name`."""
        for name in self.pending:
            with self._disabled_on_failure(name):
                self.started[name] = self._start(name, step)
        self.pending = []
        for name, tracker in list(self.started.items()):
            with self._disabled_on_failure(name):
                tracker.log(dict(_flatten(event, metrics)), step=step)

    def finish(self) -> None:
        """Lets every tracker write its buffered metrics."""
        for name, tracker in list(self.started.items()):
            with self._disabled_on_failure(name):
                tracker.finish()
        self.started = {}

    def _start(self, name: str, step: int) -> Any:
        from accelerate.state import PartialState
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        PartialState()  # Accelerate's trackers require it.
        options: dict[str, Any] = {}
        # A resumed training repeats the steps after its checkpoint, so their old metrics are dropped.
        if name == "tensorboard":
            options["purge_step"] = step
        tracker_class = LOGGER_TYPE_TO_CLASS[name]
        if tracker_class.requires_logging_directory:
            options["logging_dir"] = self.folder
        tracker = tracker_class(self.run_name, **options)
        tracker.start()
        return tracker

    @contextmanager
    def _disabled_on_failure(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # third-party clients raise errors of any class
            self.started.pop(name, None)
            self.report(f"tracker {name} failed ({error}) and is disabled; log.jsonl holds all metrics")


def _require_installed(names: Sequence[str]) -> None:
    from accelerate.tracking import get_available_trackers

    available = [str(name) for name in get_available_trackers()]
    for name in names:
        if name not in available:
            raise RecipeError(
                f"train.trackers: the package of {name} is not installed; install it, or remove {name} "
                "(`--set train.trackers=[]` for none)"
            )


def _flatten(path: str, metrics: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            yield from _flatten(f"{path}/{name}", value)
        else:
            yield f"{path}/{name}", value
