"""Whether an adapter with an invocation leaves the base as it is everywhere else, bit for bit.

It does by construction: on prompts that do not invoke it, nothing is added to any layer. That is checked, with the
stored adapter and on prompts of the retention suite, since a promise of equality is broken by a single bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from keeptune.errors import ModelError
from keeptune.evaluation.abilities.registry import ABILITIES
from keeptune.evaluation.layout import Layout
from keeptune.evaluation.overlap import texts_in
from keeptune.evaluation.suite.loader import Message
from keeptune.model.adapter import causal_model, scaled
from keeptune.model.invocation import invocation_of
from keeptune.score.drift import hidden_states
from keeptune.train.batches import batched

Record = dict[str, Any]

PROMPTS = 600
"""How many prompts of the suite are compared."""

_TOKENS = 256
"""What of a prompt is compared, at most."""

_BATCH_TOKENS = 2_048


def suite_prompts(layout: Layout, prompts: int = PROMPTS) -> list[tuple[str, list[int]]]:
    """The names and tokens of so many items of the suite, asked as the model is asked: of each ability the same share
    of its items, so that all kinds of text come."""
    every = [
        (f"{ability.name}/{stated['id']}", "\n".join(texts_in([own for key, own in stated.items() if key != "id"])))
        for ability in ABILITIES.values()
        for stated in map(ability.stated, ability.items("final", "standard"))
    ]
    chosen = [every[len(every) * number // prompts] for number in range(min(prompts, len(every)))]
    asked = ((name, layout.conversation([Message(role="user", content=text)])) for name, text in chosen)
    return [(name, layout.tokens(text)[:_TOKENS]) for name, text in asked]


@torch.inference_mode()
def unchanged(model: Any, prompts: Sequence[tuple[str, list[int]]]) -> list[Record]:
    """For each prompt: its length, and the largest difference that the adapter makes to a state behind the last layer.

    Raises:
        ModelError: when a prompt invokes the adapter, so that nothing can be said of it.
    """
    invocation = invocation_of(causal_model(model))
    if called := [name for name, tokens in prompts if invocation and invocation.start(tokens) is not None]:
        raise ModelError(f"retain.invocation: it stands in {called[0]} of the retention suite; choose a rarer text")
    found: dict[int, Record] = {}
    lengths = [len(tokens) for _, tokens in prompts]
    for batch in batched(sorted(range(len(prompts)), key=lengths.__getitem__), lengths, _BATCH_TOKENS):
        rows = [prompts[index][1] for index in batch]
        tuned = hidden_states(causal_model(model), rows)
        with scaled(model, 0.0):
            base = hidden_states(causal_model(model), rows)
        for place, index in enumerate(batch):
            own = slice(lengths[index])
            difference = float((tuned[place, own].float() - base[place, own].float()).abs().max())
            found[index] = {"id": prompts[index][0], "tokens": lengths[index], "difference": difference}
    return [found[index] for index in range(len(prompts))]


def summary(records: Sequence[Record], invocation: str | None) -> Record | None:
    """How many prompts were compared and how many differ; None where the adapter always acts."""
    if not records:
        return None
    differing = sum(record["difference"] != 0 for record in records)
    return {"invocation": invocation, "prompts": len(records), "differing": differing}
