"""One job in one run directory, stage by stage.

Every stage leaves a file that marks it as complete. Running the same recipe into the same directory skips complete
stages and continues the others. A stage reads the files of the stages before it, so each can be run on its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Self

from keeptune.config import recipe as recipes
from keeptune.config.recipe import Recipe
from keeptune.data.workers import WorkerConfig
from keeptune.errors import RunError
from keeptune.files import is_vacant, write_text
from keeptune.generation.distributed import answer_together
from keeptune.pipeline.context import RunContext
from keeptune.pipeline.data_stage import run_data_stage
from keeptune.pipeline.evaluation_stage import run_evaluation_stage, tuned_generator
from keeptune.pipeline.input_files import check_input_files
from keeptune.pipeline.preflight import check_dependencies, check_inputs
from keeptune.pipeline.report_stage import run_report_stage
from keeptune.pipeline.run_lock import run_lock
from keeptune.pipeline.selection_stage import run_selection_stage
from keeptune.pipeline.training_stage import TrainingObserver, run_training_stage
from keeptune.progress import Reporter
from keeptune.run_files.directory import RunDirectory
from keeptune.training.batches import TokenizedExample
from keeptune.training.distributed import distributed_context


class Run:
    """A run directory with its recipe. `Run.create` starts or resumes a run, `Run.open` opens an existing one."""

    def __init__(self, context: RunContext, observers: Sequence[TrainingObserver] = ()) -> None:
        self.context, self.observers = context, observers

    @classmethod
    def create(
        cls,
        folder: Path,
        recipe: Recipe,
        reporter: Reporter | None = None,
        workers: WorkerConfig = WorkerConfig(),  # noqa: B008  (frozen)
        observers: Sequence[TrainingObserver] = (),
    ) -> Self:
        """A new run in `folder`, or the existing one.

        Raises:
            RunError: when `folder` holds a run of another recipe or of other input files, or no run.
            RecipeError, DataError, ModelError: when a dependency or an input is missing (see preflight.py).
        """
        directory = RunDirectory(folder)
        if recipes.predates_suite(directory.recipe):
            recipe = recipes.without_suite(recipe)
        check_dependencies(directory, recipe)
        distributed_context().run_on_main(lambda: _claim(directory, recipe))
        return cls(RunContext(directory, recipe, reporter, workers), observers)

    @classmethod
    def open(cls, folder: Path, reporter: Reporter | None = None) -> Self:
        """The run in `folder`.

        Raises:
            RunError: when there is none.
        """
        directory = RunDirectory(folder)
        if not directory.is_run:
            raise RunError(f"{folder}: no recipe.yaml, so this is no run directory; start one with `keeptune run`")
        return cls(RunContext(directory, recipes.load_stored(directory.recipe), reporter))

    @property
    def directory(self) -> RunDirectory:
        """The files of the run."""
        return self.context.directory

    @property
    def recipe(self) -> Recipe:
        """The complete recipe."""
        return self.context.recipe

    def all(self) -> dict[str, Any] | None:
        """Runs every stage that is not complete and returns the result; None on worker processes."""
        self.data()
        self.train()
        processes = self.context.processes
        answer_together(processes, lambda: tuned_generator(self.context), self.evaluate)
        return self.report() if processes.is_main else None

    def data(self) -> None:
        """The data stage."""
        run_data_stage(self.context)

    def train(self) -> None:
        """The training stage, with the data stage before it where needed."""
        # The first process decides for all: on a shared disk another may not see the file yet, and would wait alone.
        if self.context.processes.all_gather(self.directory.has_trained)[0]:
            return
        self.data()
        run_training_stage(self.context, self.observers)

    def select(self) -> None:
        """The selection stage, with the stages before it where needed."""
        if self.directory.has_adapter:
            return
        if not self.directory.has_trained:  # worker processes serve generation and never come here
            self.train()
        run_selection_stage(self.context)

    def evaluate(self) -> None:
        """The evaluation stage, with the stages before it where needed."""
        self.select()
        if self.context.final.complete():
            return
        run_evaluation_stage(self.context)

    def report(self) -> dict[str, Any]:
        """The report stage; returns the content of result.json. It always runs again."""
        self.evaluate()
        return run_report_stage(self.context)

    def examples(self) -> list[TokenizedExample]:
        """The training rows of the data stage as tokens, labeled on their solutions."""
        return self.context.examples()


def run(recipe: Recipe, folder: str | Path, reporter: Reporter | None = None) -> dict[str, Any]:
    """Runs all stages of a recipe in `folder`, or resumes the run there, and returns the content of result.json.

    Raises:
        KeeptuneError: a subclass for each cause; `exit_code` is the exit code of the command line.
    """
    result = Run.create(Path(folder), recipe, reporter).all()
    if result is None:
        raise RunError("this process is a worker of a distributed run; only the first process has the result")
    return result


def _claim(directory: RunDirectory, recipe: Recipe) -> None:
    """Stores the recipe in a new run directory, or checks that the existing run has the same one."""
    folder = directory.root
    # Until the data stage is complete the recipe may change: an impossible quota should not cost a new directory.
    if directory.has_data and directory.is_run:
        # Compared as objects: a stored recipe of an older version has fewer keys.
        if recipes.load_stored(directory.recipe) != recipe:
            raise RunError(
                f"{folder}: holds a run of another recipe; choose another directory with --run, or delete this one"
            )
        check_input_files(directory, recipe)
        return
    if not directory.is_run and not is_vacant(folder):
        raise RunError(f"{folder}: holds files that are no run; choose an empty or a new directory with --run")
    check_inputs(recipe)
    with run_lock(folder) if directory.is_run else nullcontext():
        write_text(directory.recipe, recipes.dump(recipe))
