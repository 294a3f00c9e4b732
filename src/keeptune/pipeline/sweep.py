"""Sweeps: trials of one recipe with different settings, and the Pareto front of their results.

A sweep maximizes skill and reading and minimizes trainable parameters, so its result is a front instead of one winner.
Each trial is an ordinary run in its own directory, evaluated on dev questions only; test questions are left for the
selected recipe. Optuna proposes the settings, and a sweep resumes from its journal. A trial whose dev scores
fall below the median of the others in skill and in reading is pruned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from keeptune.config import recipe as recipes
from keeptune.config.recipe import Recipe
from keeptune.config.search_space import Categorical, Dimension, settings
from keeptune.errors import Interrupted, KeeptuneError, RecipeError, RunError
from keeptune.event_log import EventLog
from keeptune.files import Record, is_vacant, read_json, write_json, write_text
from keeptune.pipeline.run import Run
from keeptune.pipeline.run_lock import run_lock
from keeptune.progress import Reporter, SilentReporter, printable
from keeptune.report.sweep import page
from keeptune.run_files.directory import RunDirectory
from keeptune.run_files.manifest import Manifest
from keeptune.run_files.result import Chosen
from keeptune.training.loop import StepRecord

Point = tuple[float, float]
"""Skill accuracy and mean of F1 and EM, on dev."""

MIN_OTHER_TRIALS = 3
"""The number of other trials with a score after as many evaluations that pruning requires."""

SCORE_AT_END = 1_000_000_000
"""`train.score_every_steps` of trials whose recipe has no dev scores during training: they are scored at the end."""


class TrialPrunedError(Exception):
    """A trial was pruned."""


class Pruner:
    """Stops a trial whose dev scores are below the median of the other trials, in skill and in reading.

    `others` returns the scores of the other trials after the same number of evaluations.
    """

    def __init__(self, events: EventLog, others: Callable[[int], Sequence[Point]]) -> None:
        self.events, self.others, self._is_pruned = events, others, False

    def on_dev_scores(self, step: int, scores: Record) -> None:  # noqa: ARG002
        """Compares the trial with the others."""
        self._is_pruned = is_below_median(_point(scores), self.others(len(_points(self.events))))

    def on_step(self, step: StepRecord) -> None:  # noqa: ARG002
        """Raises TrialPrunedError one step after the score, because the score is in the log by then."""
        if self._is_pruned:
            raise TrialPrunedError


def is_below_median(scores: Point, others: Sequence[Point]) -> bool:
    """Whether a trial is below the median of the others in skill and in reading."""
    if len(others) < MIN_OTHER_TRIALS:
        return False
    return all(value < median(rivals) for value, rivals in zip(scores, zip(*others, strict=True), strict=True))


def sweep(
    path: Path,
    overrides: tuple[str, ...],
    varied: tuple[Dimension, ...],
    trials: int,
    folder: Path,
    reporter: Reporter | None = None,
) -> Record:
    """The content of sweep.json once the sweep has `trials` trials: settings and scores, the front, the best trial.

    Raises:
        RecipeError: before any trial, when a value is not allowed in the recipe.
        RunError: when the folder holds another sweep, or no trial completed.
        Interrupted: on SIGINT or SIGTERM; the same command resumes.
    """
    reporter = reporter or SilentReporter()
    recipe = _checked(path, overrides, varied)
    _claim(folder, recipe, [str(vary) for vary in varied])
    with run_lock(folder):
        study = _study(folder)
        while True:
            existing = study.get_trials(deepcopy=False)
            unfinished = [(trial.number, trial.params) for trial in existing if not trial.state.is_finished()]
            if len(existing) - len(unfinished) >= trials:
                break
            number, sampled = unfinished[0] if unfinished else _propose(study, varied, recipe.seed)
            chosen = settings(varied, sampled)
            reporter.info(f"trial {number + 1} of {trials}: {' '.join(chosen)}")
            _run_trial(study, number, folder, partial(_recipe, path, overrides, chosen), reporter)
        summary = _summary(study, folder, varied, recipe.gate.threshold)
        write_json(folder / "sweep.json", summary)
        write_text(folder / "sweep.html", printable(page(summary)))
        return summary


def text(summary: Record) -> str:
    """The trials as a table; those on the front are marked."""
    lines = ["        dev     kept   trained       settings"]
    for trial in summary["trials"]:
        mark = "best" if trial["number"] == summary["best"] else "front" if trial["number"] in summary["front"] else ""
        if trial["state"] == "complete":
            figures = f"{trial['accuracy']:6.1%}  {trial['kept']:6.1%}  {trial['trainable']:11,}"
        else:
            figures = f"{trial['state']:27}"
        lines.append(f"{mark:6}{figures}   {trial['run']}  {' '.join(trial['settings'])}")
    if summary["best"] is None:
        lines.append(f"no trial retained {summary['threshold']:.0%} of the base's reading score on dev")
    else:
        best = next(trial["run"] for trial in summary["trials"] if trial["number"] == summary["best"])
        lines.append(f"test the best, and write its report: keeptune report {best}")
    return "\n".join(lines)


def _checked(path: Path, overrides: tuple[str, ...], varied: tuple[Dimension, ...]) -> Recipe:
    """The recipe that all trials share. Every value of `varied` is checked in it first."""
    keys = [vary.key for vary in varied]
    if not keys or len(set(keys)) < len(keys):
        raise RecipeError("give at least one --vary, and each key once")
    for vary in varied:
        for value in vary.bounds:
            recipes.load(path, (*overrides, f"{vary.key}={value}"))
    recipe = recipes.load(path, overrides)
    if not recipe.data.split.dev or not recipe.score.dev_limit:
        raise RecipeError(f"{path}: trials are judged on dev; set data.split.dev and score.dev_limit above 0")
    return recipe


def _recipe(path: Path, overrides: tuple[str, ...], chosen: tuple[str, ...]) -> Recipe:
    recipe = recipes.load(path, (*overrides, *chosen))
    if recipe.train.score_every_steps:
        return recipe
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"score_every_steps": SCORE_AT_END})})


def _claim(folder: Path, recipe: Recipe, varied: list[str]) -> None:
    """Stores the sweep's recipe and values in its folder. Raises RunError if it holds another sweep or other files."""
    stored, values = RunDirectory(folder).recipe, folder / "varied.json"
    if stored.is_file() and values.is_file():
        # Compared as objects: a stored recipe of an older version has fewer keys.
        if recipes.load(stored, is_stored=True) != recipe or read_json(values) != {"varied": varied}:
            raise RunError(
                f"{folder}: holds a sweep of another recipe or other values; choose another directory with --run"
            )
        return
    if not stored.is_file() and not is_vacant(folder):
        raise RunError(f"{folder}: holds files that are no sweep; choose an empty or a new directory with --run")
    write_text(stored, recipes.dump(recipe))
    write_json(values, {"varied": varied})


def _study(folder: Path) -> Any:
    try:
        import optuna
        from optuna.storages.journal import JournalFileBackend
    except ModuleNotFoundError:
        raise RecipeError("a sweep needs Optuna; install it with pip install 'keeptune[sweep]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        study_name="sweep",
        storage=optuna.storages.JournalStorage(JournalFileBackend(str(folder / "trials.log"))),
        directions=["maximize", "maximize", "minimize"],
        load_if_exists=True,
    )


def _propose(study: Any, varied: tuple[Dimension, ...], seed: int) -> tuple[int, dict[str, Any]]:
    """The number of a new trial and its sampled values."""
    from optuna.samplers import TPESampler

    # A sampler for each trial: one for all would repeat its first draws when a sweep is resumed.
    study.sampler = TPESampler(seed=seed + len(study.get_trials(deepcopy=False)))
    trial = study.ask({vary.key: _distribution(vary) for vary in varied})
    return trial.number, trial.params


def _distribution(vary: Dimension) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(vary, Categorical):
        return CategoricalDistribution(vary.values)
    if vary.is_integer:
        return IntDistribution(round(vary.low), round(vary.high), log=vary.is_logarithmic)
    return FloatDistribution(vary.low, vary.high, log=vary.is_logarithmic)


def _run_trial(study: Any, number: int, folder: Path, load: Callable[[], Recipe], reporter: Reporter) -> None:
    """Runs a trial and reports its end to the study; values that exclude each other count as a failure."""
    from optuna.trial import TrialState

    trial_folder = _folder(folder, number)
    try:
        pruner = Pruner(EventLog(RunDirectory(trial_folder).event_log), _scores_of_others(folder, number))
        Run.create(trial_folder, load(), reporter, observers=[pruner]).select()
    except TrialPrunedError:
        reporter.info("pruned: below the median of the other trials in skill and in reading")
        study.tell(number, state=TrialState.PRUNED)
    except Interrupted:
        raise
    except KeeptuneError as error:
        reporter.info(f"failed: {error}")
        write_text(trial_folder / "failed.txt", f"{error}\n")
        study.tell(number, state=TrialState.FAIL)
    else:
        scores = _scores(trial_folder)
        study.tell(number, [scores["accuracy"], scores["kept"], scores["trainable"]])


def _scores(folder: Path) -> Record:
    """The dev scores of a trial's selected checkpoint, and the size of its adapter."""
    directory = RunDirectory(folder)
    chosen = read_json(directory.chosen, Chosen)
    selected = (chosen["checkpoint"], chosen["scale"])
    candidate = next(c for c in chosen["candidates"] if (c["checkpoint"], c["scale"]) == selected)
    trainable = read_json(directory.manifest, Manifest)["parameters"]["trainable"]
    return {"accuracy": candidate["accuracy"], "kept": candidate["kept"], "trainable": trainable}


def _summary(study: Any, folder: Path, varied: tuple[Dimension, ...], threshold: float) -> Record:
    trials = []
    for trial in study.get_trials(deepcopy=False):
        run = _folder(folder, trial.number)
        record: Record = {"number": trial.number, "run": str(run), "settings": settings(varied, trial.params)}
        record["state"] = {"COMPLETE": "complete", "PRUNED": "given up"}.get(trial.state.name, "failed")
        trials.append({**record, **(_scores(run) if record["state"] == "complete" else {})})
    front = [trial.number for trial in study.best_trials]
    if not front:
        raise RunError(f"{folder}: no trial completed; see failed.txt in their directories")
    passing = [trial for trial in trials if trial["number"] in front and trial["kept"] >= threshold]
    best = max(passing, key=lambda trial: (trial["accuracy"], -trial["trainable"]), default=None)
    return {"trials": trials, "front": front, "best": best and best["number"], "threshold": threshold}


def _scores_of_others(folder: Path, number: int) -> Callable[[int], list[Point]]:
    """A function from an evaluation's index to the scores of the earlier trials at that index."""

    def at(place: int) -> list[Point]:
        before = [_points(EventLog(RunDirectory(_folder(folder, other)).event_log)) for other in range(number)]
        return [points[place] for points in before if place < len(points)]

    return at


def _points(event_log: EventLog) -> list[Point]:
    return [_point(event) for event in event_log.events() if event["event"] == "score"]


def _point(scores: Record) -> Point:
    return scores["skill"]["accuracy"], (scores["retained"]["f1"] + scores["retained"]["em"]) / 2


def _folder(folder: Path, number: int) -> Path:
    return folder / f"trial-{number + 1}"
