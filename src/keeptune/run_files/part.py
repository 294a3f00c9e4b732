"""The base of all schemas of stored files, and the figures that they share.

Writers validate strictly: a key that the schema lacks is an error. Readers ignore unknown keys, so that they accept
files of later versions.
"""

from __future__ import annotations

from math import inf, nan
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

Figure = Annotated[float, BeforeValidator(lambda value: nan if value is None else value)]
"""A figure that may not exist: nan here, null in JSON."""

UpperEnd = Annotated[float, BeforeValidator(lambda value: inf if value is None else value)]
"""The upper end of an interval: infinity here, null in JSON."""


class Part(BaseModel):
    """A stored file, or a part of one."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    @classmethod
    def checked(cls, tree: dict[str, Any]) -> dict[str, Any]:
        """The JSON object `tree`, which is about to be written, after strict validation.

        Raises:
            pydantic.ValidationError: naming each key that is unknown, missing or of another type.
        """
        cls.model_validate(tree, extra="forbid")
        return tree


class Estimate(Part):
    """A value with its 95 % confidence interval. `point` is nan where there is no value."""

    point: Figure
    low95: Figure
    high95: UpperEnd
