"""The section `retain` of a recipe: how training keeps the abilities that it does not train."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from keeptune.config.section import Section, StringTuple

KlTokens = Literal["replay", "prompts", "non_target"]
"""The tokens with the KL term: replayed rows, the prompts of the skill, or the non-target part of its solutions."""

ReplayTarget = Literal["tokens", "distribution"]
"""What replayed rows train: their tokens, or the base's distribution."""

TokenWeighting = Literal["none", "dft", "eaft", "low_perplexity"]
"""Weight of a solution token in the loss; keeptune.training.token_weights has the formulas."""

Activation = Literal["always", "invoked"]
"""Where the adapter acts: on every token, or after its invocation (activated LoRA, arXiv 2504.12397)."""

SELF = "self"
"""The value of `retain.replay` for the base model's own answers."""

ON_POLICY = "on_policy"
"""The value of `retain.replay` for the answers of the adapter in `adapter.start`."""

WRITTEN = (SELF, ON_POLICY)
"""The sources in `retain.replay` that are written by a model before training."""


class RetainSection(Section):
    """How training keeps other abilities. docs/how-to/retain-abilities.md compares the methods and their cost."""

    activation: Activation = Field(
        "always",
        description="where the adapter acts: `always` on every token, or `invoked`, only from `retain.invocation` on",
    )
    invocation: str | None = Field(
        None,
        min_length=1,
        description="text that activates the adapter; `prompt.template` must contain it before `{problem}`",
    )
    replay: StringTuple = Field(
        ("embedded",),
        min_length=1,
        description="sources of replayed rows: SQuAD files (`.json`), plain-text files, `embedded` (reading), `self` "
        "(the base's own answers to a pool of prompts), or `on_policy` (those of `adapter.start`); each gets the same "
        "share",
    )
    replay_share: float = Field(
        0.1, ge=0, lt=1, description="share of replayed rows in the training tokens; 0 by default with `invoked`"
    )
    replay_target: ReplayTarget = Field(
        "tokens",
        description="what replayed rows train: their tokens (cross-entropy), or the base's `distribution` (the KL "
        "term alone, which is less noisy)",
    )
    kl_weight: float = Field(
        0.0,
        ge=0,
        le=10**6,
        description="weight of the KL(base ‖ tuned) term relative to the cross-entropy loss; 0 disables it",
    )
    kl_budget: float | None = Field(
        None,
        gt=0,
        le=10**6,
        description="divergence to hold, in nats per token: each step adapts the weight, which begins at `kl_weight`; "
        "null keeps the weight",
    )
    kl_tokens: KlTokens = Field(
        "replay",
        description="tokens with the KL term: replayed rows (`replay`), the skill's prompts (`prompts`), or its "
        "solutions without the target token (`non_target`)",
    )
    token_weighting: TokenWeighting = Field(
        "none",
        description="weight of a solution token in the loss: `dft` its probability, `eaft` the normalized entropy of "
        "the prediction, `low_perplexity` 0 where the base finds the token unlikely and 1 elsewhere",
    )

    project_start: float = Field(
        0.0,
        ge=0,
        le=10**6,
        description="strength of a projection, before training, of the adapter in `adapter.start` away from the "
        "inputs of replayed rows; 0 disables it",
    )

    @model_validator(mode="before")
    @classmethod
    def _disable_replay_when_invoked(cls, values: Any) -> Any:
        """Sets the default share to 0 for an invoked adapter, which does not act on replayed rows."""
        if isinstance(values, dict) and values.get("activation") == "invoked":
            return {"replay_share": 0.0, **values}
        return values

    @model_validator(mode="after")
    def _check_invocation(self) -> RetainSection:
        if (self.activation == "invoked") != (self.invocation is not None):
            raise ValueError(
                "retain.activation: invoked and retain.invocation (the text that activates the adapter) need each "
                "other; set both or neither"
            )
        if self.activation == "invoked" and (self.replay_share or (self.kl_weight and self.kl_tokens == "replay")):
            raise ValueError(
                "retain.activation: invoked turns the adapter off on replayed rows, so they train nothing; "
                "remove retain.replay_share and retain.kl_weight"
            )
        return self

    @model_validator(mode="after")
    def _check_kl(self) -> RetainSection:
        if self.kl_weight and self.kl_tokens == "replay" and not self.replay_share:
            raise ValueError(
                "retain.kl_tokens: replay needs replayed rows; set retain.replay_share > 0 or retain.kl_tokens: prompts"
            )
        if self.kl_budget is not None and not self.kl_weight:
            raise ValueError("retain.kl_budget adapts the weight of the KL term; set retain.kl_weight to its start")
        if self.replay_target == "distribution" and not (self.kl_weight and self.kl_tokens == "replay"):
            raise ValueError(
                "retain.replay_target: distribution trains with the KL term on replayed rows; set "
                "retain.kl_weight > 0 and retain.kl_tokens: replay"
            )
        return self

    @model_validator(mode="after")
    def _check_on_policy(self) -> RetainSection:
        if self.replays(ON_POLICY) and self.replay_target != "distribution":
            raise ValueError(
                "retain.replay: on_policy has answers of a model that has moved, which must not be learned; set "
                "retain.replay_target: distribution"
            )
        return self

    def replays(self, source: str) -> bool:
        """Whether training replays rows of this source."""
        return self.replay_share > 0 and source in self.replay
