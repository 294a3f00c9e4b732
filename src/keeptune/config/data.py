"""The section `data` of a recipe: the rows to train on, and the format of their solutions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from keeptune.config.section import Section, StringTuple, raise_errors
from keeptune.config.skill_names import GRADER_OF_SKILL, check_skill_name
from keeptune.config.solution_format import HalfRounding, Rounding, Spelling, Style
from keeptune.config.teacher import TeacherSection
from keeptune.grading.registry import AnyGrader
from keeptune.grading.timed_patterns import pattern_fault

REJECT_LIMIT = 0.01
"""Default of `data.reject_limit`."""


ALL_COLUMNS = "all"
"""The value of `data.ignore_columns` that stands for every column."""

FormatName = Literal[
    "problem-solution", "messages", "conversations", "alpaca", "prompt-completion", "preference", "question-answer"
]
"""The row formats that are recognized by their keys."""


_Line = Annotated[int, Field(ge=1, le=10**12)]
"""The number of a line or an item of a file."""


class SynthSection(Section):
    """A generated corpus in the format and mix of the contest, instead of files."""

    rows: int = Field(gt=0, le=10**9, description="number of generated rows")
    seed: int = Field(0, ge=-(2**63), le=2**63 - 1, description="seed of the generator")
    any_length: float = Field(
        0.0, ge=0, le=1, description="share of problems with numbers of every length; most other numbers are long"
    )
    close_calls: float = Field(
        0.0, ge=0, le=1, description="share of problems in which a late digit decides, such as 80.96 / 80.64"
    )

    @model_validator(mode="after")
    def _check_shares(self) -> SynthSection:
        if self.any_length + self.close_calls > 1:
            raise ValueError("data.synth.any_length + data.synth.close_calls must be ≤ 1")
        return self


class SplitSection(Section):
    """The held-out problems. No problem is in two parts."""

    dev: int = Field(100, ge=0, le=10**9, description="problems for model selection (checkpoint, adapter scale)")
    test: int = Field(
        300, ge=1, le=10**9, description="problems for the final evaluation; `data.test_files` replaces them"
    )
    by: Literal["problem", "range"] = Field(
        "problem",
        description="`range`: for kinds whose problems all have the same wording, hold out whole ranges of a number",
    )


class ColumnsSection(Section):
    """Names of the columns (or JSON keys) of a row. Known row formats, such as `messages`, need none.

    A name with points leads into an object or a list (`answers.text.0`). A text with names in braces is a template
    (`"{title}\\n{body}"`), in which `{{` and `}}` are braces.
    """

    problem: str = Field("problem", min_length=1, description="column of the problem, or a template")
    solution: str = Field("solution", min_length=1, description="column of the solution, or a template")
    kind: str | None = Field(None, description="column of the kind, with `data.skill: text`")


class SliceSection(Section):
    """A part of the rows, and the number of unique problems to select from it."""

    rows: tuple[_Line, _Line] | None = Field(
        None, description="first and last line (or item) of each file, both included; null: all"
    )
    language: Literal["chinese", "english"] | None = Field(None, description="language of the rows; null: both")
    kinds: tuple[str, ...] = Field((), description="kinds of the problems; empty: all of `data.kinds`")
    contains: str | None = Field(None, description="text that each problem contains, such as `的 2 次方`")
    take: int = Field(gt=0, le=10**9, description="number of unique problems")


class RoundingSection(Section):
    """The rounding of final answers. Each key maps kinds to values; `default` stands for all other kinds."""

    half: dict[str, HalfRounding] = Field(
        default_factory=dict,
        description="direction in which a tie is rounded: `up` (away from zero; the default) or `even`",
    )
    decimals: dict[str, Annotated[int, Field(ge=0, le=20)]] = Field(
        default_factory=dict, description="number of decimals; 2 unless given"
    )
    significant_digits: dict[str, Annotated[int, Field(ge=1, le=20)]] = Field(
        default_factory=dict, description="number of significant digits; replaces the number of decimals"
    )

    def for_kind(self, kind: str) -> Rounding:
        """Returns the rounding of one kind. Significant digits for the kind take precedence over its decimals."""
        default = Rounding()
        digits = self.significant_digits.get(
            kind, None if kind in self.decimals else self.significant_digits.get("default")
        )
        return Rounding(
            places=self.decimals.get(kind, self.decimals.get("default", default.places)),
            digits=digits,
            halves=self.half.get(kind, self.half.get("default", default.halves)),
        )


class DataSection(Section):
    """The rows to train on, and the format of their solutions."""

    skill: Annotated[str, AfterValidator(check_skill_name)] = Field(
        "arithmetic",
        description="`arithmetic`, `text` (rows of any topic, with kinds from `data.patterns` or `data.columns.kind`), "
        "`labels` (each label is a kind), `extraction` (JSON), `sql`, or a skill of another package",
    )
    grader: AnyGrader | None = Field(
        None,
        description="how answers are compared with those of the rows, with all skills but `arithmetic`: the name of a "
        "[grader](#graders), or a mapping of `name` and its options",
    )
    files: tuple[str, ...] = Field(
        (),
        description="files, folders or globs, relative to the recipe: JSONL, JSON list, conversation JSON, CSV, TSV "
        "or Parquet, also as .gz or .zst; `hf:NAME@CONFIGURATION#SPLIT` names a Hugging Face dataset",
    )
    format: FormatName | None = Field(
        None,
        description="row format of all files; null: each row is recognized by its keys, or `data.columns` names them",
    )
    columns: ColumnsSection = Field(ColumnsSection(), description="column names of a row")
    ignore_columns: StringTuple = Field(
        (), description="columns that may be dropped, or `all`; any other column that is not used is an error"
    )
    patterns: dict[str, str] = Field(
        default_factory=dict,
        description="kind → regular expression that matches the whole problem, with `data.skill: text`",
    )
    synth: SynthSection | None = Field(None, description="generate the corpus instead of reading `data.files`")
    kinds: tuple[str, ...] = Field((), description="kinds to train on; empty: all")
    exclude: tuple[str, ...] = Field((), description="kinds to leave out")
    quota: dict[str, Annotated[int, Field(ge=0, le=10**9)]] = Field(
        default_factory=dict,
        description="kind → number of unique problems; `default` stands for the other kinds, which otherwise use all",
    )
    max_repeats: int = Field(
        1,
        ge=1,
        le=10_000,
        description="maximum uses of a problem when the quota of its kind exceeds the unique problems",
    )
    fraction: float = Field(1.0, gt=0, le=1, description="share of the unique problems to use, before quotas")
    slices: tuple[SliceSection, ...] = Field(
        (), description="parts of the rows with a number of problems each; replaces `data.quota` and `data.fraction`"
    )
    exclude_files: tuple[str, ...] = Field(
        (), description="files with problems to keep out of training, such as a test set"
    )
    test_files: tuple[str, ...] = Field(
        (),
        description="files with the problems of the final evaluation; all are evaluated, none is trained on, and no "
        "rows are held out for test. Runs with different rows become comparable",
    )
    near_duplicates: Literal["keep", "drop"] = Field(
        "keep", description="problems nearly identical to another one; kept ones stay on one side of the split"
    )
    near_threshold: float = Field(
        0.8, gt=0, le=1, description="share of common word 3-grams at which two texts are near duplicates"
    )
    styles: dict[str, Style] = Field(
        default_factory=dict,
        description="kind → solution style: `raw` (as in the data), `answer` (the rounded answer alone), `rule` "
        "(sentences that state the rule), `longhand` (step by step; the default), `digits` (digit by digit); "
        "`default` stands for the other kinds",
    )
    rounding: RoundingSection = Field(RoundingSection(), description="rounding of final answers")
    spelling: Spelling = Field(
        "plain",
        description="spelling of numbers in generated solutions, except their final answer: `plain` 1234.5, `spaced` "
        "`1 2 3 4.5`, `grouped` `1,234.5`, `reversed` `5.4321`",
    )
    teacher: TeacherSection | None = Field(None, description="a teacher model that writes solutions or paraphrases")
    conflicts: Literal["reject", "first", "all"] = Field(
        "reject",
        description="what happens to the rows of a problem that occurs with different answers: `reject` them, use the "
        "`first` row by file name and line, or train on `all`, and never hold them out",
    )
    special_tokens: Literal["reject", "strip"] = Field(
        "reject", description="what happens to a row with a special token of the tokenizer in its text"
    )
    wrong: Literal["reject", "correct"] = Field(
        "reject", description="what happens to a row with a wrong answer: `correct` trains on a generated solution"
    )
    reject_limit: float = Field(
        REJECT_LIMIT, ge=0, le=1, description="maximum share of rejected rows; the run stops above it"
    )
    max_tokens: int = Field(512, gt=1, le=10**7, description="maximum tokens per example, prompt and solution together")
    too_long: Literal["error", "drop"] = Field("error", description="what happens to longer examples")
    split: SplitSection = Field(SplitSection(), description="number of held-out problems")

    def style(self, kind: str) -> Style:
        """Returns the solution style of a kind."""
        return self.styles.get(kind, self.styles.get("default", "longhand"))

    @model_validator(mode="after")
    def _check_source(self) -> DataSection:
        if bool(self.files) == (self.synth is not None):
            raise ValueError("set either data.files or data.synth, not both")
        return self

    @model_validator(mode="after")
    def _check_selection(self) -> DataSection:
        if self.slices and (self.quota or self.fraction < 1):
            raise ValueError("data.slices replaces data.quota and data.fraction; remove one of them")
        return self

    @model_validator(mode="after")
    def _check_kinds(self) -> DataSection:
        if self.skill == "arithmetic" and (self.patterns or self.columns.kind):
            raise ValueError(
                "data.patterns and data.columns.kind need data.skill: text; arithmetic has kinds of its own"
            )
        if self.patterns and self.columns.kind:
            raise ValueError("set either data.patterns or data.columns.kind, not both")
        if self.columns.kind and not self.kinds:
            raise ValueError("data.columns.kind needs data.kinds, the list of kinds to train on")
        return self

    @model_validator(mode="after")
    def _check_columns(self) -> DataSection:
        if self.format and self.columns != ColumnsSection():
            raise ValueError("set either data.format or data.columns, not both")
        used = {self.columns.problem, self.columns.solution, self.columns.kind}
        if ignored := sorted(used & set(self.ignore_columns) - {ALL_COLUMNS, None}, key=str):
            raise ValueError(f"data.ignore_columns names {ignored[0]!r}, which data.columns uses; remove one of them")
        return self

    @model_validator(mode="after")
    def _check_conflicts(self) -> DataSection:
        if self.conflicts == "all" and self.teacher is not None:
            raise ValueError("data.conflicts: all has no single answer for data.teacher; set reject or first")
        return self

    @model_validator(mode="after")
    def _check_text_skill(self) -> DataSection:
        errors = []
        is_text = self.skill in ("text", *GRADER_OF_SKILL)
        if is_text and self.spelling != "plain":
            errors.append("data.spelling needs data.skill: arithmetic; the text skill trains rows as they are")
        if is_text and self.synth:
            errors.append(
                f"data.synth generates arithmetic problems; set data.files, or remove data.skill: {self.skill}"
            )
        if is_text and self.wrong == "correct":
            errors.append("data.wrong: correct needs data.skill: arithmetic; a text has no computed solution")
        raise_errors(errors)
        return self

    @model_validator(mode="after")
    def _check_grader(self) -> DataSection:
        errors = []
        required, name = GRADER_OF_SKILL.get(self.skill), self.grader.name if self.grader else None
        if self.grader and self.skill == "arithmetic":
            errors.append("data.grader needs data.skill: text; arithmetic computes and grades its answers itself")
        if required and name not in (None, required):
            errors.append(
                f"data.skill: {self.skill} needs data.grader.name: {required} (got {name}); or set data.skill: text"
            )
        if self.skill == "labels" and not self.grader:
            errors.append("data.skill: labels needs data.grader: {name: label, labels: [...]}")
        if self.skill == "labels" and (self.patterns or self.columns.kind):
            errors.append("data.skill: labels takes each label as a kind; remove data.patterns and data.columns.kind")
        if self.grader and self.teacher:
            errors.append("data.teacher verifies equations and stated answers; remove data.grader or data.teacher")
        raise_errors(errors)
        return self

    @field_validator("patterns")
    @classmethod
    def _check_patterns(cls, patterns: dict[str, str]) -> dict[str, str]:
        for kind, pattern in patterns.items():
            if fault := pattern_fault(pattern):
                raise ValueError(f"must be regular expressions; that of {kind!r} is invalid: {fault}")
        return patterns
