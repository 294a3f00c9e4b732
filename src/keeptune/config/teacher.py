"""The section `data.teacher` of a recipe: a model that writes rationales or paraphrases for the training rows."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from keeptune.config.section import Section


class PricesSection(Section):
    """Prices of the teacher's tokens, in any currency."""

    prompt_per_million: float = Field(ge=0, description="price per million prompt tokens")
    completion_per_million: float = Field(ge=0, description="price per million completion tokens")


class TeacherSection(Section):
    """A teacher model behind an OpenAI-compatible server. Training uses only those of its texts that are verified."""

    url: str = Field(description="base URL of the server, such as `http://localhost:8000/v1`")
    model: str = Field(min_length=1, description="name of the model on that server")
    task: Literal["reasoning", "paraphrase"] = Field(
        description="what the teacher writes for training rows: `reasoning` (solutions) or `paraphrase` (problems)"
    )
    kinds: tuple[str, ...] = Field((), description="kinds to send to the teacher; empty: all")
    samples: int = Field(
        2, ge=1, le=16, description="maximum number of answers per row; requests stop at the first verified one"
    )
    temperature: float = Field(0.7, ge=0, le=2, description="sampling temperature")
    max_tokens: int = Field(1024, gt=0, le=10**7, description="maximum tokens per answer")
    concurrency: int = Field(8, ge=1, le=256, description="maximum number of concurrent requests")
    requests_per_minute: float | None = Field(None, gt=0, description="rate limit; null: none")
    timeout_seconds: float = Field(120.0, gt=0, le=86_400, description="timeout per attempt")
    attempts: int = Field(5, ge=1, le=20, description="attempts per request, with growing pauses between them")
    failure_limit: float = Field(
        0.1, ge=0, le=1, description="maximum share of failed requests; the run stops above it"
    )
    key_variable: str = Field(
        "OPENAI_API_KEY",
        pattern="^[A-Za-z_][A-Za-z0-9_]*$",
        description="environment variable with the API key; the key itself is never stored",
    )
    prices: PricesSection | None = Field(None, description="token prices; null: the cost is not reported")

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        if re.fullmatch(r"https?://[^\s/@?#]+(/[^\s@?#]*)?", url) is None:
            raise ValueError("must be a base URL such as http://localhost:8000/v1, without a user name or key in it")
        return url

    @model_validator(mode="after")
    def _check_samples(self) -> TeacherSection:
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(
                "data.teacher.samples must be 1 at data.teacher.temperature 0, because all samples are the same there"
            )
        return self
