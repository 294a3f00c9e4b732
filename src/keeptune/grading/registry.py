"""The graders by name: those of keeptune, and those of other packages (entry points `keeptune.graders`)."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Annotated, Any, TypeGuard

from pydantic import BeforeValidator, PlainSerializer, ValidationError, WithJsonSchema

from keeptune.grading.base import Grader, GraderError, suggest
from keeptune.grading.plugins import PluginError, load_plugin, plugin_names

ENTRY_POINTS = "keeptune.graders"
"""The group of entry points. Each one names a subclass of `Grader`."""

_MODULE_OF = {
    "number": "number",
    "exact": "text",
    "label": "categorical",
    "choice": "categorical",
    "json": "json_fields",
    "regex": "text",
    "f1": "text",
    "contains": "text",
    "math": "math",
    "rouge": "overlap",
    "chrf": "overlap",
    "sql": "sql",
    "function": "user_function",
    "judge": "judge",
}
"""The module in `grading/graders` of each grader. Modules are imported on first use."""

EMBEDDED_GRADERS = tuple(_MODULE_OF)
"""The names of the graders of keeptune."""


def grader_names() -> list[str]:
    """Return the names of all graders, those of keeptune first."""
    return [*_MODULE_OF, *(name for name in plugin_names(ENTRY_POINTS) if name not in _MODULE_OF)]


def grader_class(name: str) -> type[Grader]:
    """Return the class of a grader.

    Raises:
        GraderError: no grader has this name, or its package cannot be loaded.
    """
    if name in _MODULE_OF:
        module = import_module(f"keeptune.grading.graders.{_MODULE_OF[name]}")
        embedded = (value for value in vars(module).values() if _is_grader(value) and "name" in value.__dict__)
        return next(grader for grader in embedded if grader.name == name)
    if name not in plugin_names(ENTRY_POINTS):
        raise GraderError(f"unknown grader {name!r}; {suggest(name, grader_names())}")
    try:
        loaded = load_plugin(ENTRY_POINTS, name)
    except PluginError as error:
        raise GraderError(str(error)) from None
    if not _is_grader(loaded):
        raise GraderError(f"grader {name!r}: its entry point must name a subclass of keeptune.grading.base.Grader")
    return loaded


def create_grader(setting: Grader | str | Mapping[str, Any]) -> Grader:
    """Return the grader that a name, or a mapping of `name` and options, describes.

    >>> create_grader({"name": "number", "tolerance": 0.5}).grade("3.4", "3").score
    1.0

    Raises:
        GraderError: the name or an option is unknown, or a value is invalid. The message names the option.
    """
    if isinstance(setting, Grader):
        return setting
    options = {"name": setting} if isinstance(setting, str) else setting
    if not isinstance(options, Mapping) or not isinstance(options.get("name"), str):
        raise GraderError(f"must be the name of a grader, or a mapping with `name`; {suggest('', grader_names())}")
    grader = grader_class(options["name"])
    try:
        return grader.model_validate({key: value for key, value in options.items() if key != "name"})
    except ValidationError as error:
        faults = [_describe_fault(fault, grader) for fault in error.errors()]
        raise GraderError(f"grader {options['name']}: {'; '.join(faults)}") from None


def option_names(grader: type[Grader]) -> list[str]:
    """Return the names of the options of a grader, as a recipe writes them."""
    return [field.alias or name for name, field in grader.model_fields.items()]


AnyGrader = Annotated[
    Grader,
    BeforeValidator(create_grader),
    PlainSerializer(lambda grader: grader.describe(), return_type=dict[str, Any]),
    WithJsonSchema({"type": ["string", "object"]}),
]
"""A field of a pydantic model that holds a grader, written as its name or as a mapping of `name` and options."""


def _is_grader(value: object) -> TypeGuard[type[Grader]]:
    return isinstance(value, type) and issubclass(value, Grader)


def _describe_fault(fault: Any, grader: type[Grader]) -> str:
    key = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"unknown option {key!r}; {suggest(key, option_names(grader))}"
    if fault["type"] == "missing":
        return f"{key} is required"
    message = fault["msg"].removeprefix("Value error, ")
    return f"{key}: {message[:1].lower()}{message[1:]}" if key else message
