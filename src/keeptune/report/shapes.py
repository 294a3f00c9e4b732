"""The shapes of a finished run's files, from the reader's side: only what a report shows is asked for."""

from __future__ import annotations

from math import inf, nan
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Part(BaseModel):
    """A part of a stored file; what a report does not show is passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Estimate(Part):
    """A value between the ends of its 95 % interval. JSON's null is no value (nan), and no upper end (infinity)."""

    point: Annotated[float, BeforeValidator(lambda value: nan if value is None else value)]
    low95: float
    high95: Annotated[float, BeforeValidator(lambda value: inf if value is None else value)]


class Share(Part):
    """A share of right answers, from 0 to 1."""

    accuracy: float
    n: int
    ci95: tuple[float, float]


class SkillScore(Share):
    """One model's skill."""

    by_kind: dict[str, Share]
    by_policy: dict[str, float]
    by_source: dict[str, int]
    unstopped: int


class Skill(Part):
    """The skill before and after."""

    base: SkillScore
    tuned: SkillScore
    difference: Estimate
    mcnemar_p: float


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
    """The loss on general text, in nats a token, over `tokens` of `n` texts."""

    n: int
    tokens: int
    base: float
    tuned: float
    difference: Estimate


class Divergence(Estimate):
    """KL(tuned ‖ base) in nats a token, over `tokens` of `n` texts."""

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
    """The retained ability: reading, what of it is seen under another prompt, and how far predictions moved."""

    set: str
    metric: str
    other_prompt: Reading | None = None
    tasks: dict[str, TaskScore] = {}
    token_loss: TokenLoss | None = None
    kl: dict[str, Divergence | None] | None = None


class Gate(Part):
    """The verdict and why."""

    threshold: float
    verdict: Literal["pass", "fail", "undecided"]
    reason: str


class Parameters(Part):
    """How much of the model was trained."""

    trainable: int
    total: int
    ratio: float


class Contest(Part):
    """The scores that the contest would have given."""

    phase1: float
    phase2: float


class Cost(Part):
    """What the run took."""

    seconds: float
    seconds_by_stage: dict[str, float]
    tokens_useful: int
    tokens_per_second: float
    peak_memory_bytes: int


class Candidate(Part):
    """A checkpoint at a scale, scored on dev questions; `kept` is the smaller share of the base's F1 and EM."""

    checkpoint: str
    scale: float
    accuracy: float
    f1: float
    em: float
    kept: float


class Chosen(Part):
    """The checkpoint that was handed over, how much its adapter counts, and what it was chosen among."""

    checkpoint: str
    scale: float
    candidates: list[Candidate] = []


class Prompt(Part):
    """The text around every problem."""

    template: str
    sha256: str


class Result(Part):
    """result.json."""

    name: str
    model: str
    finished: str
    skill: Skill
    retained: Retained
    gate: Gate
    parameters: Parameters
    contest: Contest
    cost: Cost
    chosen: Chosen
    prompt: Prompt


class Git(Part):
    """The commit that ran, and whether files differed from it."""

    commit: str
    dirty: bool


class Hardware(Part):
    """The machine."""

    cpu: str
    cores: int
    memory_bytes: int
    accelerator: str | None


class Manifest(Part):
    """manifest.json."""

    keeptune: str
    python: str
    platform: str
    packages: dict[str, str]
    git: Git | None
    hardware: Hardware
    hashes: dict[str, str | None]
    seed: int
    started: str
    command: str


class Lengths(Part):
    """The lengths of texts in tokens; zeros where there is none."""

    median: float
    max: int


class KindCard(Part):
    """The rows of one kind."""

    rows: int
    unique: int
    chosen: int
    rejected: int
    train: int
    dev: int
    test: int
    corrected: int
    unseen: int = 0
    near_duplicates: int = 0
    too_coarse: int = 0
    prompt_tokens: Lengths
    solution_tokens: Lengths
    answer_digits: Lengths | None = None


class SplitCard(Part):
    """One part of the chosen rows."""

    rows: int
    tokens: int


class Leaks(Part):
    """Training rows that give away what is scored: reading questions, or problems of dev and test."""

    retained_overlap: int
    held_overlap_by_kind: dict[str, int] = {}
    held_twins_by_kind: dict[str, int] = {}


class SourceFile(Part):
    """A file that rows were read from."""

    file: str
    sha256: str
    bytes: int


class Card(Part):
    """data/card.json."""

    files: list[SourceFile]
    test_files: list[SourceFile] = []
    test_rejected: int = 0
    rows_read: int
    rows_rejected: int
    rejected_by_reason: dict[str, int]
    rows_kept: int
    unique: int
    duplicates: int
    conflicts: int = 0
    unwrapped: int = 0
    max_tokens: int = 0
    truncated: int = 0
    left_out: int = 0
    kinds: dict[str, KindCard]
    splits: dict[str, SplitCard]
    too_long_dropped: int
    leaks: Leaks
    data_sha256: str


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
    stopped: bool
    output_tokens: int


class Points(Part):
    """The scores of one reading answer, from 0 to 100."""

    f1: float
    em: float


class ReadingAnswer(Part):
    """One answer of scores/retained-*.jsonl."""

    id: str
    question: str
    prompt: str
    prediction: str
    references: list[str]
    squad: Points = Field(alias="squad-v1.1")
