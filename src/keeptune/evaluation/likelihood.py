"""Log-likelihoods of continuations: what a model thinks of given answers, whatever it would write itself.

All options of a question stand behind its context in one row: each option sees the context and itself, so the context
is computed once. What the contexts of all questions begin with, such as a system prompt, is computed once, too. Models
whose layers do not all attend to everything before them (sliding windows, recurrent layers) compute one row per option
instead; that path is also what tests compare with. Context and option are encoded together and scored from where their
tokens part, as lm-evaluation-harness does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from keeptune.evaluation.reading_likelihood import token_log_probabilities
from keeptune.generation.engine import SHARED_TOKENS, Generator
from keeptune.models.invocation import MASK_ARGUMENT
from keeptune.models.prepacked_linear import packed_weights
from keeptune.training.batches import make_batches

BATCH_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Choice:
    """The tokens of a context with each of its options, and from which token on each option is scored."""

    options: tuple[tuple[int, ...], ...]
    starts: tuple[int, ...]

    @property
    def shared(self) -> int:
        """The number of leading tokens that no option scores and all have in common; at least one."""
        first = self.options[0]
        limit = min(*self.starts, *(len(option) - 1 for option in self.options))
        shared = 0
        while shared < limit and all(option[shared] == first[shared] for option in self.options):
            shared += 1
        return max(shared, 1)

    @property
    def length(self) -> int:
        """The tokens of the row that holds the context once and all options."""
        return self.shared + sum(len(option) - self.shared for option in self.options)


def encode_choice(tokenizer: Any, context: str, options: Sequence[str], special_tokens: bool) -> Choice:
    """The tokens of `context + option` for each option.

    An empty context is replaced by the begin token, or the end token where there is none, so that the first token of
    the option has a prediction.
    """
    if not context:
        begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        alone = [tokenizer.encode(option, add_special_tokens=False) for option in options]
        return Choice(tuple((begin, *tokens) for tokens in alone), (1,) * len(alone))
    # Trailing spaces are scored with the option, as lm-evaluation-harness does: they merge with its first word.
    before = _encode(tokenizer, context.rstrip(" "), special_tokens)
    whole = [_encode(tokenizer, context + option, special_tokens) for option in options]
    starts = tuple(max(1, min(_common(before, tokens), len(tokens) - 1)) for tokens in whole)
    return Choice(tuple(map(tuple, whole)), starts)


def _encode(tokenizer: Any, text: str, special_tokens: bool) -> list[int]:
    tokens = list(tokenizer.encode(text, add_special_tokens=special_tokens))
    if special_tokens and tokens and tokens[-1] == tokenizer.eos_token_id:
        tokens.pop()
    return tokens


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    count = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        count += 1
    return count


@torch.inference_mode()
def log_likelihoods(
    generator: Generator, choices: Sequence[Choice], *, together: bool | None = None
) -> list[list[float | None]]:
    """The log-likelihood of each option of each choice, in nats; None where it is not a finite number.

    The model is used as it is: adapter on, off or scaled. `together` puts all options of a choice into one row; by
    default wherever the model allows it.
    """
    if not choices:
        return []
    if together is None:
        together = has_full_attention(generator.model.config) and not _is_invoked(generator, choices)
    rows = [_row(choice) for choice in choices] if together else [r for choice in choices for r in _rows(choice)]
    lengths = [len(row.tokens) for row in rows]
    sums: list[list[float]] = [[] for _ in rows]
    with packed_weights(generator.model):
        prefix = _Prefix(generator, _shared_context(rows) if together else [])
        for batch in make_batches(sorted(range(len(rows)), key=lengths.__getitem__), lengths, BATCH_TOKENS):
            for index, found in zip(batch, _scored(generator, [rows[index] for index in batch], prefix), strict=True):
                sums[index] = found
    if not together:
        flat = iter(sums)
        sums = [[next(flat)[0] for _ in choice.options] for choice in choices]
    return [[value if isfinite(value) else None for value in found] for found in sums]


def _is_invoked(generator: Generator, choices: Sequence[Choice]) -> bool:
    """Whether the adapter acts in any of them: in a row of all options it would not know in which."""
    invocation = generator.invocation
    return invocation is not None and any(
        invocation.start(option) is not None for choice in choices for option in choice.options
    )


def _uninvoked(generator: Generator, ids: Tensor) -> dict[str, Tensor]:
    """The argument that keeps an adapter with an invocation off all tokens; empty for other adapters."""
    return {MASK_ARGUMENT: torch.zeros_like(ids, dtype=torch.bool)} if generator.invocation else {}


def has_full_attention(config: Any) -> bool:
    """Whether every layer attends to all tokens before it, so that a mask can keep the options apart."""
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        return False
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    return kinds == {"full_attention"} and getattr(config, "num_key_value_heads", None) is not None


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of the forward pass. `segments[i]` is 0 in the context and k in option k; `targets` are, for each option,
    the places whose prediction is scored and the tokens that follow there."""

    tokens: list[int]
    positions: list[int]
    segments: list[int]
    targets: list[tuple[list[int], list[int]]]


def _row(choice: Choice) -> _Row:
    """The context once, and all options behind it."""
    shared = choice.shared
    tokens, positions = list(choice.options[0][:shared]), list(range(shared))
    segments, targets = [0] * shared, []
    for number, (option, start) in enumerate(zip(choice.options, choice.starts, strict=True), start=1):
        offset = len(tokens) - shared
        # The token at index i of the option stands at i + offset, the last of the context at shared - 1.
        places = [i - 1 + offset if i > shared else shared - 1 for i in range(start, len(option))]
        targets.append((places, list(option[start:])))
        tokens += option[shared:]
        positions += range(shared, len(option))
        segments += [number] * (len(option) - shared)
    return _Row(tokens, positions, segments, targets)


def _rows(choice: Choice) -> list[_Row]:
    """One row per option."""
    return [_row(Choice((option,), (start,))) for option, start in zip(choice.options, choice.starts, strict=True)]


class _Prefix:
    """The keys and values of a prefix that all rows share; what transformers calls `past_key_values`, as far as it is
    used: it gives them to every layer and keeps nothing of the rows.

    shapes, of each layer: keys and values (1, groups, tokens, head_size).
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
                attention_mask=_apart(segments, 0, generator.head.weight.dtype),
                past_key_values=self,
                use_cache=True,
                **_uninvoked(generator, ids),
            )

    def update(self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """The keys and values of the prefix and of the rows. shapes: in (rows, groups, tokens, head_size)."""
        if layer == len(self.layers):
            self.layers.append((key, value))
            return key, value
        return tuple(  # type: ignore[return-value]
            torch.cat([shared.expand(len(own), -1, -1, -1), own], dim=2)
            for shared, own in zip(self.layers[layer], (key, value), strict=True)
        )


def _shared_context(rows: Sequence[_Row]) -> list[int]:
    """The tokens that all rows begin with and none predicts from; none where they are too few to save time."""
    first = rows[0].tokens
    limit = min(min(at) for row in rows for at, _ in row.targets)
    shared = min(_common(first[:limit], row.tokens) for row in rows)
    return first[:shared] if shared >= SHARED_TOKENS and len(rows) > 1 else []


def _scored(generator: Generator, rows: Sequence[_Row], prefix: _Prefix) -> list[list[float]]:
    """The sums of log-probabilities, per row and option."""
    device, skipped = generator.head.weight.device, prefix.tokens
    width = max(len(row.tokens) for row in rows) - skipped
    ids, positions = (
        _padded([getattr(row, name)[skipped:] for row in rows], width, device) for name in ("tokens", "positions")
    )
    arguments: dict[str, Any] = {"input_ids": ids, "use_cache": False}
    if skipped or any(len(row.targets) > 1 for row in rows):
        segments = _padded([row.segments[skipped:] for row in rows], width, device, fill=-1)
        mask = _apart(segments, skipped, generator.head.weight.dtype)
        arguments |= {"position_ids": positions, "attention_mask": mask}
        arguments |= _uninvoked(generator, ids)
    if skipped:
        arguments |= {"past_key_values": prefix, "use_cache": True}
    hidden = generator.decoder(**arguments).last_hidden_state
    places = [(number, place - skipped) for number, row in enumerate(rows) for at, _ in row.targets for place in at]
    following = torch.tensor([token for row in rows for _, tokens in row.targets for token in tokens], device=device)
    where = torch.tensor(places, device=device)
    found = token_log_probabilities(generator.head, hidden[where[:, 0], where[:, 1]], following).tolist()
    values = iter(found)
    return [[sum(next(values) for _ in tokens) for _, tokens in row.targets] for row in rows]


def _padded(rows: Sequence[list[int]], width: int, device: torch.device, fill: int = 0) -> Tensor:
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows], device=device)


def _apart(segments: Tensor, before: int, dtype: torch.dtype) -> Tensor:
    """The additive mask that lets each token see the `before` tokens of the prefix, the context and its own option, up
    to itself.

    shapes: segments (rows, tokens); result (rows, 1, tokens, before + tokens).
    """
    width = segments.shape[1]
    causal = torch.ones(width, width, dtype=torch.bool, device=segments.device).tril()
    own = segments[:, :, None] == segments[:, None, :]
    seen = functional.pad(causal & (own | (segments[:, None, :] == 0)), (before, 0), value=True)
    return torch.zeros(seen.shape, dtype=dtype, device=segments.device).masked_fill_(~seen, float("-inf"))[:, None]
