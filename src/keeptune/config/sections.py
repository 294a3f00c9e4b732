"""The sections of a recipe: every setting, its default and the values that it can have; `data` has a file of its own.

A fault of one setting, or of two that do not go together, is found here; recipe.py reads files and tells of faults.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from keeptune.config import families
from keeptune.config.ability_names import unknown_name
from keeptune.config.section import Section, one_or_several, or_refuse
from keeptune.errors import PromptError
from keeptune.prompts import named

Tracker = Literal["aim", "clearml", "comet_ml", "dvclive", "mlflow", "swanlab", "tensorboard", "trackio", "wandb"]
"""Those of Accelerate."""

Dtype = Literal["auto", "bfloat16", "float16", "float32"]
"""The number format of the frozen model; the adapter and its optimiser have float32. float16 is for accelerators
without bfloat16, such as Ascend 910A, V100 and T4."""

Quantization = Literal["int8", "nf4", "fp8"]
"""In what the frozen weights of linear layers are kept; model/quantised.py says what each is."""

Engine = Literal["torch", "mindspore"]
"""What trains. mindspore runs in a Python of its own (docs/mindspore.md); all else is done by torch in any case."""

CheckpointingPolicy = Literal["auto", "always", "never"]
"""Which batches compute their activations twice; auto: those that do not fit into what is free."""


class ModelSection(Section):
    """Which model is taught, and in which number format it computes."""

    name: str = Field(
        "smollm2-135m", description="a local folder, a MindSpore .ckpt, a Hugging Face id, or `smollm2-135m`"
    )
    dtype: Dtype = Field("auto", description="auto: bfloat16 where the machine multiplies it natively, else float32")
    quantization: Quantization | None = Field(
        None, description="frozen linear weights in 8 bits (int8; fp8 for Hopper) or 4 (nf4); none: as dtype says"
    )


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

    @property
    def is_plain_lora(self) -> bool:
        """Whether each layer adds one low-rank product and nothing else."""
        return self.family in ("lora", "rslora") and not self.dropout

    @model_serializer(mode="wrap")
    def _without_what_it_has_not(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A stored recipe can be run from again, so it must not hold what is refused."""
        return {option: value for option, value in plain(self).items() if option not in families.WITHOUT[self.family]}


class TrainSection(Section):
    """How the adapter learns. All amounts are in tokens, because rows differ in length."""

    epochs: float = Field(1.0, gt=0)
    tokens_per_step: int = Field(2048, gt=0, description="useful tokens an optimiser step, prompt and solution")
    tokens_per_batch: int = Field(512, gt=0, description="padded tokens that go through the model at once")
    activation_checkpointing: CheckpointingPolicy = Field(
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
    step_weight: Literal["one", "tokens"] = Field(
        "one",
        description="what a step counts: as much as any other, or by its tokens, for a row may be longer than a step",
    )
    truncate_targets: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        {}, description="share of a kind's rows, by kind, that are trained only up to a random place"
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

    @model_validator(mode="after")
    def _patient_with_scores(self) -> TrainSection:
        if self.patience and not self.score_every_steps:
            raise ValueError("train.patience counts scores during training; set train.score_every_steps as well")
        return self

    def epochs_of(self, tokens: int) -> float:
        """How often rows of so many tokens are gone through."""
        return self.epochs if self.tokens is None else self.tokens / tokens


Abilities = tuple[str, ...]


def _known_abilities(names: Iterable[str]) -> None:
    if fault := unknown_name(names):
        raise ValueError(fault)


class ScoreSection(Section):
    """What is scored, base and tuned alike."""

    suite: Literal["none", "quick", "standard", "full"] = Field(
        "standard", description="how much of the retention suite base and tuned are evaluated on; none: nothing of it"
    )
    abilities: Abilities = Field(("all",), description="abilities of the suite to evaluate, or `all`")
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

    @field_validator("abilities", "general", "tasks", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        return one_or_several(given)

    @field_validator("abilities")
    @classmethod
    def _known(cls, names: Abilities) -> Abilities:
        _known_abilities(names)
        return names


Average = Annotated[str, Field(pattern=r"^(ema|last-([2-9]|[1-9][0-9]+))$")]
"""`ema`, or `last-k` with k ≥ 2."""


class SelectSection(Section):
    """What is chosen among on dev questions, besides the checkpoints that were scored during training."""

    retention_weight: float = Field(
        0.0,
        ge=0,
        description="what a share of the reading kept counts beside a share of skill questions right, among what "
        "keeps enough; 0: skill alone",
    )
    scales: tuple[Annotated[float, Field(gt=0, le=2)], ...] = Field(
        (), description="shares of the adapter's change to try besides the whole, e.g. [0.25, 0.5, 0.75, 1.25]"
    )
    averages: tuple[Average, ...] = Field(
        (), description="averages of checkpoints to try: ema, or last-k for the mean of the last k, e.g. [last-3, ema]"
    )

    @property
    def compares(self) -> bool:
        """Whether scales or averages are candidates."""
        return bool(self.scales or self.averages)


Share = Annotated[float, Field(gt=0, le=1)]
Nats = Annotated[float, Field(ge=0)]


class GateSection(Section):
    """How much may be lost, and of which abilities. `gate: contest` is short for `gate: {policy: contest}`."""

    policy: Literal["suite", "contest"] = Field(
        "suite",
        description="suite: every counted ability of the retention suite; contest: SQuAD F1 and EM alone, as the "
        "contest decided",
    )
    threshold: Share = Field(0.9, description="lower bound of tuned / base that every score must reach")
    margin: Nats = Field(0.10, description="upper bound of the growth of every loss, in nats per token")
    thresholds: dict[str, Share] = Field({}, description="other thresholds, by ability")
    margins: dict[str, Nats] = Field({}, description="other margins, by ability")
    counted: Abilities = Field(("all",), description="abilities that decide; the others are only reported")
    resamples: int = Field(10_000, ge=1000, le=1_000_000)

    @model_validator(mode="before")
    @classmethod
    def _named_policy(cls, given: Any) -> Any:
        return {"policy": given} if isinstance(given, str) else given

    @field_validator("counted", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        return one_or_several(given)

    @model_validator(mode="after")
    def _known(self) -> GateSection:
        _known_abilities((*self.counted, *self.thresholds, *self.margins))
        return self
