"""What training makes small: the loss on labelled tokens and, where wanted, the divergence from the base.

The divergence holds predictions where they were on text that has nothing to learn from: passages to read, or the
skill's own prompts. Base and tuned are one model with its adapter off and on, so there is no second one in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from keeptune.config.retain import KlTokens, RetainSection
from keeptune.models.adapter import causal_model, scaled
from keeptune.models.invocation import MASK_ARGUMENT, invocation_of
from keeptune.models.packed_rows import Rows
from keeptune.training import replay
from keeptune.training.batches import Example
from keeptune.training.loss import unlikely_to, weighted_divergence, weighted_nll
from keeptune.training.token_weights import weigher


@dataclass(frozen=True, slots=True)
class Anchors:
    """Where the rows of a batch are held near the base, what a nat of divergence counts there, and the tokens that are
    left out of it, if any.

    shapes: rows, columns, left_out (anchored,).
    """

    rows: Tensor
    columns: Tensor
    weight: float
    left_out: Tensor | None = None


class Objective(nn.Module):
    """A causal model whose forward pass is what training makes small; no other logits are computed."""

    def __init__(self, model: Any, retain: RetainSection = RetainSection()) -> None:  # noqa: B008  (frozen)
        super().__init__()
        self.model, self.weighting = model, retain.token_weighting

    def forward(
        self,
        ids: Tensor,
        rows: Tensor,
        columns: Tensor,
        labels: Tensor,
        token_weights: Tensor,
        anchors: Anchors | None = None,
        lengths: Sequence[int] | None = None,
        taught: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The weighted sum of all, each labelled token's own loss, and each anchor's own divergence, in nats.

        Rows are padded on the right and attention is causal, so padding needs no mask. Where their `lengths` are given,
        they go through the model end to end, without padding. Token weighting is for the labels that are `taught`, and
        not for replayed ones; for all where it is not said.
        shapes: ids (rows, tokens); rows, columns, labels, token_weights, taught (labelled,); results (), (labelled,),
        (anchored,).
        """
        masked = self.weighting == "low_perplexity"
        base = self._base_states(ids, lengths) if anchors or masked else None
        states, head = self._states(ids, lengths), causal_model(self.model).get_output_embeddings().weight
        taught = torch.ones_like(labels, dtype=torch.bool) if taught is None else taught
        if masked and base is not None:
            unlearnt = taught & unlikely_to(base[rows, columns], head, labels)
            token_weights = token_weights.masked_fill(unlearnt, 0)
        total, losses = self._nll(states[rows, columns], head, labels, token_weights, taught)
        if anchors is None or base is None:
            return total, losses, losses.new_empty(0)
        own, reference = (some[anchors.rows, anchors.columns] for some in (states, base))
        held, divergences = weighted_divergence(own, reference, head, anchors.weight, anchors.left_out)
        return total + held, losses, divergences

    def _nll(
        self, states: Tensor, head: Tensor, labels: Tensor, token_weights: Tensor, taught: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`weighted_nll`, with the tokens that are taught weighed by the recipe's method."""
        weigh = weigher(self.weighting)
        if weigh is None:
            return weighted_nll(states, head, labels, token_weights)
        total, losses = states.new_zeros((), dtype=torch.float32), token_weights.new_empty(len(labels))
        for chosen, method in ((taught, weigh), (~taught, None)):
            part, losses[chosen] = weighted_nll(states[chosen], head, labels[chosen], token_weights[chosen], method)
            total = total + part
        return total, losses

    def _states(self, ids: Tensor, lengths: Sequence[int] | None) -> Tensor:
        """The last hidden states; zeros at padding that did not go through the model. shape: (rows, tokens, width)."""
        decoder = causal_model(self.model).get_decoder()
        if lengths is None:
            padded: Tensor = decoder(input_ids=ids, use_cache=False).last_hidden_state
            return padded
        columns = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        wanted = columns < torch.tensor(lengths, device=ids.device)[:, None]
        where = {}
        if invocation := invocation_of(causal_model(self.model)):
            where[MASK_ARGUMENT] = invocation.mask(ids)[wanted][None]
        own: Tensor = decoder(
            input_ids=ids[wanted][None],
            # Nothing is hidden; without it transformers would look for rows in the positions and write their mask out.
            attention_mask=torch.ones(1, sum(lengths), dtype=torch.bool, device=ids.device),
            position_ids=columns[wanted][None],
            rows_end_to_end=Rows.of(lengths, ids.device),
            use_cache=False,
            **where,
        ).last_hidden_state
        states = own.new_zeros(*ids.shape, own.shape[-1])
        states[wanted] = own[0]
        return states

    @torch.no_grad()
    def _base_states(self, ids: Tensor, lengths: Sequence[int] | None) -> Tensor:
        """The base's last hidden states. shape: (rows, tokens, width)."""
        with scaled(self.model, 0.0):
            return self._states(ids, lengths)


def collate(
    examples: Sequence[Example], token_weight: float, device: torch.device
) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor, Tensor], list[str]]:
    """The inputs of Objective for these rows, and the kind of each labelled token."""
    width = max(len(example.tokens) for example in examples)
    ids = torch.zeros(len(examples), width, dtype=torch.long)
    rows, columns, labels, kinds = [], [], [], []
    for row, example in enumerate(examples):
        ids[row, : len(example.tokens)] = torch.tensor(example.tokens)
        for column, labelled in enumerate(example.labelled):
            if labelled:
                # The token at `column` is predicted from the position before it.
                rows.append(row)
                columns.append(column - 1)
                labels.append(example.tokens[column])
                kinds.append(example.kind)
    weights = torch.full((len(labels),), token_weight, dtype=torch.float32)
    tensors = (ids, torch.tensor(rows), torch.tensor(columns), torch.tensor(labels), weights)
    moved = tuple(tensor.to(device) for tensor in tensors)
    return (moved[0], moved[1], moved[2], moved[3], moved[4]), kinds


def anchored(example: Example, where: KlTokens) -> list[int]:
    """The positions of a row behind which the next token is to be predicted as the base does.

    Behind a prompt's last token stands what is to be learnt, and behind a row's last one nothing.
    """
    if (example.kind == replay.KIND) != (where == "replay"):
        return []
    following = enumerate(example.labelled[1:])
    return [place for place, labelled in following if where == "replay" or labelled == (where == "non_target")]


def anchors(examples: Sequence[Example], where: KlTokens, weight: float, device: torch.device) -> Anchors:
    """The anchors of a batch, which may be none."""
    places = [(row, column) for row, example in enumerate(examples) for column in anchored(example, where)]
    rows, columns = torch.tensor(places, dtype=torch.long, device=device).view(-1, 2).unbind(1)
    taught = [examples[row].tokens[column + 1] for row, column in places] if where == "non_target" else None
    return Anchors(rows, columns, weight, None if taught is None else torch.tensor(taught, device=device))
