"""keeptune fine-tunes an open language model for one job and measures whether it still does all the others.

The public API. Each name is imported on first use, so that `import keeptune` loads no torch.

>>> import keeptune
>>> recipe = keeptune.load_recipe("recipes/quickstart.yaml")  # doctest: +SKIP
>>> result = keeptune.run(recipe, "runs/quickstart")  # doctest: +SKIP
>>> verdict = keeptune.gate("smollm2-135m", "runs/quickstart")  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keeptune.config.recipe import load_recipe as load_recipe
    from keeptune.export.exporter import export as export
    from keeptune.pipeline.evaluate_files import evaluate as evaluate
    from keeptune.pipeline.gate_job import gate_models as gate
    from keeptune.pipeline.run import Run as Run
    from keeptune.pipeline.run import run as run

    __version__: str

_HOMES: dict[str, tuple[str, str | None]] = {
    "Run": ("keeptune.pipeline.run", "Run"),
    "evaluate": ("keeptune.pipeline.evaluate_files", "evaluate"),
    "export": ("keeptune.export", None),
    "gate": ("keeptune.pipeline.gate_job", "gate_models"),
    "load_recipe": ("keeptune.config.recipe", "load_recipe"),
    "run": ("keeptune.pipeline.run", "run"),
}

__all__ = ["Run", "__version__", "evaluate", "export", "gate", "load_recipe", "run"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("keeptune")
    if name not in _HOMES:
        raise AttributeError(f"module 'keeptune' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    loaded = import_module(module)
    return getattr(loaded, attribute) if attribute else loaded


def __dir__() -> list[str]:
    return sorted(__all__)
