"""Self-test of a loaded model: does keeptune compute what transformers computes? It runs before any training.

Families differ in details that no configuration states: which arguments layers pass on, which tokens a layer sees, and
what follows the output weights. A detail that is missed would train and score another model without an error. So a
dozen tokens of every loaded model are computed in several ways, in which only rounding may differ:

    logits     by transformers' own attention, and by keeptune's attention and output layer
    batch      two rows in one padded batch, and each row alone
    cache      token by token from the key-value cache, as answers are written, and all at once

If keeptune's attention fails, PyTorch's replaces it. If that fails too, or another comparison, the model is refused.
Whether rows can be packed is tested where training begins (training/packing.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from keeptune.errors import ModelError
from keeptune.generation.engine import Generator
from keeptune.generation.slot_cache import SlotCache
from keeptune.models import load
from keeptune.models.out_of_memory import is_out_of_memory
from keeptune.models.output_layer import output_layer
from keeptune.models.token_errors import MISFITS, is_same, probe_tokens
from keeptune.training.forward import hidden_states

Pair = Callable[[], tuple[Tensor, Tensor]]
"""Computes states or logits in two ways, each of shape `(tokens, width)`."""

LENGTHS = (12, 7)
"""The tokens of the two rows."""

CACHED_STEPS = 4
"""The last tokens of each row, which are computed one at a time from the cache."""

WINDOW = 5
"""The sliding window during the test, so that it leaves out tokens of so short rows."""

REFERENCE, FALLBACK = "eager", "sdpa"
"""transformers' names of the attention in the code of each family, and of PyTorch's."""


def load_checked_model(
    name: str, tokenizer: Any, dtype: str = "auto", quantization: str | None = None, placed: bool = True
) -> tuple[Any, str | None]:
    """Loads a base model and compares its computation with keeptune's.

    Returns:
        The model, and what the user should know about it (see `check_model`).

    Raises:
        ModelError: if it cannot be loaded, the tokenizer does not fit it, or as in `check_model`.
    """
    model = load.load_model(name, dtype, quantization, placed)
    load.check_tokenizer(model, tokenizer)
    return model, check_model(model, tokenizer, name)


@torch.no_grad()
def check_model(model: Any, tokenizer: Any, name: str) -> str | None:
    """Compares the model's own computation with keeptune's.

    Args:
        model: a base model without an adapter, which has keeptune's attention.
        tokenizer: its tokenizer.
        name: its name, for error messages.

    Returns:
        What the user should know; None if all comparisons succeed.

    Raises:
        ModelError: if keeptune would compute something else than the model.
    """
    rows = [probe_tokens(model, length).tolist() for length in LENGTHS]
    with _short_window(model):
        notice = _check_logits(model, rows, name)
        _require(lambda: _batch_pair(model, rows), name, "a row in a padded batch differs from the same row alone")
        _require(lambda: _cache_pair(model, tokenizer, rows), name, "answers from the key-value cache differ")
    return notice


def _check_logits(model: Any, rows: list[list[int]], name: str) -> str | None:
    """Compares logits; if keeptune's attention computes others, uses PyTorch's."""

    def pair() -> tuple[Tensor, Tensor]:
        with _attention(model, REFERENCE):
            expected = model(input_ids=torch.tensor(rows[:1], device=model.device), use_cache=False).logits[0]
        return output_layer(model)(hidden_states(model, rows[:1]))[0], expected

    reason = _failure(pair)
    if reason is None:
        return None
    if model.config._attn_implementation != FALLBACK and type(model)._supports_sdpa:
        model.set_attn_implementation(FALLBACK)
        if _failure(pair) is None:
            return f"{name}: keeptune's attention does not suit this model ({reason}); it runs with PyTorch's, slower"
    raise ModelError(
        f"model {name}: keeptune computes other logits than {type(model).__name__} itself ({reason}); it cannot train "
        "or score this model correctly, so use another base model"
    )


def _batch_pair(model: Any, rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """The states of the shorter row: padded beside the longer row, and alone."""
    return hidden_states(model, rows)[1, : len(rows[1])], hidden_states(model, rows[1:])[0]


def _cache_pair(model: Any, tokenizer: Any, rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """The states of the last tokens of both rows: one at a time from the cache, and all at once."""
    generator = Generator(model, tokenizer)
    requests = generator.rows(rows, [1] * len(rows))
    cache = SlotCache(len(rows), max(LENGTHS), generator.head.weight)
    starts = [0] * len(rows)
    tokens = [row[:-CACHED_STEPS] for row in rows]
    cached = []
    for step in range(CACHED_STEPS + 1):
        cached.append(generator.last_states(cache, 0, tokens, starts, requests))
        starts = [len(row) - CACHED_STEPS + step for row in rows]
        tokens = [row[start : start + 1] for row, start in zip(rows, starts, strict=True)]
    whole = [hidden_states(model, [row])[0, -CACHED_STEPS - 1 :] for row in rows]
    return torch.cat(cached), torch.stack(whole, dim=1).flatten(0, 1)


def _require(pair: Pair, name: str, fault: str) -> None:
    if reason := _failure(pair):
        raise ModelError(
            f"model {name}: {fault} ({reason}); keeptune cannot train or score this model correctly, so use another "
            "base model"
        )


def _failure(pair: Pair) -> str | None:
    """Why two computations differ, of which one may raise an error; None if they agree."""
    try:
        return None if is_same(*pair()) else "beyond rounding"
    except MISFITS as error:
        if isinstance(error, RuntimeError) and is_out_of_memory(error):
            raise
        text = str(error).strip().splitlines()
        return text[0] if text else type(error).__name__


@contextmanager
def _attention(model: Any, implementation: str) -> Iterator[None]:
    """Temporarily computes the attention in another way, if the family lets others choose it."""
    previous = model.config._attn_implementation
    can_change = type(model)._can_set_attn_implementation()
    if can_change:
        model.set_attn_implementation(implementation)
    try:
        yield
    finally:
        if can_change:
            model.set_attn_implementation(previous)


@contextmanager
def _short_window(model: Any) -> Iterator[None]:
    """Temporarily shortens the sliding window of a model that has one."""
    configs = [
        config
        for config in {id(c): c for c in (model.config, model.get_decoder().config)}.values()
        if getattr(config, "sliding_window", None)
    ]
    windows = [config.sliding_window for config in configs]
    try:
        for config in configs:
            config.sliding_window = WINDOW
        yield
    finally:
        for config, window in zip(configs, windows, strict=True):
            config.sliding_window = window
