"""Activated LoRA: the adapter acts from its invocation tokens on, and nowhere before (arXiv 2504.12397).

The rule is that of PEFT. In each row, the adapter acts from the first token of the last occurrence of the invocation.
Rows without the invocation get the base model bit for bit. Keys and values before the invocation are the base's.

A hook computes the mask from the tokens before each forward pass of the decoder. Forward passes over partial rows
(slots of a cache, packed rows) get the mask as an argument. A pass that continues the rows of the previous pass, as in
`generate` of transformers, continues the state at their last token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from keeptune.errors import ModelError
from keeptune.prompts.invocation import last_occurrence

MASK_ARGUMENT = "adapter_mask"
"""The keyword argument of the decoder for forward passes over partial rows: on which tokens the adapter acts."""


class Invocation:
    """The invocation tokens of an adapter, and its mask in the current forward pass.

    Attributes:
        tokens: the invocation tokens.
        active: the tokens on which the adapter acts, of shape `(rows, tokens)`; None if it acts on no token.
    """

    def __init__(self, tokens: Sequence[int]) -> None:
        self.tokens = tuple(tokens)
        self.active: Tensor | None = None
        self._last_active: Tensor | None = None

    def start(self, row: Sequence[int]) -> int | None:
        """The first position of a row at which the adapter acts; None if the row does not invoke it."""
        return last_occurrence(row, self.tokens)

    def mask(self, ids: Tensor) -> Tensor:
        """The tokens on which the adapter acts. Both `ids` and the result have the shape `(rows, tokens)`."""
        length, width = len(self.tokens), ids.shape[1]
        if width < length:
            return torch.zeros_like(ids, dtype=torch.bool)
        pattern = torch.tensor(self.tokens, device=ids.device)
        is_start = (ids.unfold(1, length, 1) == pattern).all(-1)
        positions = torch.arange(width - length + 1, device=ids.device)
        last = torch.where(is_start, positions, -1).amax(1, keepdim=True)
        return (torch.arange(width, device=ids.device) >= last) & (last >= 0)

    def pre_forward_hook(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """Sets the mask of a forward pass, from its argument or from its tokens.

        Raises:
            ModelError: if the mask follows from neither.
        """
        mask = kwargs.pop(MASK_ARGUMENT, None)
        if mask is None:
            mask = self._infer_mask(kwargs.get("input_ids", args[0] if args else None), kwargs.get("past_key_values"))
        self._last_active = mask[:, -1]
        self.active = mask if bool(mask.any()) else None
        return args, kwargs

    def _infer_mask(self, ids: Tensor | None, past: Any) -> Tensor:
        if ids is not None and (past is None or not past.get_seq_length()):
            return self.mask(ids)
        if ids is None or self._last_active is None or len(self._last_active) != len(ids):
            raise ModelError(
                "an adapter with an invocation needs whole rows, or the rows of the previous forward pass, to know "
                f"where it acts; pass `{MASK_ARGUMENT}` to the decoder"
            )
        return self._last_active[:, None].expand_as(ids)


def install(tuned: Any, causal: Any) -> None:
    """Installs the hook if the adapter of `tuned` has invocation tokens. Its layers must run the fused product.

    `causal` is the causal model inside `tuned`.

    Raises:
        ModelError: if the invocation contains token 0, which pads rows.
    """
    tokens = invocation_of_config(tuned)
    if not tokens:
        return
    if 0 in tokens:
        raise ModelError(
            f"the invocation tokens {tokens} contain token 0, which pads rows; use an adapter with another invocation"
        )
    invocation = Invocation(tokens)
    for module in tuned.modules():
        if hasattr(module, "lora_A"):
            module.__dict__["invocation"] = invocation
    causal.__dict__["invocation"] = invocation
    causal.__dict__["invocation_hook"] = causal.get_decoder().register_forward_pre_hook(
        invocation.pre_forward_hook, with_kwargs=True
    )


def invocation_of_config(tuned: Any) -> list[int]:
    """The invocation tokens in PEFT's configuration of an adapter; empty if it always acts."""
    return list(getattr(tuned.peft_config["default"], "alora_invocation_tokens", None) or [])


def uninstall(causal: Any) -> None:
    """Removes the hook."""
    causal.__dict__.pop("invocation", None)
    if hook := causal.__dict__.pop("invocation_hook", None):
        hook.remove()


def invocation_of(module: Any) -> Invocation | None:
    """The invocation of a LoRA layer or a causal model; None if the adapter always acts."""
    invocation: Invocation | None = module.__dict__.get("invocation")
    return invocation
