"""The section `data.teacher` of a recipe: a model that writes rationales or paraphrases for the training rows."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from keeptune.config.section import Section
from keeptune.remote_models.server import (
    Attempts,
    Concurrency,
    KeyVariable,
    RequestsPerMinute,
    ServedModelName,
    ServerUrl,
    TimeoutSeconds,
)


class PricesSection(Section):
    """Prices of the teacher's tokens, in any currency."""

    prompt_per_million: float = Field(ge=0, le=10**9, description="price per million prompt tokens")
    completion_per_million: float = Field(ge=0, le=10**9, description="price per million completion tokens")


class TeacherSection(Section):
    """A teacher model behind an OpenAI-compatible server. Training uses only those of its texts that are verified."""

    url: ServerUrl
    model: ServedModelName
    task: Literal["reasoning", "paraphrase"] = Field(
        description="what the teacher writes for training rows: `reasoning` (solutions) or `paraphrase` (problems)"
    )
    kinds: tuple[str, ...] = Field((), description="kinds to send to the teacher; empty: all")
    samples: int = Field(
        2, ge=1, le=16, description="maximum number of answers per row; requests stop at the first verified one"
    )
    temperature: float = Field(0.7, ge=0, le=2, description="sampling temperature")
    max_tokens: int = Field(1024, gt=0, le=10**7, description="maximum tokens per answer")
    concurrency: Concurrency = 8
    requests_per_minute: RequestsPerMinute = None
    timeout_seconds: TimeoutSeconds = 120.0
    attempts: Attempts = 5
    failure_limit: float = Field(
        0.1, ge=0, le=1, description="maximum share of failed requests; the run stops above it"
    )
    key_variable: KeyVariable = "OPENAI_API_KEY"
    prices: PricesSection | None = Field(None, description="token prices; null: the cost is not reported")

    @model_validator(mode="after")
    def _check_samples(self) -> TeacherSection:
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(
                "data.teacher.samples must be 1 at data.teacher.temperature 0, because all samples are the same there"
            )
        return self
