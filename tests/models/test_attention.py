"""Short attention is PyTorch's own attention: same values, same gradients, with and without a mask."""

import weakref
from itertools import accumulate
from pathlib import Path

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from keeptune.models.attention import (
    CUDA_ATTENTION,
    LONGEST_KEPT_TOKENS,
    PART_TOKENS,
    SHORT_ATTENTION,
    causal_mask,
    cuda_attention,
    has_kernel,
    implementation,
    short_attention,
    short_mask,
)
from keeptune.models.packed_rows import Rows

MODULE = nn.Identity()


def drawn(rows: int, groups: int, shared: int, queries: int, keys: int, size: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    query = torch.randn(rows, groups * shared, queries, size, generator=draw)
    key, value = (torch.randn(rows, groups, keys, size, generator=draw) for _ in range(2))
    return query.requires_grad_(), key.requires_grad_(), value.requires_grad_()


def assert_same(inputs: tuple[Tensor, Tensor, Tensor], mask: Tensor | None, scaling: float | None = None) -> None:
    """Equal results and gradients, against PyTorch with the mask written out and the groups repeated."""
    queries, keys = inputs[0].shape[2], inputs[1].shape[2]
    allowed = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries) if mask is None else mask
    expected = scaled_dot_product_attention(*inputs, attn_mask=allowed, scale=scaling, enable_gqa=True).transpose(1, 2)
    found, weights = short_attention(MODULE, *inputs, mask, scaling)
    assert weights is None
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    into = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    own = torch.autograd.grad((found * into).sum(), inputs)
    theirs = torch.autograd.grad((expected * into).sum(), inputs)
    for left, right in zip(own, theirs, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-5)


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 9), st.integers(0, 9))
def test_without_a_mask_it_is_causal(rows: int, groups: int, shared: int, queries: int, before: int) -> None:
    assert_same(drawn(rows, groups, shared, queries, before + queries), None)


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 6), st.integers(1, 9), st.integers(0, 99))
def test_with_a_mask(rows: int, shared: int, queries: int, keys: int, seed: int) -> None:
    inputs = drawn(rows, 2, shared, queries, keys)
    draw = torch.Generator().manual_seed(seed)
    hidden = torch.rand(rows, 1, queries, keys, generator=draw) < 0.4
    hidden[..., 0] = False  # every query sees something
    assert_same(inputs, torch.zeros(hidden.shape).masked_fill_(hidden, float("-inf")))


@pytest.mark.parametrize("tokens", [PART_TOKENS + 1, 3 * PART_TOKENS, LONGEST_KEPT_TOKENS, LONGEST_KEPT_TOKENS + 1])
def test_long_rows_too(tokens: int) -> None:
    assert_same(drawn(2, 2, 2, tokens, tokens), None)
    assert_same(drawn(1, 1, 1, tokens, tokens), None, scaling=0.3)


def test_very_long_rows_keep_no_scores() -> None:
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    tokens = LONGEST_KEPT_TOKENS + 1
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        short_attention(MODULE, *drawn(1, 1, 1, tokens, tokens), None)
    assert 0 < max(kept) <= 8 * tokens


def test_in_a_layer_that_is_computed_twice_very_long_rows_keep_nothing() -> None:
    inputs, kept = drawn(1, 1, 1, LONGEST_KEPT_TOKENS + 1, LONGEST_KEPT_TOKENS + 1), []

    def layer(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        own = [2 * states for states in (query, key, value)]
        kept.extend(map(weakref.ref, own))
        return short_attention(MODULE, *own, None)[0]

    found = checkpoint(layer, *inputs, use_reentrant=False)
    assert len(kept) == 3 and not any(states() is not None for states in kept)
    expected = layer(*inputs)
    for left, right in zip(*(torch.autograd.grad(result.sum(), inputs) for result in (found, expected)), strict=True):
        torch.testing.assert_close(left, right)


def test_scaling_can_be_given() -> None:
    assert_same(drawn(2, 2, 2, 5, 5), None, scaling=0.3)


@given(st.lists(st.integers(1, 7), min_size=1, max_size=4))
def test_rows_end_to_end_attend_to_themselves_alone(lengths: list[int]) -> None:
    inputs = drawn(1, 2, 2, sum(lengths), sum(lengths))
    rows = Rows.of(lengths, torch.device("cpu"))
    assert rows.starts.tolist() == [0, *accumulate(lengths)]
    found, _ = short_attention(MODULE, *inputs, None, rows_end_to_end=rows)
    row = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    allowed = (row[:, None] == row) & torch.ones(len(row), len(row), dtype=torch.bool).tril()
    expected = scaled_dot_product_attention(*inputs, attn_mask=allowed, enable_gqa=True).transpose(1, 2)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_on_an_accelerator_rows_side_by_side_go_to_pytorch() -> None:
    inputs = drawn(2, 2, 2, 5, 5)
    expected = scaled_dot_product_attention(*inputs, is_causal=True, enable_gqa=True).transpose(1, 2)
    module = nn.Module()
    module.num_key_value_groups = 2
    torch.testing.assert_close(cuda_attention(module, *inputs, None)[0], expected, rtol=1e-5, atol=1e-5)


def test_on_an_accelerator_padding_is_masked_as_ever(model_folder: Path) -> None:
    reference = tiny.reference(model_folder)
    model = tiny.reference(model_folder)
    model.set_attn_implementation(implementation(torch.device("cuda")))
    ids = torch.randint(2, 300, (2, 9), generator=torch.Generator().manual_seed(0))
    seen = torch.tensor([[0, 0, 0, *[1] * 6], [1] * 9])
    expected = reference(input_ids=ids, attention_mask=seen).logits
    torch.testing.assert_close(model(input_ids=ids, attention_mask=seen).logits[seen > 0], expected[seen > 0])
    unseen = model(input_ids=ids).logits
    assert not torch.allclose(unseen[0, 3:], expected[0, 3:], atol=1e-3), "the padding would not matter"


def test_on_a_processor_padding_on_the_left_is_masked_where_others_ask(model_folder: Path) -> None:
    reference, model = tiny.reference(model_folder), tiny.load(model_folder)
    assert model.config._attn_implementation == SHORT_ATTENTION
    ids = torch.randint(2, 300, (2, 9), generator=torch.Generator().manual_seed(0))
    seen = torch.tensor([[0, 0, 0, *[1] * 6], [1] * 9])
    expected = reference(input_ids=ids, attention_mask=seen).logits
    torch.testing.assert_close(model(input_ids=ids, attention_mask=seen).logits[seen > 0], expected[seen > 0])
    assert short_mask(2, 9, 9, attention_mask=torch.ones(2, 9, dtype=torch.bool)) is None, "nothing is to be masked"
    settings = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    written = [own.generate(input_ids=ids, attention_mask=seen, **settings) for own in (model, reference)]
    assert torch.equal(*written)


def test_a_processor_has_no_kernel_for_rows_end_to_end(model_folder: Path) -> None:
    assert not has_kernel(tiny.load(model_folder))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="the kernel runs on CUDA")
def test_an_accelerator_has_one(model_folder: Path) -> None:
    assert has_kernel(tiny.load(model_folder).to(torch.bfloat16))


def test_dropout_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="attention dropout"):
        short_attention(MODULE, *drawn(1, 1, 1, 2, 2), None, dropout=0.1)


def test_the_mask_lets_the_last_query_see_all() -> None:
    hidden = float("-inf")
    assert causal_mask(2, 3, torch.ones(1)).tolist() == [[0, 0, hidden], [0, 0, 0]]
    assert causal_mask(1, 4, torch.ones(1)).tolist() == [[0, 0, 0, 0]]
    assert causal_mask(1, 1, torch.ones(1, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_a_model_on_a_processor_runs_it_and_computes_the_same(model_folder: Path) -> None:
    assert implementation(torch.device("cuda")) == CUDA_ATTENTION
    assert implementation(torch.device("meta")) == "sdpa"
    model, reference = tiny.load(model_folder), tiny.reference(model_folder)
    assert model.config._attn_implementation == SHORT_ATTENTION == implementation(torch.device("cpu"))
    ids = torch.randint(2, 300, (3, 50), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(input_ids=ids).logits, reference(input_ids=ids).logits, rtol=1e-4, atol=1e-4)
