"""Schema of the retention figures in result.json and gate.json: reading, the retention suite, the gate."""

from __future__ import annotations

from math import inf, isfinite, isnan
from typing import Literal

from pydantic import Field

from keeptune.run_files.part import Estimate, Figure, Part

Kind = Literal["score", "loss"]
Status = Literal["retained", "lost", "undecided", "nothing to lose", "practised"]
Policy = Literal["suite", "contest"]


class ReadingScore(Part):
    """One model's reading ability by one metric; F1 and EM from 0 to 100."""

    f1: float
    em: float
    n: int
    empty: int
    unstopped: int
    answer_nll: float | None = None


class BeforeAfter(Part):
    """The reading ability before and after, by one metric."""

    base: ReadingScore
    tuned: ReadingScore


class Ratio(Part):
    """Tuned over base."""

    f1: Estimate
    em: Estimate
    likelihood: Estimate | None = None


class Reading(BeforeAfter):
    """The reading ability under one prompt: by the headline metric, and by the contest's."""

    prompt: str
    ratio: Ratio
    contest_metric: BeforeAfter


class TokenLoss(Part):
    """The loss on general text, in nats per token, over `tokens` of `n` texts."""

    n: int
    tokens: int
    base: float
    tuned: float
    difference: Estimate


class Divergence(Estimate):
    """KL(tuned ‖ base) in nats per token, over `tokens` of `n` texts."""

    n: int
    tokens: int


class TaskScore(Part):
    """A task of lm-evaluation-harness: both means in percent over `n` questions, and tuned over base."""

    metric: str
    n: int
    base: float
    tuned: float
    ratio: Estimate


class Retained(Reading):
    """The key `retained`: reading under one or two prompts, loss on texts, and divergence from the base."""

    set: str
    metric: str
    other_prompt: Reading | None = None
    tasks: dict[str, TaskScore] = Field(default_factory=dict)
    token_loss: TokenLoss | None = None
    kl: dict[str, Divergence | None] | None = None
    kl_on_answers: dict[str, dict[str, Divergence | None]] | None = None


class Figures(Part):
    """Figures of base and tuned on `n` questions, between the ends of a 95 % interval.

    `score`: base and tuned are shares from 0 to 1 and `point` is tuned / base. `loss`: nats per token and tuned − base.
    A figure that does not exist is nan.
    """

    kind: Kind
    n: int
    base: Figure
    tuned: Figure
    point: Figure
    low95: Figure
    high95: Figure
    limit: float
    reason: str = ""
    more_questions: int | None = None

    @property
    def has_interval(self) -> bool:
        """Whether there is an interval; its upper end may be infinite."""
        return isfinite(self.point) and isfinite(self.low95)

    @property
    def upper(self) -> float:
        """The upper end of the interval: result.json writes null for infinity."""
        return inf if self.has_interval and isnan(self.high95) else self.high95


class Measure(Figures):
    """One measure of an ability."""

    status: Status


class Ability(Figures):
    """One ability of the retention suite: the figures of its first measure, and the status over all measures.

    `practised` is the reason why training practised the ability, if it did.
    """

    status: Status
    counted: bool
    practised: str | None = None
    measures: dict[str, Measure] = Field(default_factory=dict)

    @property
    def decisive(self) -> tuple[str, Figures]:
        """The first measure that has the ability's status, with its name; or the first measure where none has."""
        same = ((name, measure) for name, measure in self.measures.items() if measure.status == self.status)
        return next(same, (next(iter(self.measures), ""), self))


class Suite(Part):
    """The retention suite that base and tuned were evaluated on."""

    version: str
    size: str
    sha256: str


class Gate(Part):
    """The verdict, the policy that decided it, and why. Runs before schema version 2 were judged by reading alone."""

    policy: Policy = "contest"
    threshold: float
    margin: float | None = None
    verdict: Literal["pass", "fail", "undecided"]
    reason: str
    counted: list[str] = Field(default_factory=list)
    more_questions: int | None = None
