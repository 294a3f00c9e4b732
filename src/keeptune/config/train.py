"""The section `train` of a recipe: amounts, optimizer, batches, checkpoints."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from keeptune.config.section import Section

Tracker = Literal["aim", "clearml", "comet_ml", "dvclive", "mlflow", "swanlab", "tensorboard", "trackio", "wandb"]
"""The experiment trackers that Accelerate supports."""

Engine = Literal["torch", "mindspore"]
"""The training engine. MindSpore only trains, in a separate Python environment; see docs/tutorials/mindspore.md."""

CheckpointingPolicy = Literal["auto", "always", "never"]
"""Which batches use activation checkpointing; `auto`: those that do not fit into the free memory otherwise."""


class TrainSection(Section):
    """How the adapter is trained. Amounts are in tokens, because the rows differ in length."""

    epochs: float = Field(
        1.0, gt=0, le=100_000, description="passes over the training rows; `train.tokens` replaces it"
    )
    tokens_per_step: int = Field(
        2048, gt=0, le=10**9, description="non-padding tokens per optimizer step, prompt and solution included"
    )
    tokens_per_batch: int = Field(
        512,
        gt=0,
        le=10**9,
        description="most tokens per forward pass, padding included, unless one row is longer; it changes memory and "
        "speed, but no step",
    )
    activation_checkpointing: CheckpointingPolicy = Field(
        "auto",
        description="recompute activations in the backward pass to save memory; `auto`: only for batches that do not "
        "fit otherwise",
    )
    tokens: int | None = Field(
        None, gt=0, le=10**13, description="total non-padding training tokens, replay included; replaces `train.epochs`"
    )
    optimizer: Literal["adamw", "mindformers"] = Field(
        "adamw",
        description="`mindformers`: Adam without bias correction and with a warm-up from zero, as MindFormers trains",
    )
    learning_rate: float = Field(1e-3, gt=0, le=1e30, description="peak learning rate")
    loraplus_ratio: float = Field(
        1.0, gt=0, le=10**9, description="LoRA+: learning rate of B divided by that of A; the paper uses 16"
    )
    final_rate_share: float = Field(
        0.0, ge=0, le=1, description="final learning rate of the cosine schedule as a share of the peak"
    )
    warmup_share: float = Field(0.05, ge=0, lt=1, description="share of the steps with linear warm-up")
    weight_decay: float = Field(0.0, ge=0, le=10**6, description="decoupled weight decay of AdamW")
    clip_norm: float = Field(1.0, gt=0, le=1e30, description="maximum L2 norm of the gradient")
    step_weight: Literal["one", "tokens"] = Field(
        "one",
        description="weight of a step's gradient: `one` weighs all steps equally, `tokens` weighs a step by its "
        "tokens (a row can be longer than `train.tokens_per_step`)",
    )
    truncate_targets: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        {}, description="per kind, the share of rows whose solution is truncated at a random token in training"
    )
    score_every_steps: int = Field(
        0, ge=0, le=10**9, description="steps between evaluations on dev; 0 evaluates only at the end of training"
    )
    patience: int = Field(
        0,
        ge=0,
        le=10**9,
        description="stop after this number of consecutive dev evaluations without improvement; 0: never",
    )
    checkpoint_every_steps: int = Field(50, gt=0, le=10**9, description="steps between checkpoints")
    trackers: tuple[Tracker, ...] = Field(
        ("tensorboard",), description="experiment trackers; they write to RUN/tracking or to a server"
    )
    shard: bool = Field(False, description="with several processes: shard the frozen base model over them")

    @model_validator(mode="after")
    def _check_patience(self) -> TrainSection:
        if self.patience and not self.score_every_steps:
            raise ValueError("train.patience counts dev evaluations during training; set train.score_every_steps > 0")
        return self

    def epochs_of(self, tokens: int) -> float:
        """Returns the number of passes over rows that have `tokens` tokens in total."""
        return self.epochs if self.tokens is None else self.tokens / tokens
