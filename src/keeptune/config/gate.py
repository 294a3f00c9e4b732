"""The section `gate` of a recipe: the limits of the retention gate."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from keeptune.config.ability_names import check_names
from keeptune.config.section import AbilityNames, Section

MAX_RESAMPLES = 1_000_000

Share = Annotated[float, Field(gt=0, le=1)]
Nats = Annotated[float, Field(ge=0, le=10**6)]


class GateSection(Section):
    """The retention gate: the abilities that count, and the loss that is acceptable for each.

    `gate: contest` is short for `gate: {policy: contest}`.
    """

    policy: Literal["suite", "contest"] = Field(
        "suite",
        description="`suite`: every counted ability of the retention suite decides; `contest`: SQuAD F1 and EM alone "
        "decide, as in the contest",
    )
    threshold: Share = Field(0.9, description="minimum of the lower 95 % bound of tuned / base, for scores")
    margin: Nats = Field(0.10, description="maximum of the upper 95 % bound of the loss increase, in nats per token")
    thresholds: dict[str, Share] = Field({}, description="thresholds of single abilities")
    margins: dict[str, Nats] = Field({}, description="margins of single abilities")
    counted: AbilityNames = Field(("all",), description="abilities that decide; the others are only reported")
    resamples: int = Field(10_000, ge=1000, le=MAX_RESAMPLES, description="bootstrap resamples per interval")

    @model_validator(mode="before")
    @classmethod
    def _expand_policy(cls, value: Any) -> Any:
        return {"policy": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check_limits(self) -> GateSection:
        for key in ("thresholds", "margins"):
            try:
                check_names(getattr(self, key))
            except ValueError as error:
                raise ValueError(f"gate.{key}: {error}") from None
        return self
