"""The section `select` of a recipe: how the checkpoint and the adapter scale are selected on dev."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from keeptune.config.section import Section

Average = Annotated[str, Field(pattern=r"^(ema|last-([2-9]|[1-9][0-9]+))$")]
"""`ema`, or `last-k` with k ≥ 2."""


class SelectSection(Section):
    """The candidates of the selection, besides the checkpoints that training evaluated on dev."""

    retention_weight: float = Field(
        0.0,
        ge=0,
        le=10**6,
        description="weight of the retained share of reading relative to skill accuracy, among the candidates that "
        "pass the gate on dev; 0 selects by skill accuracy alone",
    )
    scales: tuple[Annotated[float, Field(gt=0, le=2)], ...] = Field(
        (), description="adapter scales to try besides 1, such as `[0.25, 0.5, 0.75, 1.25]`"
    )
    averages: tuple[Average, ...] = Field(
        (),
        description="weight averages to try: `ema` (exponential moving average), or `last-k` (mean of the last k "
        "checkpoints), such as `[last-3, ema]`",
    )

    @property
    def compares(self) -> bool:
        """Whether scales or averages are candidates."""
        return bool(self.scales or self.averages)
