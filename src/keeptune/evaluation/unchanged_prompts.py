"""Checks that an adapter with an invocation does not change prompts without it, not by a bit.

It holds by construction: without the invocation, nothing is added to any layer. The check runs the stored adapter on
prompts of the retention suite.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from keeptune.errors import ModelError
from keeptune.evaluation.abilities.registry import ABILITIES
from keeptune.evaluation.overlap import texts_in
from keeptune.models.adapters import causal_model, scaled
from keeptune.prompts.chat import ChatLayout, Message
from keeptune.prompts.invocation import last_occurrence
from keeptune.training.batches import make_batches
from keeptune.training.forward import hidden_states

Record = dict[str, Any]

PROMPTS = 600
"""Number of prompts of the suite that are compared."""

_TOKENS = 256
"""The most tokens of a prompt that are compared."""

_BATCH_TOKENS = 2_048


def suite_prompts(layout: ChatLayout, prompts: int = PROMPTS) -> list[tuple[str, list[int]]]:
    """The names and tokens of `prompts` items, evenly spaced over all abilities, each in a user turn."""
    every = [
        (f"{ability.name}/{stated['id']}", "\n".join(texts_in([own for key, own in stated.items() if key != "id"])))
        for ability in ABILITIES.values()
        for stated in map(ability.stated, ability.items("final", "standard"))
    ]
    chosen = [every[len(every) * number // prompts] for number in range(min(prompts, len(every)))]
    asked = ((name, layout.conversation([Message(role="user", content=text)])) for name, text in chosen)
    return [(name, layout.tokens(text)) for name, text in asked]


def require_uninvoked(prompts: Sequence[tuple[str, list[int]]], invocation: Sequence[int]) -> None:
    """Raises ModelError if a prompt contains the invocation."""
    if called := [name for name, tokens in prompts if last_occurrence(tokens, invocation) is not None]:
        raise ModelError(f"retain.invocation: it stands in {called[0]} of the retention suite; choose a rarer text")


@torch.inference_mode()
def state_differences(model: Any, prompts: Sequence[tuple[str, list[int]]]) -> list[Record]:
    """The largest difference that the adapter makes to a last hidden state, per prompt."""
    found: dict[int, Record] = {}
    prompts = [(name, tokens[:_TOKENS]) for name, tokens in prompts]
    lengths = [len(tokens) for _, tokens in prompts]
    for batch in make_batches(sorted(range(len(prompts)), key=lengths.__getitem__), lengths, _BATCH_TOKENS):
        rows = [prompts[index][1] for index in batch]
        tuned = hidden_states(causal_model(model), rows)
        with scaled(model, 0.0):
            base = hidden_states(causal_model(model), rows)
        for place, index in enumerate(batch):
            own = slice(lengths[index])
            difference = float((tuned[place, own].float() - base[place, own].float()).abs().max())
            found[index] = {"id": prompts[index][0], "tokens": lengths[index], "difference": difference}
    return [found[index] for index in range(len(prompts))]


def summary(records: Sequence[Record], invocation: str) -> Record:
    """The number of prompts that were compared and that differ."""
    differing = sum(record["difference"] != 0 for record in records)
    return {"invocation": invocation, "prompts": len(records), "differing": differing}
