"""The sections of a recipe: every setting, its default and the values that it can have.

A fault of one setting, or of two that do not go together, is found here; recipe.py reads files and tells of faults.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from keeptune import families
from keeptune.errors import PromptError
from keeptune.prompt import named
from keeptune.skill.base import Halves, Rounding, Spelling, Style

Tracker = Literal["aim", "clearml", "comet_ml", "dvclive", "mlflow", "swanlab", "tensorboard", "trackio", "wandb"]
"""Those of Accelerate."""

Dtype = Literal["auto", "bfloat16", "float16", "float32"]
"""The number format of the frozen model; the adapter and its optimiser have float32. float16 is for accelerators
without bfloat16, such as Ascend 910A, V100 and T4."""

Quantization = Literal["int8", "nf4", "fp8"]
"""In what the frozen weights of linear layers are kept; model/quantised.py says what each is."""

Engine = Literal["torch", "mindspore"]
"""What trains. mindspore runs in a Python of its own (docs/mindspore.md); all else is done by torch in any case."""

RecomputePolicy = Literal["auto", "always", "never"]
"""Which batches compute their activations twice; auto: those that do not fit into what is free."""

Anchored = Literal["replay", "prompts"]
"""Where predictions are held near the base's: all tokens of replayed rows, or the prompts of the skill's own."""


REJECT_LIMIT = 0.01
"""The share of rows that may be bad, unless a recipe says otherwise."""


class Section(BaseModel):
    """A part of the recipe: no key that it does not know, no change after it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


AnySection = TypeVar("AnySection", bound=Section)


def or_refuse(section: AnySection, faults: list[str]) -> AnySection:
    """The section. errors: ValueError that lists all faults, where there are any."""
    if faults:
        raise ValueError("; ".join(faults))
    return section


def one_or_several(given: Any) -> Any:
    """A list, where one text alone was given."""
    return (given,) if isinstance(given, str) else given


class ModelSection(Section):
    """Which model is taught, and in which number format it computes."""

    name: str = Field(
        "smollm2-135m", description="a local folder, a MindSpore .ckpt, a Hugging Face id, or `smollm2-135m`"
    )
    dtype: Dtype = Field("auto", description="auto: bfloat16 where the machine multiplies it natively, else float32")
    quantization: Quantization | None = Field(
        None, description="frozen linear weights in 8 bits (int8; fp8 for Hopper) or 4 (nf4); none: as dtype says"
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
    reject_limit: float = Field(REJECT_LIMIT, ge=0, le=1, description="a larger share of rejected rows stops the run")
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


class PromptSection(Section):
    """The one text that surrounds a problem in training, scoring, asking and export."""

    template: str = Field(
        "Question: {problem}\nAnswer:\n",
        description="holds {problem} exactly once; or vicuna-alpaca, vicuna or alpaca, as the contest's kit asks",
    )

    @field_validator("template")
    @classmethod
    def _known(cls, template: str) -> str:
        try:
            return named.template(template)
        except PromptError as error:
            raise ValueError(str(error)) from None


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
        return or_refuse(self, faults)

    @model_serializer(mode="wrap")
    def _without_what_it_has_not(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A stored recipe can be run from again, so it must not hold what is refused."""
        return {option: value for option, value in plain(self).items() if option not in families.WITHOUT[self.family]}


class TrainSection(Section):
    """How the adapter learns. All amounts are in tokens, because rows differ in length."""

    epochs: float = Field(1.0, gt=0)
    tokens_per_step: int = Field(2048, gt=0, description="useful tokens an optimiser step, prompt and solution")
    tokens_per_batch: int = Field(512, gt=0, description="padded tokens that go through the model at once")
    recompute: RecomputePolicy = Field(
        "auto",
        description="compute activations twice, in less memory; auto: where a batch would not fit otherwise",
    )
    tokens: int | None = Field(None, gt=0, description="useful tokens in all, replay included, in place of epochs")
    optimizer: Literal["adamw", "mindformers"] = Field(
        "adamw", description="mindformers: Adam without bias correction, and a warm-up from zero, as MindFormers trains"
    )
    learning_rate: float = Field(1e-3, gt=0, le=1e30)
    loraplus_ratio: float = Field(
        1.0, gt=0, description="LoRA+: the learning rate of B over that of A; its paper takes 16"
    )
    final_rate_share: float = Field(0.0, ge=0, le=1, description="share of the rate that the cosine ends on")
    warmup_share: float = Field(0.05, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    openings: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        {}, description="share of a kind's rows, by kind, that are trained only up to a random place"
    )
    replay_share: float = Field(0.1, ge=0, lt=1, description="share of the tokens that practises what is to be kept")
    replay: tuple[str, ...] = Field(
        ("embedded",),
        min_length=1,
        description="SQuAD files (.json) or plain text to practise on, or `embedded`, each for the same share",
    )
    kl_weight: float = Field(
        0.0,
        ge=0,
        description="what a nat of divergence from the base counts beside a nat of loss; 0: not computed",
    )
    kl_on: Anchored = Field(
        "replay", description="where predictions are held near the base's: on replayed rows, or on the skill's prompts"
    )
    score_every_steps: int = Field(0, ge=0, description="score dev by generation at this interval; 0: only at the end")
    patience: int = Field(
        0, ge=0, description="end the training when so many dev scores in a row brought nothing better; 0: never"
    )
    checkpoint_every_steps: int = Field(50, gt=0)
    trackers: tuple[Tracker, ...] = Field(
        ("tensorboard",), description="who shows the training while it runs, in RUN/tracking or on a server of theirs"
    )
    shard: bool = Field(False, description="with several processes: divide the frozen base model over them")

    @field_validator("replay", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        return one_or_several(given)

    @model_validator(mode="after")
    def _patient_with_scores(self) -> TrainSection:
        if self.patience and not self.score_every_steps:
            raise ValueError("train.patience counts scores during training; set train.score_every_steps as well")
        return self

    @model_validator(mode="after")
    def _held_somewhere(self) -> TrainSection:
        if self.kl_weight and self.kl_on == "replay" and not self.replay_share:
            raise ValueError(
                "train.kl_on: replay is for replayed rows; set train.replay_share, or train.kl_on: prompts"
            )
        return self

    def epochs_of(self, tokens: int) -> float:
        """How often rows of so many tokens are gone through."""
        return self.epochs if self.tokens is None else self.tokens / tokens


class ScoreSection(Section):
    """What is scored, base and tuned alike."""

    retained: str = Field("embedded", description="a SQuAD v1.1 file, or `embedded`")
    retained_limit: int = Field(0, ge=0, description="only the first so many reading questions; 0: all")
    reading_prompt: Literal["few-shot", "contest"] = "few-shot"
    both_prompts: bool = Field(
        False,
        description="ask the reading questions under the other reading prompt, too; it takes their time once more, and "
        "the gate rests on reading_prompt alone",
    )
    tasks: tuple[str, ...] = Field(
        (), description="tasks of lm-evaluation-harness that have to be kept as well (pip install 'keeptune[harness]')"
    )
    tasks_limit: int = Field(0, ge=0, description="only the first so many questions of each task; 0: all")
    tasks_path: str | None = Field(None, description="a folder with task files of your own")
    dev_limit: int = Field(60, ge=0, description="dev problems and reading questions for scores during training")
    general: tuple[str, ...] = Field(
        ("embedded",),
        description="files of plain text, or `embedded`, for the loss on general text and the divergence from the "
        "base; empty: neither is measured",
    )
    general_limit: int = Field(0, ge=0, description="only the first so many texts, which empty lines part; 0: all")

    @field_validator("general", "tasks", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        return one_or_several(given)


class SelectSection(Section):
    """What is chosen among on dev questions, besides the checkpoints that were scored during training."""

    kept_weight: float = Field(
        0.0,
        ge=0,
        description="what a share of the reading kept counts beside a share of skill questions right, among what "
        "keeps enough; 0: skill alone",
    )
    scales: tuple[Annotated[float, Field(gt=0, le=2)], ...] = Field(
        (), description="shares of the adapter's change to try besides the whole, e.g. [0.25, 0.5, 0.75, 1.25]"
    )


class GateSection(Section):
    """How much of the retained ability must be proven."""

    threshold: float = Field(0.9, gt=0, le=1)
    resamples: int = Field(10_000, ge=1000)
