"""Base class of the recipe's sections, and field types that several sections share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from keeptune.config.ability_names import check_names


class Section(BaseModel):
    """A section of the recipe. It rejects unknown keys and is immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


StringTuple = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
"""A list of strings. A single string stands for a list with one element."""


def _checked_names(names: tuple[str, ...]) -> tuple[str, ...]:
    check_names(names)
    return names


AbilityNames = Annotated[StringTuple, AfterValidator(_checked_names)]
"""Names of abilities of the retention suite, or `all`."""


def raise_errors(messages: Iterable[str]) -> None:
    """Raises one ValueError with all messages, if there are any."""
    if text := "; ".join(messages):
        raise ValueError(text)
