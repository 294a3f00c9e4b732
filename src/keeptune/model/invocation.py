"""Where an activated LoRA acts: from its invocation tokens on, and nowhere before (arXiv 2504.12397).

The rule is PEFT's and vLLM's: in each row, from the first token of the last occurrence of the invocation on; where it
does not occur, the base answers bit for bit. So the keys and values of everything before it are the base's own.

The mask is worked out from the tokens by a hook before each pass of the decoder. A pass that does not see whole rows
(slots of a cache, rows laid end to end) is told; one that goes on with the rows of the pass before, as transformers'
`generate` does, goes on with what held at their end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from keeptune.errors import ModelError

ARGUMENT = "invoked_at"
"""What a pass of the decoder is given that does not see whole rows: which of its tokens the adapter acts on."""


class Invocation:
    """The tokens that invoke an adapter, and on which tokens of the present forward pass it acts.

    shape: active (rows, tokens), or None where it acts on none.
    """

    def __init__(self, tokens: Sequence[int]) -> None:
        self.tokens = tuple(tokens)
        self.active: Tensor | None = None
        self._at_the_end: Tensor | None = None

    def start(self, row: Sequence[int]) -> int | None:
        """The place from which the adapter acts on a row; None: nowhere."""
        length = len(self.tokens)
        for place in range(len(row) - length, -1, -1):
            if tuple(row[place : place + length]) == self.tokens:
                return place
        return None

    def mask(self, ids: Tensor) -> Tensor:
        """Which tokens the adapter acts on. shapes: ids, result (rows, tokens)."""
        length, width = len(self.tokens), ids.shape[1]
        if width < length:
            return torch.zeros_like(ids, dtype=torch.bool)
        wanted = torch.tensor(self.tokens, device=ids.device)
        begins = (ids.unfold(1, length, 1) == wanted).all(-1)
        places = torch.arange(width - length + 1, device=ids.device)
        last = torch.where(begins, places, -1).amax(1, keepdim=True)
        return (torch.arange(width, device=ids.device) >= last) & (last >= 0)

    def before_the_pass(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """The hook: takes what the pass was told, or works it out.

        Raises:
            ModelError: where there is nothing to work it out from.
        """
        told = kwargs.pop(ARGUMENT, None)
        if told is None:
            told = self._worked_out(kwargs.get("input_ids", args[0] if args else None), kwargs.get("past_key_values"))
        self._at_the_end = told[:, -1]
        self.active = told if bool(told.any()) else None
        return args, kwargs

    def _worked_out(self, ids: Tensor | None, past: Any) -> Tensor:
        if ids is not None and (past is None or not past.get_seq_length()):
            return self.mask(ids)
        if ids is None or self._at_the_end is None or len(self._at_the_end) != len(ids):
            raise ModelError(
                "an adapter with an invocation acts on some tokens only, and this pass shows neither whole rows nor "
                f"those of the pass before; pass `{ARGUMENT}`, which tokens it acts on"
            )
        return self._at_the_end[:, None].expand_as(ids)


def install(tuned: Any, causal: Any) -> None:
    """Makes the adapter of `tuned`, whose layers run the fused product, act where it is invoked. `causal` is the model
    that it was put into. Of an adapter that always acts nothing changes."""
    tokens = getattr(tuned.peft_config["default"], "alora_invocation_tokens", None)
    if not tokens:
        return
    invocation = Invocation(tokens)
    for module in tuned.modules():
        if hasattr(module, "lora_A"):
            module.__dict__["invocation"] = invocation
    causal.__dict__["invocation"] = invocation
    causal.__dict__["invocation_hook"] = causal.get_decoder().register_forward_pre_hook(
        invocation.before_the_pass, with_kwargs=True
    )


def uninstall(causal: Any) -> None:
    """Takes the hook away again, with the adapter."""
    causal.__dict__.pop("invocation", None)
    if hook := causal.__dict__.pop("invocation_hook", None):
        hook.remove()


def invocation_of(module: Any) -> Invocation | None:
    """That of a LoRA layer, or of the adapter in a causal model; None where it always acts, or there is none."""
    found: Invocation | None = module.__dict__.get("invocation")
    return found


def told(causal: Any, active: Tensor) -> dict[str, Tensor]:
    """What a pass of the decoder is given besides, where the adapter has to be told on which tokens it acts."""
    return {} if invocation_of(causal) is None else {ARGUMENT: active}
