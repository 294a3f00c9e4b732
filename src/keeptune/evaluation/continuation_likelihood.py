"""Log-likelihoods of given continuations of a context: answer options, sentences, texts and reference answers.

All options of a question are computed in one row behind their context. A mask lets each option attend to the context
and to itself, so that the context is computed once. A prefix that all questions share, such as a system prompt, is
also computed once. Models with sliding windows or recurrent layers get one row per option instead, and the tests
compare both paths. Context and option are encoded together and scored from the first token that differs from the
context alone, as in lm-evaluation-harness.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from keeptune.generation.answer_source import AnswerSource
from keeptune.generation.engine import Generator
from keeptune.generation.scheduling import MIN_SHARED_TOKENS, common_prefix
from keeptune.generation.served_model import ServedModel
from keeptune.models.invocation import MASK_ARGUMENT
from keeptune.models.output_layer import OutputLayer
from keeptune.models.prepacked_linear import packed_weights
from keeptune.training.batches import make_batches
from keeptune.training.loss import logit_chunks

BATCH_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Choice:
    """The tokens of a context with each of its options. `starts[i]` is the first token of option i that is scored."""

    options: tuple[tuple[int, ...], ...]
    starts: tuple[int, ...]

    @property
    def shared(self) -> int:
        """Number of leading tokens that all options have in common and none scores; at least 1."""
        first = self.options[0]
        limit = min(*self.starts, *(len(option) - 1 for option in self.options))
        shared = 0
        while shared < limit and all(option[shared] == first[shared] for option in self.options):
            shared += 1
        return max(shared, 1)

    @property
    def length(self) -> int:
        """Number of tokens of a row with the context once and all options."""
        return self.shared + sum(len(option) - self.shared for option in self.options)


def encode_options(tokenizer: Any, context: str, options: Sequence[str], special_tokens: bool) -> Choice:
    """Encodes `context + option` for each option.

    An empty context becomes the begin token, or the end token for tokenizers without one, so that the first token of
    the option is predicted from something.
    """
    if not context:
        begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        encoded = [tokenizer.encode(option, add_special_tokens=False) for option in options]
        return Choice(tuple((begin, *tokens) for tokens in encoded), (1,) * len(encoded))
    # Trailing spaces are scored with the option, as in lm-evaluation-harness: they merge with its first word.
    context_tokens = _encode(tokenizer, context.rstrip(" "), special_tokens)
    encoded = [_encode(tokenizer, context + option, special_tokens) for option in options]
    starts = tuple(max(1, min(common_prefix(context_tokens, tokens), len(tokens) - 1)) for tokens in encoded)
    return Choice(tuple(map(tuple, encoded)), starts)


def _encode(tokenizer: Any, text: str, special_tokens: bool) -> list[int]:
    tokens = list(tokenizer.encode(text, add_special_tokens=special_tokens))
    if special_tokens and tokens and tokens[-1] == tokenizer.eos_token_id:
        tokens.pop()
    return tokens


@torch.inference_mode()
def log_likelihoods(
    generator: AnswerSource, choices: Sequence[Choice], *, together: bool | None = None
) -> list[list[float | None]]:
    """The log-likelihood of each option of each choice, Σ log p(token | tokens before it), in nats.

    A value that is not a finite number becomes None. The model is used in its current state: adapter on, off or
    scaled. `together` computes all options of a choice in one row; the default is True if the model allows it.

    Raises:
        NotMeasurableError: if the model is behind a server that returns no log-likelihoods.
    """
    if not choices:
        return []
    if isinstance(generator, ServedModel):
        return _served_log_likelihoods(generator, choices)
    if together is None:
        together = has_full_attention(generator.model.config) and not _is_invoked(generator, choices)
    rows = [_row(choice) for choice in choices] if together else [r for c in choices for r in _rows_per_option(c)]
    lengths = [len(row.tokens) for row in rows]
    sums: list[list[float]] = [[] for _ in rows]
    with packed_weights(generator.model):
        prefix = _Prefix(generator, _shared_context(rows) if together else [])
        for batch in make_batches(sorted(range(len(rows)), key=lengths.__getitem__), lengths, BATCH_TOKENS):
            batch_sums = _option_sums(generator, [rows[index] for index in batch], prefix)
            for index, option_sums in zip(batch, batch_sums, strict=True):
                sums[index] = option_sums
    if not together:
        remaining = iter(sums)
        sums = [[next(remaining)[0] for _ in choice.options] for choice in choices]
    return [[value if isfinite(value) else None for value in option_sums] for option_sums in sums]


def _served_log_likelihoods(model: ServedModel, choices: Sequence[Choice]) -> list[list[float | None]]:
    """As `log_likelihoods`, computed by a server."""
    pairs = [
        (option[:start], option[start:])
        for choice in choices
        for option, start in zip(choice.options, choice.starts, strict=True)
    ]
    values = iter(model.log_likelihoods(*zip(*pairs, strict=True)))
    return [[next(values) for _ in choice.options] for choice in choices]


def token_log_probabilities(head: OutputLayer, states: Tensor, targets: Tensor) -> Tensor:
    """The log-probability of each target token, in float32, given the hidden state before it.

    Shapes: states (tokens, hidden_size); targets and result (tokens,).
    """
    parts = []
    for part in logit_chunks(len(states), len(head.weight)):
        # With `dtype`, log_softmax reads the logits once. A conversion before it takes twice the time.
        log_probabilities = functional.log_softmax(head(states[part]), -1, dtype=torch.float32)
        parts.append(log_probabilities.gather(1, targets[part, None]).squeeze(1))
    return torch.cat(parts)


def _is_invoked(generator: Generator, choices: Sequence[Choice]) -> bool:
    """Whether an option invokes the adapter. A row of all options cannot say in which of them it acts."""
    invocation = generator.invocation
    return invocation is not None and any(
        invocation.start(option) is not None for choice in choices for option in choice.options
    )


def _without_invocation(generator: Generator, ids: Tensor) -> dict[str, Tensor]:
    """The decoder argument that switches an invoked adapter off on all tokens; empty for other adapters."""
    return {MASK_ARGUMENT: torch.zeros_like(ids, dtype=torch.bool)} if generator.invocation else {}


def has_full_attention(config: Any) -> bool:
    """Whether every layer attends to all previous tokens, so that a mask can separate the options."""
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        return False
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    return kinds == {"full_attention"} and getattr(config, "num_key_value_heads", None) is not None


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of the forward pass.

    `segments[i]` is 0 in the context and k in option k. `targets` holds, per option, the places whose predictions are
    scored and the tokens that follow them.
    """

    tokens: list[int]
    positions: list[int]
    segments: list[int]
    targets: list[tuple[list[int], list[int]]]


def _row(choice: Choice) -> _Row:
    """One row with the context once and all options behind it."""
    shared = choice.shared
    tokens, positions = list(choice.options[0][:shared]), list(range(shared))
    segments, targets = [0] * shared, []
    for number, (option, start) in enumerate(zip(choice.options, choice.starts, strict=True), start=1):
        offset = len(tokens) - shared
        # Token i of the option is at place i + offset of the row. The last context token is at place shared - 1.
        places = [i - 1 + offset if i > shared else shared - 1 for i in range(start, len(option))]
        targets.append((places, list(option[start:])))
        tokens += option[shared:]
        positions += range(shared, len(option))
        segments += [number] * (len(option) - shared)
    return _Row(tokens, positions, segments, targets)


def _rows_per_option(choice: Choice) -> list[_Row]:
    """One row per option."""
    return [_row(Choice((option,), (start,))) for option, start in zip(choice.options, choice.starts, strict=True)]


class _Prefix:
    """Keys and values of a prefix that all rows share, with the part of transformers' `past_key_values` interface that
    a decoder uses. It passes the prefix to every layer and stores nothing of the rows.

    Shapes, per layer: keys and values (1, kv_heads, tokens, head_size).
    """

    def __init__(self, generator: Generator, tokens: Sequence[int]) -> None:
        self.tokens = len(tokens)
        self.layers: list[tuple[Tensor, Tensor]] = []
        if tokens:
            ids = torch.tensor([tokens], device=generator.head.weight.device)
            segments = torch.zeros_like(ids)
            generator.decoder(
                input_ids=ids,
                position_ids=torch.arange(len(tokens), device=ids.device)[None],
                attention_mask=_option_mask(segments, 0, generator.head.weight.dtype),
                past_key_values=self,
                use_cache=True,
                **_without_invocation(generator, ids),
            )

    def update(self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """The keys and values of the prefix and of the rows.

        Shapes: arguments (rows, kv_heads, tokens, head_size); results (rows, kv_heads, prefix + tokens, head_size).
        """
        if layer == len(self.layers):
            self.layers.append((key, value))
            return key, value
        return tuple(  # type: ignore[return-value]
            torch.cat([prefix.expand(len(states), -1, -1, -1), states], dim=2)
            for prefix, states in zip(self.layers[layer], (key, value), strict=True)
        )


def _shared_context(rows: Sequence[_Row]) -> list[int]:
    """The leading tokens that all rows share and none predicts from; empty if they are too few to save time."""
    first = rows[0].tokens
    limit = min(min(places) for row in rows for places, _ in row.targets)
    shared = min(common_prefix(first[:limit], row.tokens) for row in rows)
    return first[:shared] if shared >= MIN_SHARED_TOKENS and len(rows) > 1 else []


def _option_sums(generator: Generator, rows: Sequence[_Row], prefix: _Prefix) -> list[list[float]]:
    """The sums of log-probabilities of one batch, per row and option, in nats."""
    device, skipped = generator.head.weight.device, prefix.tokens
    width = max(len(row.tokens) for row in rows) - skipped
    ids, positions = (
        _padded([getattr(row, name)[skipped:] for row in rows], width, device) for name in ("tokens", "positions")
    )
    arguments: dict[str, Any] = {"input_ids": ids, "use_cache": False}
    if skipped or any(len(row.targets) > 1 for row in rows):
        segments = _padded([row.segments[skipped:] for row in rows], width, device, fill=-1)
        mask = _option_mask(segments, skipped, generator.head.weight.dtype)
        arguments |= {"position_ids": positions, "attention_mask": mask}
        arguments |= _without_invocation(generator, ids)
    if skipped:
        arguments |= {"past_key_values": prefix, "use_cache": True}
    hidden = generator.decoder(**arguments).last_hidden_state
    positions_scored = torch.tensor(
        [(number, p - skipped) for number, row in enumerate(rows) for places, _ in row.targets for p in places],
        device=device,
    )
    following = torch.tensor([token for row in rows for _, tokens in row.targets for token in tokens], device=device)
    states = hidden[positions_scored[:, 0], positions_scored[:, 1]]
    values = iter(token_log_probabilities(generator.head, states, following).tolist())
    return [[sum(next(values) for _ in tokens) for _, tokens in row.targets] for row in rows]


def _padded(rows: Sequence[list[int]], width: int, device: torch.device, fill: int = 0) -> Tensor:
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows], device=device)


def _option_mask(segments: Tensor, prefix: int, dtype: torch.dtype) -> Tensor:
    """The additive attention mask of rows with several options.

    Each token attends to the `prefix` tokens of the shared prefix, to the context and to its own option, up to itself.
    Shapes: segments (rows, tokens); result (rows, 1, tokens, prefix + tokens).
    """
    width = segments.shape[1]
    causal = torch.ones(width, width, dtype=torch.bool, device=segments.device).tril()
    same_option = segments[:, :, None] == segments[:, None, :]
    in_context = segments[:, None, :] == 0
    visible = functional.pad(causal & (same_option | in_context), (prefix, 0), value=True)
    mask = torch.zeros(visible.shape, dtype=dtype, device=segments.device)
    return mask.masked_fill_(~visible, float("-inf"))[:, None]
