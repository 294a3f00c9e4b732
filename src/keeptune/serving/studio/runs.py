"""The run directories that the studio shows, and what it says about each in the list of runs."""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Literal

from keeptune.errors import KeeptuneError, RunError
from keeptune.files import Record, read_json
from keeptune.pipeline.run_lock import is_locked
from keeptune.run_files.directory import RunDirectory
from keeptune.run_files.result import Result
from keeptune.serving.api_error import ApiError

Stage = Literal["data", "train", "select", "evaluate", "finished"]

DEPTHS = ("recipe.yaml", "*/recipe.yaml", "*/*/recipe.yaml")
"""Where runs are looked for: the folder itself, its folders, and theirs (the trials of a sweep)."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A run directory, or a folder of run directories. Requests reach files only through the runs found here.

    Attributes:
        root: the folder, absolute and without symbolic links.
    """

    root: Path

    @classmethod
    def open(cls, folder: Path) -> RunFolder:
        """The folder of runs, which may still be empty.

        Raises:
            RunError: there is no such folder.
        """
        if not folder.is_dir():
            raise RunError(f"{folder}: no such folder; give a run directory, or a folder of runs such as runs/")
        return cls(folder.resolve())

    @property
    def is_single_run(self) -> bool:
        """Whether the folder is a run directory itself."""
        return RunDirectory(self.root).is_run

    def runs(self) -> dict[str, RunDirectory]:
        """The runs by their id: the path below the folder, or the name of the folder if it is a run itself.

        A link that leads out of the folder is no run.
        """
        if self.is_single_run:
            return {self.root.name: RunDirectory(self.root)}
        folders = sorted({path.parent for depth in DEPTHS for path in self.root.glob(depth)})
        inside = [folder for folder in folders if folder.resolve().is_relative_to(self.root)]
        return {folder.relative_to(self.root).as_posix(): RunDirectory(folder) for folder in inside}

    def require(self, run: str) -> RunDirectory:
        """The run with this id.

        Raises:
            ApiError: there is none. The id is compared with those of all runs, and never used as a path.
        """
        runs = self.runs()
        if run in runs:
            return runs[run]
        near = difflib.get_close_matches(run, runs, n=1, cutoff=0.6)
        advice = f"did you mean {near[0]}?" if near else "reload the list of runs"
        raise ApiError(404, f"there is no run {run!r:.80}; {advice}", code="run_not_found", param="run")


def contained(directory: RunDirectory, path: Path) -> Path:
    """The path of a file of a run.

    Raises:
        ApiError: the file does not exist, or a link leads out of the run directory.
    """
    if not path.is_file() or not path.resolve().is_relative_to(directory.root.resolve()):
        raise ApiError(404, f"{directory.relative(path)}: the run has no such file yet", code="file_not_found")
    return path


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One line of the list of runs.

    Attributes:
        stage: the stage that comes next, or that runs.
        is_running: whether a process works in the directory.
        changed: the time of the result, or else of the last change, in ISO 8601.
        problem: why the result cannot be read; None if it can, or if there is none.
        verdict, model, skill_base, skill_tuned, skill_n: figures of the result; None without one.
        has_report: whether there is a page to open.
    """

    id: str
    name: str
    stage: Stage
    is_running: bool
    changed: str
    problem: str | None = None
    verdict: str | None = None
    model: str | None = None
    skill_base: float | None = None
    skill_tuned: float | None = None
    skill_n: int | None = None
    has_adapter: bool = False
    has_report: bool = False


def read_result(directory: RunDirectory) -> Result:
    """The result of a finished run. It is read again only when the file has changed.

    Raises:
        RunError: the file is damaged.
    """
    path = contained(directory, directory.result)
    state = path.stat()
    return _read_result(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=256)
def _read_result(path: Path, _time: int, _size: int) -> Result:
    return Result.model_validate(read_json(path, Result))


def summarize(run: str, directory: RunDirectory) -> Record:
    """The summary of a run as a JSON object."""
    return asdict(_summary(run, directory))


def next_stage(directory: RunDirectory) -> Stage:
    """The stage that a run is in, from the files that its stages leave."""
    if directory.result.is_file():
        return "finished"
    if directory.has_adapter:
        return "evaluate"
    if directory.has_trained:
        return "select"
    return "train" if directory.has_data else "data"


def _summary(run: str, directory: RunDirectory) -> RunSummary:
    stage, is_running = next_stage(directory), is_locked(directory.root)
    changed = datetime.fromtimestamp(_last_change(directory), UTC).isoformat(timespec="seconds")
    name, has_report = directory.root.name, directory.report_html.is_file()
    if stage != "finished":
        return RunSummary(run, name, stage, is_running, changed, has_adapter=directory.has_adapter)
    try:
        result = read_result(directory)
    except (KeeptuneError, ApiError) as error:
        return RunSummary(run, name, stage, is_running, changed, str(error), has_report=has_report)
    base, tuned = result.skill.base, result.skill.tuned
    return RunSummary(
        run,
        result.name,
        stage,
        is_running,
        result.finished,
        verdict=result.gate.verdict,
        model=result.model,
        skill_base=base.accuracy,
        skill_tuned=tuned.accuracy,
        skill_n=tuned.n,
        has_adapter=directory.has_adapter,
        has_report=has_report,
    )


def _last_change(directory: RunDirectory) -> float:
    """The time of the last change of the log, or of the recipe before there is one."""
    path = directory.event_log if directory.event_log.is_file() else directory.recipe
    try:
        return path.stat().st_mtime
    except OSError:  # the run was deleted meanwhile
        return 0.0
