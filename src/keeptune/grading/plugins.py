"""Entry points through which other packages add graders and skills."""

from __future__ import annotations

from importlib import metadata
from typing import Any


class PluginError(ValueError):
    """An entry point of another package cannot be loaded."""


def plugin_names(group: str) -> list[str]:
    """Return the names of the entry points of a group, sorted."""
    return sorted({point.name for point in metadata.entry_points(group=group)})


def load_plugin(group: str, name: str) -> Any:
    """Return the object that an entry point names. If two packages use the name, the first on `sys.path` counts.

    Raises:
        PluginError: it cannot be imported.
    """
    point = next(iter(metadata.entry_points(group=group, name=name)))
    try:
        return point.load()
    except Exception as error:  # the import of a foreign package may fail in any way
        package = point.dist.name if point.dist else point.value
        raise PluginError(f"{name!r} of the package {package} ({point.value}) cannot be loaded: {error!r}") from error
