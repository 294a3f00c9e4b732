"""The recipe's data section, and the sections in it: which rows are taught, and how their solutions are written."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from keeptune.config.section import Section
from keeptune.config.solution_format import HalfRounding, Rounding, Spelling, Style

REJECT_LIMIT = 0.01
"""The share of rows that may be bad, unless a recipe says otherwise."""


class SynthSection(Section):
    """A corpus that is invented instead of read, in the contest's format and mix."""

    rows: int = Field(gt=0)
    seed: int = 0
    any_length: float = Field(
        0.0, ge=0, le=1, description="share of the problems whose numbers are of every length, where most are long"
    )
    close_calls: float = Field(
        0.0, ge=0, le=1, description="share of the problems in which a late digit decides, such as 80.96 / 80.64"
    )

    @model_validator(mode="after")
    def _shares_fit(self) -> SynthSection:
        if self.any_length + self.close_calls > 1:
            raise ValueError("any_length and close_calls are shares of the same problems: together at most 1")
        return self


class SplitSection(Section):
    """How many chosen problems are held back; a problem is never in two parts."""

    dev: int = Field(100, ge=0, description="problems for choices: checkpoint, scale")
    test: int = Field(300, ge=1, description="problems for the one final score; data.test_files take their place")
    by: Literal["problem", "range"] = Field(
        "problem", description="range: whole ranges of a number are held back, of kinds with one sentence for all"
    )


class ColumnsSection(Section):
    """The names of the columns, or JSON keys, that hold a row's texts. Conversation files need none."""

    problem: str = "problem"
    solution: str = "solution"
    kind: str | None = Field(None, description="skill text: the column that names a row's kind")


class SliceSection(Section):
    """A part of the rows, and how many unique problems of it are taken."""

    rows: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] | None = Field(
        None, description="first and last line (or item) of each file; none: all"
    )
    language: Literal["chinese", "english"] | None = Field(None, description="none: both")
    take: int = Field(gt=0)


class PricesSection(Section):
    """What a server's tokens cost, in any currency."""

    prompt_per_million: float = Field(ge=0)
    completion_per_million: float = Field(ge=0)


class TeacherSection(Section):
    """Another model, behind an OpenAI-compatible server, that writes solutions or paraphrases; only proven ones are
    taught."""

    url: str = Field(description="the server's base, such as http://localhost:8000/v1")
    model: str = Field(min_length=1, description="the model's name on that server")
    task: Literal["reasoning", "paraphrase"] = Field(
        description="reasoning: solutions in its words; paraphrase: problems in other words; of training rows only"
    )
    kinds: tuple[str, ...] = Field((), description="only these kinds; empty: all")
    samples: int = Field(2, ge=1, le=16, description="answers asked for a row, one by one, until one is proven")
    temperature: float = Field(0.7, ge=0, le=2)
    max_tokens: int = Field(1024, gt=0, description="longest answer of the server")
    concurrency: int = Field(8, ge=1, le=256, description="requests under way at once")
    requests_per_minute: float | None = Field(None, gt=0, description="none: as fast as the server answers")
    timeout_seconds: float = Field(120.0, gt=0, description="for one attempt at a request")
    attempts: int = Field(5, ge=1, le=20, description="for one request, with growing pauses in between")
    failure_limit: float = Field(0.1, ge=0, le=1, description="a larger share of failed requests stops the run")
    key_variable: str = Field(
        "OPENAI_API_KEY",
        pattern="^[A-Za-z_][A-Za-z0-9_]*$",
        description="the environment variable that holds the server's key; the key itself is never stored",
    )
    prices: PricesSection | None = Field(None, description="none: the cost is not reported")

    @field_validator("url")
    @classmethod
    def _is_plain(cls, url: str) -> str:
        if re.fullmatch(r"https?://[^\s/@?#]+(/[^\s@?#]*)?", url) is None:
            raise ValueError("write the server's base, such as http://localhost:8000/v1, without a name or key in it")
        return url

    @model_validator(mode="after")
    def _samples_differ(self) -> TeacherSection:
        if self.samples > 1 and self.temperature == 0:
            raise ValueError("at temperature 0 every sample is the same; raise temperature or set samples to 1")
        return self


class RoundingSection(Section):
    """How final answers are rounded. Each key maps kinds to values; `default` stands for all other kinds."""

    half: dict[str, HalfRounding] = Field(
        default_factory=dict,
        description="direction for a value exactly between two roundings: up (away from zero, the default) or even",
    )
    decimals: dict[str, Annotated[int, Field(ge=0, le=20)]] = Field(
        default_factory=dict, description="number of decimals (2 unless given)"
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
    """Which rows are taught, and how their solutions are written."""

    skill: Literal["arithmetic", "text"] = Field(
        "arithmetic", description="text: rows of any sort, with kinds by data.patterns or data.columns.kind"
    )
    files: tuple[str, ...] = Field(
        (),
        description="JSONL, JSON list, conversation JSON, CSV or Parquet, also as .gz or .zst; folders, globs; "
        "relative to the recipe. hf:NAME@CONFIGURATION#SPLIT is a Hugging Face data set",
    )
    columns: ColumnsSection = ColumnsSection()
    patterns: dict[str, str] = Field(
        default_factory=dict, description="skill text: a kind and the regular expression that a whole problem matches"
    )
    synth: SynthSection | None = Field(None, description="invent the corpus instead of reading files")
    kinds: tuple[str, ...] = Field((), description="only these kinds; empty: all")
    exclude: tuple[str, ...] = Field((), description="kinds left out")
    quota: dict[str, Annotated[int, Field(ge=0)]] = Field(
        default_factory=dict,
        description="how many unique problems of a kind; `default` for the rest, which are else taken whole",
    )
    max_repeats: int = Field(
        1, ge=1, description="a quota above the unique problems of its kind repeats each at most so often"
    )
    fraction: float = Field(1.0, gt=0, le=1, description="share of the unique problems taken, before quotas")
    slices: tuple[SliceSection, ...] = Field((), description="in place of quota and fraction: so many from each part")
    exclude_files: tuple[str, ...] = Field((), description="files of problems that must not be taught, e.g. a test set")
    test_files: tuple[str, ...] = Field(
        (),
        description="files of problems for the final score, all asked in place of held-back ones and never taught: "
        "so runs with different rows can be compared",
    )
    near_duplicates: Literal["keep", "drop"] = Field(
        "keep",
        description="problems that say what another says; kept ones stay on one side of the split",
    )
    near_threshold: float = Field(0.8, gt=0, le=1, description="share of three-word runs that makes two texts one")
    styles: dict[str, Style] = Field(default_factory=dict, description="solution style by kind; `default` for the rest")
    rounding: RoundingSection = RoundingSection()
    spelling: Spelling = Field(
        "plain", description="how numbers are spelled in the solutions that we write, but for their final answer"
    )
    teacher: TeacherSection | None = Field(None, description="another model that writes solutions or paraphrases")
    wrong: Literal["reject", "correct"] = Field("reject", description="what to do with a row whose answer is wrong")
    reject_limit: float = Field(REJECT_LIMIT, ge=0, le=1, description="a larger share of rejected rows stops the run")
    max_tokens: int = Field(512, gt=1, description="longest example, prompt and solution together")
    too_long: Literal["error", "drop"] = "error"
    split: SplitSection = SplitSection()

    def style(self, kind: str) -> Style:
        """How solutions of this kind are written."""
        return self.styles.get(kind, self.styles.get("default", "longhand"))

    @model_validator(mode="after")
    def _one_source(self) -> DataSection:
        if bool(self.files) == (self.synth is not None):
            raise ValueError("give either data.files or data.synth, and not both")
        return self

    @model_validator(mode="after")
    def _one_selection(self) -> DataSection:
        if self.slices and (self.quota or self.fraction < 1):
            raise ValueError("data.slices takes the place of data.quota and data.fraction; give one or the other")
        return self

    @model_validator(mode="after")
    def _kinds_of_texts(self) -> DataSection:
        if self.skill == "arithmetic" and (self.patterns or self.columns.kind):
            raise ValueError("data.patterns and data.columns.kind are for data.skill: text; arithmetic knows its kinds")
        if self.skill == "text" and self.spelling != "plain":
            raise ValueError("data.spelling is for data.skill: arithmetic; rows of any sort are taught as they are")
        if self.skill == "text" and self.synth:
            raise ValueError("data.synth invents arithmetic problems; give data.files, or take data.skill: text out")
        if self.skill == "text" and self.wrong == "correct":
            raise ValueError("data.wrong: correct is for data.skill: arithmetic; a text cannot be computed anew")
        if self.patterns and self.columns.kind:
            raise ValueError("give either data.patterns or data.columns.kind, and not both")
        if self.columns.kind and not self.kinds:
            raise ValueError("list in data.kinds the kinds to teach of those in the column data.columns.kind")
        return self

    @field_validator("patterns")
    @classmethod
    def _compiles(cls, patterns: dict[str, str]) -> dict[str, str]:
        for kind, pattern in patterns.items():
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"the pattern of {kind!r} is no regular expression: {error}") from None
        return patterns
