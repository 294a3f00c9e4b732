"""The interface of the MindSpore backend for other packages: an entry point, imported on first use.

The entry point is `mindspore` in the group `keeptune.backends` (pyproject.toml). No other package imports
keeptune.mindspore.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

from keeptune.config.recipe import Recipe
from keeptune.errors import RunError

GROUP, NAME = "keeptune.backends", "mindspore"

CHECKPOINT_SUFFIX = ".ckpt"
"""The ending of MindSpore checkpoint files."""

MODULE_ALIASES: dict[str, str] = {
    "q_proj": "wq",
    "k_proj": "wk",
    "v_proj": "wv",
    "o_proj": "wo",
    "gate_proj": "w1",
    "down_proj": "w2",
    "up_proj": "w3",
}
"""MindFormers' names for the linear layers of a Llama block: `adapter.targets` accepts patterns for both."""


class Backend(Protocol):
    """The functions of keeptune.mindspore that packages below it call."""

    def require_installed(self) -> None:
        """Raises RecipeError if no Python with MindSpore is configured."""

    def unpack(self, checkpoint: Path, cache_folder: Path) -> Path:
        """Converts a .ckpt base model to a folder that transformers loads, once, inside `cache_folder`."""

    def step_engine(self, recipe: Recipe, model: Any, examples: Sequence[Any], folder: Path) -> Any:
        """A keeptune.training.step_engine.StepEngine. Raises RecipeError if it cannot train this recipe."""

    def export(self, target: Path, adapter: Path, form: str, out: Path) -> None:
        """Writes the adapter as MindSpore checkpoints, or (`mindformers`) as a folder to continue training from."""


@cache
def mindspore() -> Backend:
    """The backend behind the entry point.

    Raises:
        RunError: if the package's metadata lacks the entry point, as in a source tree that is not installed.
    """
    for point in metadata.entry_points(group=GROUP, name=NAME):
        backend: Backend = point.load()()
        return backend
    raise RunError(f"keeptune is not installed completely: the entry point {GROUP}:{NAME} is missing; run `make setup`")
