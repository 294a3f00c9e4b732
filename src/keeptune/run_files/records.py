"""Schema of the per-item records in scores/*.jsonl."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from keeptune.run_files.part import Part


class Message(Part):
    """One turn of a conversation."""

    role: str
    content: str


class Points(Part):
    """The scores of one reading answer, from 0 to 100."""

    f1: float
    em: float


class ItemRecord(Part):
    """One item with one model's answer, of scores/ability-*.jsonl, retained-*.jsonl or tasks-*.jsonl.

    Every ability has other fields; the evaluation/abilities modules describe them.
    """

    id: str
    language: str | None = None
    question: str | None = None
    good: str | None = None
    bad: str | None = None
    phenomenon: str | None = None
    messages: list[Message] | None = None
    text: str | None = None
    options: list[str] | None = None
    answer: int | str | list[str] | None = None
    references: list[str] | None = None
    constraints: list[dict[str, Any]] | None = None
    harmful: bool | None = None
    task: str | None = None
    target: str | None = None

    output: str | None = None
    prediction: str | None = None
    responses: str | None = None
    log_likelihoods: list[float | None] | None = None
    chosen: int | None = None
    nats: float | None = None
    reference_tokens: int | None = None

    correct: bool | None = None
    strict: list[bool] | None = None
    refused: bool | None = None
    degenerate: str | None = None
    nats_per_token: float | None = None
    f1: float | None = None
    squad: Points | None = Field(None, alias="squad-v1.1")
    score: float | None = None
    value: float | None = None


class Answer(Part):
    """One graded answer of scores/skill-*.jsonl."""

    id: str
    kind: str
    problem: str
    output: str
    truth: str
    answer: str | None
    source: str | None
    verdicts: dict[str, bool]
    score: float | None = None
    details: dict[str, Any] = Field(default_factory=dict)
    stopped: bool
    output_tokens: int


class ReadingAnswer(Part):
    """One answer of scores/retained-*.jsonl."""

    id: str
    question: str
    prompt: str
    prediction: str
    references: list[str]
    squad: Points = Field(alias="squad-v1.1")
