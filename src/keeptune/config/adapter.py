"""The section `adapter` of a recipe: family, size and position of the adapter."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from keeptune.config import families
from keeptune.config.section import Section, raise_errors

_Layer = Annotated[int, Field(ge=0, le=10**6)]


class AdapterSection(Section):
    """The adapter: its family, its size, and the layers that get one."""

    family: families.Family = Field("lora", description="adapter method; docs/how-to/adapters.md compares them")
    rank: int = Field(
        16, gt=0, le=65_536, description="rank of each adapter matrix; 256 by default for vera; not for ia3"
    )
    alpha: int = Field(
        32, gt=0, le=10**6, description="scale numerator: alpha/rank, for rslora alpha/√rank; not for vera and ia3"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout before the adapter; not for pissa and ia3")
    targets: str | tuple[str, ...] = Field(
        "all-linear",
        description="modules with an adapter: a preset (`attention-qv`, `attention`, `mlp`, `all-linear`, `ia3`), "
        "which finds layers by their shapes, a list of module names, or a MindFormers regular expression; ia3 supports "
        "layers of keys, of values, and the last of the MLP only",
    )
    layers: tuple[_Layer, _Layer] | None = Field(
        None, description="first and last layer with an adapter, both included, counted from 0; null means all layers"
    )
    start: str | None = Field(
        None,
        description="folder of an adapter that training continues from, of the same family and targets; for lora and "
        "rslora its rank may be smaller, and the other ranks start at zero",
    )
    start_rate_ratio: float = Field(
        1.0,
        gt=0,
        le=1,
        description="learning rate of the ranks that come from `adapter.start`, relative to that of new ranks; for "
        "lora and rslora",
    )

    @model_validator(mode="before")
    @classmethod
    def _apply_family_defaults(cls, values: Any) -> Any:
        return families.with_defaults(values)

    @model_validator(mode="after")
    def _check_options(self) -> AdapterSection:
        errors = families.option_errors(self.family, self.model_fields_set)
        if self.layers and self.layers[0] > self.layers[1]:
            errors.append("adapter.layers must be [first, last] with first ≤ last, such as [0, 14]")
        raise_errors(errors)
        return self

    @property
    def is_plain_lora(self) -> bool:
        """Whether each layer adds one low-rank product and nothing else."""
        return self.family in ("lora", "rslora") and not self.dropout

    @model_serializer(mode="wrap")
    def _omit_unsupported_options(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Omits the options that the family rejects, so that a stored recipe loads again."""
        unsupported = families.UNSUPPORTED_OPTIONS[self.family]
        return {option: value for option, value in serialize(self).items() if option not in unsupported}
