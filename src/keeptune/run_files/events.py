"""Schemas of the events in log.jsonl."""

from __future__ import annotations

from pydantic import Field

from keeptune.run_files.part import Part


class Event(Part):
    """Any event of log.jsonl."""

    event: str


class StageEvent(Part):
    """The end of a stage."""

    stage: str
    seconds: float
    peak_memory_bytes: int = 0


class TrainEvent(Part):
    """One training step. `tokens` and `seconds` count from the first step."""

    step: int
    loss: float
    loss_by_kind: dict[str, float]
    tokens: int = 0
    seconds: float = 0.0


class DevSkill(Part):
    """The skill on dev questions."""

    accuracy: float
    n: int


class DevReading(Part):
    """The reading ability on dev questions, in percent."""

    f1: float
    em: float
    n: int


class DevAbility(Part):
    """The status of an ability on dev items."""

    status: str


class DevScores(Part):
    """Scores on dev questions."""

    skill: DevSkill
    retained: DevReading
    abilities: dict[str, DevAbility] = Field(default_factory=dict)


class ScoreEvent(DevScores):
    """One score during training."""

    step: int


SCHEMAS: dict[str, type[Part]] = {"stage": StageEvent, "train": TrainEvent, "score": ScoreEvent, "base": DevScores}
"""The schema of an event by its name; others have none."""
