"""What all sections of a recipe have in common."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of the recipe: no key that it does not know, no change after it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


AnySection = TypeVar("AnySection", bound=Section)


def or_refuse(section: AnySection, faults: list[str]) -> AnySection:
    """The section. errors: ValueError that lists all faults, where there are any."""
    if faults:
        raise ValueError("; ".join(faults))
    return section


def one_or_several(given: Any) -> Any:
    """A list, where one text alone was given."""
    return (given,) if isinstance(given, str) else given
