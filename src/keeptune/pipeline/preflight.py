"""Preflight checks: they run before any work starts, so that a missing file or package fails in seconds."""

from __future__ import annotations

from pathlib import Path

from keeptune.config.recipe import Recipe
from keeptune.config.retain import WRITTEN
from keeptune.evaluation import harness
from keeptune.generation import vllm
from keeptune.models import backend
from keeptune.models.adapters import load_start_config
from keeptune.pipeline.final_evaluation import FinalEvaluation
from keeptune.pipeline.model_session import ModelSession
from keeptune.progress import SilentReporter
from keeptune.run_files.directory import RunDirectory
from keeptune.training.replay import load_replay_source


def check_dependencies(directory: RunDirectory, recipe: Recipe) -> None:
    """Checks the packages and reading questions that the stages of a new or resumed run need.

    Raises:
        RecipeError: when a package that the recipe requires is not installed, or the command line does not allow code
            that it names.
        ModelError, PromptError: when the recipe asks for a chat prompt that the tokenizer does not have.
        DataError: when the reading questions cannot be read, or are too few.
    """
    if recipe.score.tasks:
        harness.check_installed()
        harness.check_task_files(recipe.score.tasks_path)
    if recipe.engine == "mindspore":
        backend.mindspore().require_installed()
    vllm.check_installed()
    models = ModelSession(recipe.model, SilentReporter())
    models.prompt(recipe.prompt)
    final = FinalEvaluation(directory, recipe, SilentReporter(), models)
    if final.grader:
        final.grader.check_available()
    final.reading()


def check_inputs(recipe: Recipe) -> None:
    """Checks the other inputs of a new run: the start adapter and the replay sources.

    Raises:
        ModelError: when `adapter.start` holds no adapter.
        DataError: when a replay source cannot be read.
    """
    if recipe.adapter.start:
        load_start_config(Path(recipe.adapter.start))
    if recipe.retain.replay_share:
        for source in recipe.retain.replay:
            if source not in WRITTEN:
                load_replay_source(source)
