"""The shapes of a finished run's files, from the reader's side: only the fields that a report shows."""

from __future__ import annotations

from pydantic import Field

from keeptune.report.retention_shapes import Ability, Estimate, Gate, Part, Points, Retained, Suite


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
    """The checkpoint that was handed over, how much its adapter counts, and what it was chosen among."""

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
    """result.json."""

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
    held_overlap_by_kind: dict[str, int] = Field(default_factory=dict)
    held_twins_by_kind: dict[str, int] = Field(default_factory=dict)


class SourceFile(Part):
    """A file that rows were read from."""

    file: str
    sha256: str
    bytes: int


class Card(Part):
    """data/card.json."""

    files: list[SourceFile]
    test_files: list[SourceFile] = Field(default_factory=list)
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


class ReadingAnswer(Part):
    """One answer of scores/retained-*.jsonl."""

    id: str
    question: str
    prompt: str
    prediction: str
    references: list[str]
    squad: Points = Field(alias="squad-v1.1")
