"""The section `retain` of a recipe: what keeps the abilities that training does not practise."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from keeptune.config.section import Section, one_or_several

KlTokens = Literal["replay", "prompts", "non_target"]
"""Where predictions are held near the base's: on replayed rows, on the skill's prompts, or on the skill's solutions,
there without the token that is taught."""

ReplayTarget = Literal["tokens", "distribution"]
"""What replayed rows teach."""

TokenWeighting = Literal["none", "dft", "eaft", "low_perplexity"]
"""What a token of a solution counts in the loss; train/token_weights.py has the formulas."""

Activation = Literal["always", "invoked"]
"""Where the adapter acts: on every token, or from its invocation on (activated LoRA, arXiv 2504.12397)."""

SELF = "self"
"""The source of `retain.replay` that is the base model's own answers."""


class RetainSection(Section):
    """How the abilities that are not taught are kept. docs/retaining.md says when to use what, and what it costs."""

    activation: Activation = Field(
        "always", description="where the adapter acts: always, or invoked: only from its invocation on"
    )
    invocation: str | None = Field(
        None, min_length=1, description="the text that invokes the adapter; prompt.template holds it before {problem}"
    )
    replay: tuple[str, ...] = Field(
        ("embedded",),
        min_length=1,
        description="SQuAD files (.json) or plain text to practise on, `embedded` (reading), or `self` (the base's own "
        "answers to a pool of prompts), each for the same share",
    )
    replay_share: float = Field(
        0.1, ge=0, lt=1, description="share of the tokens that practises what is to be kept; of invoked adapters 0"
    )
    replay_target: ReplayTarget = Field(
        "tokens",
        description="what replayed rows teach: their tokens, or the base's distribution alone, which retain.kl_weight "
        "holds and which has less noise",
    )
    kl_weight: float = Field(
        0.0,
        ge=0,
        description="what a nat of divergence from the base counts beside a nat of loss; 0: not computed",
    )
    kl_tokens: KlTokens = Field(
        "replay",
        description="where predictions are held near the base's: on replayed rows, on the skill's prompts, or on its "
        "solutions without the taught token (non_target)",
    )
    token_weighting: TokenWeighting = Field(
        "none",
        description="what a token of a solution counts: dft its probability, eaft its entropy, low_perplexity "
        "nothing where the base finds it unlikely",
    )

    project_start: float = Field(
        0.0,
        ge=0,
        description="how strongly the adapter in adapter.start is first projected away from the inputs of replayed "
        "rows; 0: not at all",
    )

    @field_validator("replay", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        return one_or_several(given)

    @model_validator(mode="before")
    @classmethod
    def _nothing_to_replay_outside(cls, given: Any) -> Any:
        """An invoked adapter does not act on replayed rows, so by default there are none."""
        if isinstance(given, dict) and given.get("activation") == "invoked":
            return {"replay_share": 0.0, **given}
        return given

    @model_validator(mode="after")
    def _invoked_by_something(self) -> RetainSection:
        if (self.activation == "invoked") != (self.invocation is not None):
            raise ValueError(
                "retain.activation: invoked and retain.invocation, the text that invokes the adapter, go together; "
                "give both or neither"
            )
        if self.activation == "invoked" and (self.replay_share or (self.kl_weight and self.kl_tokens == "replay")):
            raise ValueError(
                "retain.activation: invoked leaves the base as it is on replayed rows, which teach nothing then; "
                "leave retain.replay_share and retain.kl_weight out"
            )
        return self

    @model_validator(mode="after")
    def _held_somewhere(self) -> RetainSection:
        if self.kl_weight and self.kl_tokens == "replay" and not self.replay_share:
            raise ValueError(
                "retain.kl_tokens: replay is for replayed rows; set retain.replay_share, or retain.kl_tokens: prompts"
            )
        if self.replay_target == "distribution" and not (self.kl_weight and self.kl_tokens == "replay"):
            raise ValueError(
                "retain.replay_target: distribution is taught by the divergence on replayed rows; set "
                "retain.kl_weight above 0 and retain.kl_tokens: replay"
            )
        return self

    @property
    def replays_self(self) -> bool:
        """Whether training replays the base model's own answers."""
        return self.replay_share > 0 and SELF in self.replay
