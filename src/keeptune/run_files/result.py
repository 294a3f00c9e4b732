"""Schema of result.json. All figures are computed from the records in scores/."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from keeptune.run_files.part import Estimate, Part
from keeptune.run_files.retention import Ability, Gate, Retained, Suite


class Share(Part):
    """A share of right answers, or the mean score of a grader, from 0 to 1."""

    accuracy: float
    n: int
    ci95: tuple[float, float]


class SkillScore(Share):
    """One model's skill."""

    by_kind: dict[str, Share]
    by_policy: dict[str, float]
    by_source: dict[str, int]
    unstopped: int
    grader: str | None = None
    figures: dict[str, Any] = Field(default_factory=dict)


class Skill(Part):
    """The skill before and after. `mcnemar_p` is null for a grader with scores between 0 and 1."""

    base: SkillScore
    tuned: SkillScore
    difference: Estimate
    mcnemar_p: float | None


class Parameters(Part):
    """The number of trained parameters, of all parameters, and their ratio."""

    trainable: int
    total: int
    ratio: float


class Contest(Part):
    """The scores by the contest's formulas."""

    phase1: float
    phase2: float


class Cost(Part):
    """The time, tokens and memory of the run."""

    seconds: float
    seconds_by_stage: dict[str, float]
    tokens_useful: int
    tokens_per_second: float
    peak_memory_bytes: int


class Candidate(Part):
    """A checkpoint at an adapter scale with its dev scores.

    `kept` is the smaller of tuned / base for F1 and EM; `lost` names the suite's abilities that are lost on dev items.
    """

    checkpoint: str
    scale: float
    accuracy: float
    f1: float
    em: float
    kept: float
    lost: list[str] = Field(default_factory=list)


class Chosen(Part):
    """adapter/chosen.json: the selected checkpoint, the adapter's scale, and all candidates."""

    checkpoint: str
    scale: float
    candidates: list[Candidate] = Field(default_factory=list)


class Prompt(Part):
    """The text around every problem."""

    template: str
    sha256: str


class Unchanged(Part):
    """Prompts of the suite that do not invoke the adapter, and how many of them it changes."""

    invocation: str
    prompts: int
    differing: int


class Result(Part):
    """result.json. Version 1 had no abilities and stated no version."""

    schema_version: int = 1
    name: str
    model: str
    finished: str
    skill: Skill
    retained: Retained
    suite: Suite | None = None
    abilities: dict[str, Ability] = Field(default_factory=dict)
    gate: Gate
    unchanged: Unchanged | None = None
    parameters: Parameters
    contest: Contest
    cost: Cost
    chosen: Chosen
    prompt: Prompt
