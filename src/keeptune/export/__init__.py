"""Tuned models in the formats of other programs. The package is callable: `keeptune.export(target, form, out)`.

Python sets the attribute `export` of `keeptune` to this package when one of its modules is imported first. Without
being callable, the package would then hide the function `exporter.export`, so that `keeptune.export(...)` worked once.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from keeptune.export.exporter import Form
    from keeptune.export.gguf.model_file import GgufType


class _CallablePackage(ModuleType):
    """A package that is also a function."""

    def __call__(self, target: str | Path, form: Form, out: Path, gguf_type: GgufType = "f16") -> list[str]:
        """Calls `exporter.export`, which lists the arguments and errors."""
        from keeptune.export.exporter import export

        return export(target, form, out, gguf_type)


sys.modules[__name__].__class__ = _CallablePackage
