"""Checks that an adapter with an invocation leaves prompts without it unchanged, bit for bit.

This holds by construction: without the invocation, nothing is added to any layer. The check runs the stored adapter on
prompts of the retention suite.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from keeptune.errors import ModelError
from keeptune.evaluation.abilities.registry import ABILITIES
from keeptune.evaluation.overlap import texts_in
from keeptune.files import Record
from keeptune.models.adapters import causal_model, scaled
from keeptune.prompts.chat import ChatLayout, Message
from keeptune.prompts.invocation import last_occurrence
from keeptune.training.batches import make_batches
from keeptune.training.forward import hidden_states

PROMPTS = 600
"""Number of prompts that are compared."""

_TOKENS = 256
"""Maximum number of tokens that are compared per prompt."""

_BATCH_TOKENS = 2_048


def suite_prompts(layout: ChatLayout, prompts: int = PROMPTS) -> list[tuple[str, list[int]]]:
    """The names and tokens of `prompts` items, evenly spaced over all abilities, each in a user turn."""
    items = [
        (f"{ability.name}/{fields['id']}", "\n".join(texts_in([v for key, v in fields.items() if key != "id"])))
        for ability in ABILITIES.values()
        for fields in map(ability.item_fields, ability.items("final", "standard"))
    ]
    selected = [items[len(items) * number // prompts] for number in range(min(prompts, len(items)))]
    rendered = ((name, layout.conversation([Message(role="user", content=text)])) for name, text in selected)
    return [(name, layout.tokens(text)) for name, text in rendered]


def check_uninvoked(prompts: Sequence[tuple[str, list[int]]], invocation: Sequence[int]) -> None:
    """Checks that no prompt contains the invocation.

    Raises:
        ModelError: if one does.
    """
    invoking = [name for name, tokens in prompts if last_occurrence(tokens, invocation) is not None]
    if invoking:
        raise ModelError(
            f"retain.invocation: this text occurs in {invoking[0]} of the retention suite; choose a rarer text"
        )


@torch.inference_mode()
def state_differences(model: Any, prompts: Sequence[tuple[str, list[int]]]) -> list[Record]:
    """The largest absolute difference that the adapter makes to the last hidden states; one record per prompt."""
    records: dict[int, Record] = {}
    prompts = [(name, tokens[:_TOKENS]) for name, tokens in prompts]
    lengths = [len(tokens) for _, tokens in prompts]
    for batch in make_batches(sorted(range(len(prompts)), key=lengths.__getitem__), lengths, _BATCH_TOKENS):
        rows = [prompts[index][1] for index in batch]
        tuned = hidden_states(causal_model(model), rows)
        with scaled(model, 0.0):
            base = hidden_states(causal_model(model), rows)
        for place, index in enumerate(batch):
            length = lengths[index]
            difference = float((tuned[place, :length].float() - base[place, :length].float()).abs().max())
            records[index] = {"id": prompts[index][0], "tokens": length, "difference": difference}
    return [records[index] for index in range(len(prompts))]


def summarize(records: Sequence[Record], invocation: str) -> Record:
    """The number of compared prompts, and of those that differ."""
    differing = sum(record["difference"] != 0 for record in records)
    return {"invocation": invocation, "prompts": len(records), "differing": differing}
