"""Schema of the events in log.jsonl that reports show."""

from __future__ import annotations

from keeptune.run_files.part import Part


class TrainEvent(Part):
    """One training step of log.jsonl."""

    step: int
    loss: float
    loss_by_kind: dict[str, float]


class DevSkill(Part):
    """The skill on dev questions."""

    accuracy: float
    n: int


class DevReading(Part):
    """The reading ability on dev questions, in percent."""

    f1: float
    em: float
    n: int


class ScoreEvent(Part):
    """One score during training of log.jsonl."""

    step: int
    skill: DevSkill
    retained: DevReading
