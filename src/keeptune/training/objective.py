"""The training objective: the weighted loss of target tokens and, optionally, the divergence from the base model.

The KL term keeps predictions near the base's on tokens that are not targets: replayed passages, prompts, or all words
but the target. Base and tuned are one model with its adapter disabled or enabled, so no second model is in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from keeptune.config.retain import KlTokens, RetainSection
from keeptune.models.adapters import causal_model, scaled
from keeptune.models.invocation import MASK_ARGUMENT, invocation_of
from keeptune.models.output_layer import LogitTransform
from keeptune.models.packed_rows import PackedRows
from keeptune.models.transfer import to_device
from keeptune.training.batches import TokenizedExample
from keeptune.training.loss import improbable_labels, weighted_kl, weighted_nll
from keeptune.training.padding import pad_rows
from keeptune.training.token_weights import weight_function


@dataclass(frozen=True, slots=True)
class KLPositions:
    """The positions of a batch at which the KL term compares the tuned model with the base.

    Attributes:
        rows, columns: the positions, each of shape `(positions,)`.
        weight: the weight of the divergence at each position.
        excluded_tokens: the token to leave out of the distribution at each position, of shape `(positions,)`, if any.
    """

    rows: Tensor
    columns: Tensor
    weight: float
    excluded_tokens: Tensor | None = None


class Objective(nn.Module):
    """A causal model whose forward pass returns the objective. It computes only the logits that the loss needs."""

    def __init__(self, model: Any, retain: RetainSection = RetainSection()) -> None:  # noqa: B008  (frozen)
        super().__init__()
        self.model, self.weighting = model, retain.token_weighting
        self.transform = LogitTransform.of(causal_model(model).config)

    def forward(
        self,
        ids: Tensor,
        rows: Tensor,
        columns: Tensor,
        labels: Tensor,
        token_weights: Tensor,
        positions: KLPositions | None = None,
        lengths: Sequence[int] | None = None,
        is_skill: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Computes the objective of one batch.

        Args:
            ids: the token ids, of shape `(rows, tokens)`. Rows are padded on the right and attention is causal, so
                padding needs no mask.
            rows: the row of the position before each target, of shape `(targets,)`.
            columns: the column of that position, of shape `(targets,)`.
            labels: the target tokens, of shape `(targets,)`.
            token_weights: the weight of each target in the sum, of shape `(targets,)`.
            positions: the positions of the KL term.
            lengths: the tokens per row. With them, rows pass through the model packed, without padding.
            is_skill: whether each target belongs to the skill, of shape `(targets,)`; by default all do. Token
                weighting does not apply to replayed targets.

        Returns:
            The weighted sum (a scalar), the loss of each target in nats, of shape `(targets,)`, and the divergence at
            each KL position in nats, of shape `(positions,)`.
        """
        is_masked = self.weighting == "low_perplexity"
        packed = None if lengths is None else PackedRows.of(lengths, ids.device)
        base = self._base_states(ids, packed) if positions or is_masked else None
        states, head = self.states(ids, packed), causal_model(self.model).get_output_embeddings().weight
        is_skill = torch.ones_like(labels, dtype=torch.bool) if is_skill is None else is_skill
        places = _places(rows, columns, ids.shape[1], packed)
        if is_masked and base is not None:
            is_skipped = is_skill & improbable_labels(base.index_select(0, places), head, labels, self.transform)
            token_weights = token_weights.masked_fill(is_skipped, 0)
        total, losses = self._nll(states.index_select(0, places), head, labels, token_weights, is_skill)
        if positions is None or base is None:
            return total, losses, losses.new_empty(0)
        places = _places(positions.rows, positions.columns, ids.shape[1], packed)
        tuned_states, base_states = (hidden.index_select(0, places) for hidden in (states, base))
        kl, divergences = weighted_kl(
            tuned_states, base_states, head, positions.weight, positions.excluded_tokens, self.transform
        )
        return total + kl, losses, divergences

    def _nll(
        self, states: Tensor, head: Tensor, labels: Tensor, token_weights: Tensor, is_skill: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`weighted_nll`, with the recipe's token weighting for targets of the skill."""
        weigh = weight_function(self.weighting)
        if weigh is None:
            return weighted_nll(states, head, labels, token_weights, transform=self.transform)
        total, losses = states.new_zeros((), dtype=torch.float32), token_weights.new_empty(len(labels))
        for is_selected, method in ((is_skill, weigh), (~is_skill, None)):
            selected = is_selected.nonzero().squeeze(1)  # once, because an accelerator has to tell how many there are
            part, losses[selected] = weighted_nll(
                states[selected], head, labels[selected], token_weights[selected], method, self.transform
            )
            total = total + part
        return total, losses

    def states(self, ids: Tensor, packed: PackedRows | None) -> Tensor:
        """The last hidden states of all rows, one row after the other, of shape `(places, width)`.

        Args:
            ids: padded rows, of shape `(rows, tokens)`.
            packed: with it, rows pass through the model packed, and padding has no place in the result.
        """
        decoder = causal_model(self.model).get_decoder()
        if packed is None:
            padded: Tensor = decoder(input_ids=ids, use_cache=False).last_hidden_state
            return padded.flatten(0, 1)
        places, positions = to_device(packed.places(ids.shape[1]), ids.device)
        mask_argument = {}
        if invocation := invocation_of(causal_model(self.model)):
            mask_argument[MASK_ARGUMENT] = invocation.mask(ids).flatten().index_select(0, places)[None]
        states: Tensor = decoder(
            input_ids=ids.flatten().index_select(0, places)[None],
            # Masks nothing. Without it, transformers would detect packed rows from the positions and build a full
            # mask. With fewer dimensions, it would ask the device whether the mask masks anything.
            attention_mask=torch.ones(1, 1, 1, 1, dtype=torch.bool, device=ids.device),
            position_ids=positions[None],
            packed_rows=packed,
            use_cache=False,
            **mask_argument,
        ).last_hidden_state
        return states.squeeze(0)

    @torch.no_grad()
    def _base_states(self, ids: Tensor, packed: PackedRows | None) -> Tensor:
        """The last hidden states of the base, of shape `(places, width)`."""
        with scaled(self.model, 0.0):
            return self.states(ids, packed)


def _places(rows: Tensor, columns: Tensor, width: int, packed: PackedRows | None) -> Tensor:
    """The places of positions in the result of `Objective.states`. All tensors have the shape `(positions,)`."""
    return (rows * width if packed is None else packed.starts.index_select(0, rows)) + columns


def collate(
    examples: Sequence[TokenizedExample], token_weight: float, device: torch.device
) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor, Tensor], list[str]]:
    """The first five arguments of `Objective.forward` for these rows, and the kind of each target."""
    ids = pad_rows([example.tokens for example in examples])
    rows, columns, labels, kinds = [], [], [], []
    for row, example in enumerate(examples):
        targets = [column for column, is_target in enumerate(example.loss_mask) if is_target]
        rows += [row] * len(targets)
        columns += [column - 1 for column in targets]  # a token is predicted from the position before it
        labels += [example.tokens[column] for column in targets]
        kinds += [example.kind] * len(targets)
    count = len(labels)
    # All numbers travel in one copy.
    numbers = to_device(torch.cat([ids.flatten(), torch.tensor([*rows, *columns, *labels], dtype=torch.long)]), device)
    flat_ids, device_rows, device_columns, device_labels = numbers.split([ids.numel(), count, count, count])
    weights = torch.full((count,), token_weight, dtype=torch.float32, device=device)
    return (flat_ids.view(ids.shape), device_rows, device_columns, device_labels, weights), kinds


def kl_positions(example: TokenizedExample, where: KlTokens) -> list[int]:
    """The positions of a row after which the next token should be predicted as the base predicts it.

    The last position of a prompt is not one of them for `prompts`, because a target follows it; nor is the last
    position of a row, because nothing follows it.
    """
    if example.is_replay != (where == "replay"):
        return []
    next_is_target = enumerate(example.loss_mask[1:])
    return [
        position for position, is_target in next_is_target if where == "replay" or is_target == (where == "non_target")
    ]


def collate_kl_positions(
    examples: Sequence[TokenizedExample], where: KlTokens, weight: float, device: torch.device
) -> KLPositions:
    """The KL positions of a batch; there may be none."""
    positions = [(row, column) for row, example in enumerate(examples) for column in kl_positions(example, where)]
    excludes = where == "non_target"
    targets = [examples[row].tokens[column + 1] for row, column in positions] if excludes else []
    numbers = [*(row for row, _ in positions), *(column for _, column in positions), *targets]
    indices = to_device(torch.tensor(numbers, dtype=torch.long), device).view(3 if excludes else 2, len(positions))
    return KLPositions(indices[0], indices[1], weight, indices[2] if excludes else None)
