"""The entry point `mindspore` in the group `keeptune.backends`. Each method imports only the modules that it uses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keeptune.config.recipe import Recipe


class MindSpore:
    """Implements keeptune.models.backend.Backend."""

    def require_installed(self) -> None:
        from keeptune.mindspore.workers import python_with_mindspore

        python_with_mindspore()

    def unpack(self, checkpoint: Path, cache_folder: Path) -> Path:
        from keeptune.mindspore.base_model import unpack_base_model

        return unpack_base_model(checkpoint, cache_folder)

    def step_engine(self, recipe: Recipe, model: Any, examples: Sequence[Any], folder: Path) -> Any:
        from keeptune.mindspore.step_engine import MindSporeEngine, require_supported

        require_supported(model, recipe)
        return MindSporeEngine(model, examples, recipe.train, folder)

    def export(self, target: Path, adapter: Path, form: str, out: Path) -> None:
        from keeptune.mindspore.export import export

        export(target, adapter, form, out)
