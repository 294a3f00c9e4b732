"""What would stop a run, asked before it begins: hours of preparing and training should not end in a missing file."""

from __future__ import annotations

from pathlib import Path

from keeptune.config.recipe import Recipe
from keeptune.config.retain import SELF
from keeptune.evaluation import harness
from keeptune.generation import vllm as vllm_engine
from keeptune.models import backend
from keeptune.models.adapter import stored_config
from keeptune.pipeline.evaluation_stage import FinalScores
from keeptune.progress import Silent
from keeptune.training.replay import practice


def require_tools(folder: Path, recipe: Recipe) -> None:
    """Nothing, where all is there that every stage of the run in `folder` needs, also of one that goes on.

    errors: RecipeError when something that it asks for is not installed; DataError when the reading questions cannot
    be read, or are too few for all that they are to decide.
    """
    if recipe.score.tasks:
        harness.require_installed()
    if recipe.engine == "mindspore":
        backend.mindspore().require_installed()
    vllm_engine.require_installed()
    FinalScores(folder, recipe, Silent()).reading()


def require_sources(recipe: Recipe) -> None:
    """Nothing, where all is there that a new run trains from besides its rows.

    errors: ModelError when there is no adapter to go on from, DataError when what is to be practised beside the skill
    cannot be read.
    """
    if recipe.adapter.start:
        stored_config(Path(recipe.adapter.start))
    if recipe.retain.replay_share:
        for source in recipe.retain.replay:
            if source != SELF:
                practice(source)
