"""The recipe: everything that decides a run, typed, with every default in this one place.

A recipe is a YAML file. `load` returns it complete or raises one RecipeError that lists every fault at once, each
with its place and, for a key that does not exist, the nearest one that does. Nothing in a recipe names code.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from keeptune import families
from keeptune.errors import RecipeError
from keeptune.skill.base import Halves, Rounding, Spelling, Style


class Section(BaseModel):
    """A part of the recipe: no key that it does not know, no change after it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


AnySection = TypeVar("AnySection", bound=Section)


def _or_refuse(section: AnySection, faults: list[str]) -> AnySection:
    if faults:
        raise ValueError("; ".join(faults))
    return section


class ModelSection(Section):
    """Which model is taught, and in which number format it computes."""

    name: str = Field("smollm2-135m", description="a local folder, a Hugging Face id, or `smollm2-135m`")
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="auto: bfloat16 where the processor multiplies it natively, else float32"
    )


class SynthSection(Section):
    """A corpus that is invented instead of read, in the contest's format and mix."""

    rows: int = Field(gt=0)
    seed: int = 0
    any_length: float = Field(
        0.0, ge=0, le=1, description="share of the problems whose numbers are of every length, where most are long"
    )


class SplitSection(Section):
    """How many chosen problems are held back; a problem is never in two parts."""

    dev: int = Field(100, ge=0, description="problems for choices: checkpoint, scale")
    test: int = Field(300, ge=1, description="problems for the one final score")
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


class WriterSection(Section):
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
    def _samples_differ(self) -> WriterSection:
        if self.samples > 1 and self.temperature == 0:
            raise ValueError("at temperature 0 every sample is the same; raise temperature or set samples to 1")
        return self


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
    repeat_limit: int = Field(
        1, ge=1, description="a quota above the unique problems of its kind repeats each at most so often"
    )
    fraction: float = Field(1.0, gt=0, le=1, description="share of the unique problems taken, before quotas")
    slices: tuple[SliceSection, ...] = Field((), description="in place of quota and fraction: so many from each part")
    unseen: tuple[str, ...] = Field((), description="files of problems that must not be taught, e.g. a test set")
    near_duplicates: Literal["keep", "drop"] = Field(
        "keep",
        description="problems that say what another says; kept ones stay on one side of the split",
    )
    near_threshold: float = Field(0.8, gt=0, le=1, description="share of three-word runs that makes two texts one")
    styles: dict[str, Style] = Field(default_factory=dict, description="solution style by kind; `default` for the rest")
    places: dict[str, Annotated[int, Field(ge=0, le=20)]] = Field(
        default_factory=dict, description="decimals of the final answer by kind; `default` for the rest (2)"
    )
    digits: dict[str, Annotated[int, Field(ge=1, le=20)]] = Field(
        default_factory=dict, description="significant digits of the final answer by kind, in place of decimals"
    )
    halves: dict[str, Halves] = Field(
        default_factory=dict, description="where a half goes when it is rounded, by kind: up (away from zero) or even"
    )
    spelling: Spelling = Field(
        "plain", description="how numbers are spelled in the solutions that we write, but for their final answer"
    )
    writer: WriterSection | None = Field(None, description="another model that writes solutions or paraphrases")
    wrong: Literal["reject", "correct"] = Field("reject", description="what to do with a row whose answer is wrong")
    reject_limit: float = Field(0.01, ge=0, le=1, description="a larger share of rejected rows stops the run")
    max_tokens: int = Field(512, gt=1, description="longest example, prompt and solution together")
    too_long: Literal["error", "drop"] = "error"
    split: SplitSection = SplitSection()

    def style(self, kind: str) -> Style:
        """How solutions of this kind are written."""
        return self.styles.get(kind, self.styles.get("default", "longhand"))

    def rounding(self, kind: str) -> Rounding:
        """How final answers of this kind are rounded. Digits given for the kind go before its decimals."""
        digits = self.digits.get(kind, None if kind in self.places else self.digits.get("default"))
        return Rounding(
            places=self.places.get(kind, self.places.get("default", Rounding().places)),
            digits=digits,
            halves=self.halves.get(kind, self.halves.get("default", Rounding().halves)),
        )

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


class PromptSection(Section):
    """The one text that surrounds a problem in training, scoring, asking and export."""

    template: str = Field("Question: {problem}\nAnswer:\n", description="must hold {problem} exactly once")

    @model_validator(mode="after")
    def _one_slot(self) -> PromptSection:
        if self.template.count("{problem}") != 1:
            raise ValueError("prompt.template must hold {problem} exactly once")
        return self


class AdapterSection(Section):
    """The adapter: of which family, where it sits and how large it is."""

    family: families.Family = "lora"
    rank: int = Field(16, gt=0, description="vera: 256 unless given; ia3 has none")
    alpha: int = Field(32, gt=0, description="the scale is alpha/rank, of rslora alpha/√rank; vera and ia3 have none")
    dropout: float = Field(0.0, ge=0, lt=1, description="pissa and ia3 have none")
    targets: str | tuple[str, ...] = Field(
        "all-linear",
        description="a preset (attention-qv, attention, mlp, all-linear, ia3), module names, or a MindFormers regex; "
        "of ia3 at most k_proj, v_proj, down_proj",
    )
    layers: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]] | None = Field(
        None, description="first and last layer that get an adapter, counted from 0; none: all"
    )
    start: str | None = Field(None, description="a folder with an adapter of the same shape, to go on from")

    @model_validator(mode="before")
    @classmethod
    def _usual_for_the_family(cls, given: Any) -> Any:
        return families.with_defaults(given)

    @model_validator(mode="after")
    def _fits(self) -> AdapterSection:
        faults = families.refused_options(self.family, self.model_fields_set)
        if self.layers and self.layers[0] > self.layers[1]:
            faults.append("adapter.layers is [first, last], both included, such as [0, 14]")
        return _or_refuse(self, faults)

    @model_serializer(mode="wrap")
    def _without_what_it_has_not(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A stored recipe can be run from again, so it must not hold what is refused."""
        return {option: value for option, value in plain(self).items() if option not in families.WITHOUT[self.family]}


class TrainSection(Section):
    """How the adapter learns. All amounts are in tokens, because rows differ in length."""

    epochs: float = Field(1.0, gt=0)
    tokens_per_step: int = Field(2048, gt=0, description="useful tokens an optimiser step, prompt and solution")
    tokens_per_batch: int = Field(512, gt=0, description="padded tokens that go through the model at once")
    tokens: int | None = Field(None, gt=0, description="useful tokens in all, replay included, in place of epochs")
    learning_rate: float = Field(1e-3, gt=0)
    loraplus_ratio: float = Field(
        1.0, gt=0, description="LoRA+: the learning rate of B over that of A; its paper takes 16"
    )
    final_rate_share: float = Field(0.0, ge=0, le=1, description="share of the rate that the cosine ends on")
    warmup_share: float = Field(0.05, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    replay_share: float = Field(0.1, ge=0, lt=1, description="share of the tokens that practises reading")
    replay: str = Field("embedded", description="a SQuAD file to practise on, or `embedded`")
    score_every_steps: int = Field(0, ge=0, description="score dev by generation at this interval; 0: only at the end")
    checkpoint_every_steps: int = Field(50, gt=0)

    def epochs_of(self, tokens: int) -> float:
        """How often rows of so many tokens are gone through."""
        return self.epochs if self.tokens is None else self.tokens / tokens


class ScoreSection(Section):
    """What is scored, base and tuned alike."""

    max_new_tokens: int = Field(320, gt=0, description="upper bound; each kind's own budget comes from its solutions")
    retained: str = Field("embedded", description="a SQuAD v1.1 file, or `embedded`")
    retained_limit: int = Field(0, ge=0, description="only the first so many reading questions; 0: all")
    reading_prompt: Literal["few-shot", "contest"] = "few-shot"
    dev_limit: int = Field(60, ge=0, description="dev problems and reading questions for scores during training")


class GateSection(Section):
    """How much of the retained ability must be proven."""

    threshold: float = Field(0.9, gt=0, le=1)
    resamples: int = Field(10_000, ge=1000)


class Recipe(Section):
    """A whole job."""

    name: str = "run"
    seed: int = 0
    model: ModelSection = ModelSection()
    data: DataSection
    prompt: PromptSection = PromptSection()
    adapter: AdapterSection = AdapterSection()
    train: TrainSection = TrainSection()
    score: ScoreSection = ScoreSection()
    gate: GateSection = GateSection()

    @model_validator(mode="after")
    def _trained_as_its_family_can_be(self) -> Recipe:
        family, train = self.adapter.family, self.train
        return _or_refuse(self, families.refused_training(family, train.loraplus_ratio, train.weight_decay))


def load(path: Path, overrides: tuple[str, ...] = ()) -> Recipe:
    """The recipe in the file at `path`, with `a.b=c` overrides applied.

    errors: RecipeError listing every fault at once, each with its place in the file.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path}: cannot read the recipe ({error.strerror}); check the path") from None
    except UnicodeDecodeError:
        raise RecipeError(f"{path}: not UTF-8 text; save the recipe as UTF-8") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2024-99-99
        raise RecipeError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(tree, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of sections (model, data, train, …)")
    for override in overrides:
        _set(tree, override)
    recipe = parse(tree, str(path))
    return _located(recipe, path.parent)


def parse(tree: dict[str, Any], where: str) -> Recipe:
    """The recipe that a mapping describes; `where` names it in errors."""
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        faults = "\n".join(f"  - {_describe(fault)}" for fault in error.errors())
        raise RecipeError(f"{where}: the recipe cannot be used:\n{faults}") from None


def dump(recipe: Recipe) -> str:
    """The complete recipe as YAML, defaults included: what a run stores and can be run from again."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def sha256(recipe: Recipe) -> str:
    """The hash of the complete recipe."""
    return hashlib.sha256(dump(recipe).encode()).hexdigest()


def _located(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe with its files named from the root: a run is resumed from wherever one stands."""

    def locate(name: str) -> str:
        return str((folder / Path(name).expanduser()).resolve())

    def files(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name if name.startswith("hf:") else locate(name) for name in names)

    def section(part: Section, **changes: Any) -> Section:
        return part.model_copy(update=changes)

    score, train, model = recipe.score, recipe.train, recipe.model
    changes = {
        "data": section(recipe.data, files=files(recipe.data.files), unseen=files(recipe.data.unseen)),
        "score": section(score, retained=score.retained if score.retained == "embedded" else locate(score.retained)),
        "train": section(train, replay=train.replay if train.replay == "embedded" else locate(train.replay)),
        "adapter": section(recipe.adapter, start=locate(recipe.adapter.start) if recipe.adapter.start else None),
        "model": section(model, name=locate(model.name) if model.name.startswith((".", "~")) else model.name),
    }
    return recipe.model_copy(update=changes)


def _set(tree: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise RecipeError(f"--set {override}: write it as section.key=value, e.g. --set train.epochs=2")
    *sections, last = key.split(".")
    node = tree
    for section in sections:
        node = node.setdefault(section, {})
        if not isinstance(node, dict):
            raise RecipeError(f"--set {override}: {section} is a value, not a section")
    try:
        node[last] = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(f"--set {override}: not valid YAML: {error}") from None


def _describe(fault: Any) -> str:
    place = ".".join(str(part) for part in fault["loc"])
    if fault["type"] != "extra_forbidden":
        message = fault["msg"].removeprefix("Value error, ")
        return f"{place}: {message}" if place else message
    known = _keys(fault["loc"][:-1])
    near = difflib.get_close_matches(str(fault["loc"][-1]), known, n=1, cutoff=0.5)
    advice = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
    return f"{place}: no such key; {advice}"


def _keys(place: tuple[Any, ...]) -> list[str]:
    section: type[BaseModel] = Recipe
    for part in place:
        annotation = section.model_fields[str(part)].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        section = next(o for o in options if isinstance(o, type) and issubclass(o, BaseModel))
    return list(section.model_fields)
