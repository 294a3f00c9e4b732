"""Short attention equals PyTorch's attention in values and gradients, with and without a mask."""

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
    MAX_STORED_SCORE_TOKENS,
    QUERY_BLOCK_TOKENS,
    SHORT_ATTENTION,
    causal_mask,
    cuda_attention,
    register_attention,
    short_attention,
    short_mask,
    supports_packed_rows,
)
from keeptune.models.packed_rows import PackedRows

MODULE = nn.Identity()


def random_states(
    rows: int, groups: int, shared: int, queries: int, keys: int, size: int = 8
) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    query = torch.randn(rows, groups * shared, queries, size, generator=draw)
    key, value = (torch.randn(rows, groups, keys, size, generator=draw) for _ in range(2))
    return query.requires_grad_(), key.requires_grad_(), value.requires_grad_()


def assert_same(inputs: tuple[Tensor, Tensor, Tensor], mask: Tensor | None, scaling: float | None = None) -> None:
    """Asserts equal results and gradients, against PyTorch with an explicit mask and repeated groups."""
    queries, keys = inputs[0].shape[2], inputs[1].shape[2]
    allowed = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries) if mask is None else mask
    expected = scaled_dot_product_attention(*inputs, attn_mask=allowed, scale=scaling, enable_gqa=True).transpose(1, 2)
    output, weights = short_attention(MODULE, *inputs, mask, scaling)
    assert weights is None
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-5)
    weights_of_sum = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    own = torch.autograd.grad((output * weights_of_sum).sum(), inputs)
    expected_gradients = torch.autograd.grad((expected * weights_of_sum).sum(), inputs)
    for actual, reference in zip(own, expected_gradients, strict=True):
        torch.testing.assert_close(actual, reference, rtol=1e-5, atol=1e-5)


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 9), st.integers(0, 9))
def test_without_a_mask_it_is_causal(rows: int, groups: int, shared: int, queries: int, before: int) -> None:
    assert_same(random_states(rows, groups, shared, queries, before + queries), None)


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 6), st.integers(1, 9), st.integers(0, 99))
def test_a_mask_is_added(rows: int, shared: int, queries: int, keys: int, seed: int) -> None:
    inputs = random_states(rows, 2, shared, queries, keys)
    draw = torch.Generator().manual_seed(seed)
    hidden = torch.rand(rows, 1, queries, keys, generator=draw) < 0.4
    hidden[..., 0] = False  # every query sees at least one key
    assert_same(inputs, torch.zeros(hidden.shape).masked_fill_(hidden, float("-inf")))


@pytest.mark.parametrize(
    "tokens", [QUERY_BLOCK_TOKENS + 1, 3 * QUERY_BLOCK_TOKENS, MAX_STORED_SCORE_TOKENS, MAX_STORED_SCORE_TOKENS + 1]
)
def test_long_rows_equal_pytorch(tokens: int) -> None:
    assert_same(random_states(2, 2, 2, tokens, tokens), None)
    assert_same(random_states(1, 1, 1, tokens, tokens), None, scaling=0.3)


def test_very_long_rows_store_no_scores() -> None:
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    tokens = MAX_STORED_SCORE_TOKENS + 1
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        short_attention(MODULE, *random_states(1, 1, 1, tokens, tokens), None)
    assert 0 < max(kept) <= 8 * tokens


def test_very_long_rows_store_nothing_with_activation_checkpointing() -> None:
    inputs, kept = random_states(1, 1, 1, MAX_STORED_SCORE_TOKENS + 1, MAX_STORED_SCORE_TOKENS + 1), []

    def layer(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        own = [2 * states for states in (query, key, value)]
        kept.extend(map(weakref.ref, own))
        return short_attention(MODULE, *own, None)[0]

    output = checkpoint(layer, *inputs, use_reentrant=False)
    assert len(kept) == 3 and not any(states() is not None for states in kept)
    expected = layer(*inputs)
    for actual, reference in zip(
        *(torch.autograd.grad(result.sum(), inputs) for result in (output, expected)), strict=True
    ):
        torch.testing.assert_close(actual, reference)


def test_scaling_is_an_option() -> None:
    assert_same(random_states(2, 2, 2, 5, 5), None, scaling=0.3)


@given(st.lists(st.integers(1, 7), min_size=1, max_size=4))
def test_packed_rows_attend_only_to_themselves(lengths: list[int]) -> None:
    inputs = random_states(1, 2, 2, sum(lengths), sum(lengths))
    rows = PackedRows.of(lengths, torch.device("cpu"))
    assert rows.starts.tolist() == [0, *accumulate(lengths)]
    output, _ = short_attention(MODULE, *inputs, None, packed_rows=rows)
    row = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    allowed = (row[:, None] == row) & torch.ones(len(row), len(row), dtype=torch.bool).tril()
    expected = scaled_dot_product_attention(*inputs, attn_mask=allowed, enable_gqa=True).transpose(1, 2)
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-5)


def test_on_an_accelerator_padded_rows_use_pytorch() -> None:
    inputs = random_states(2, 2, 2, 5, 5)
    expected = scaled_dot_product_attention(*inputs, is_causal=True, enable_gqa=True).transpose(1, 2)
    module = nn.Module()
    module.num_key_value_groups = 2
    torch.testing.assert_close(cuda_attention(module, *inputs, None)[0], expected, rtol=1e-5, atol=1e-5)


def test_on_an_accelerator_padding_is_masked(model_folder: Path) -> None:
    reference = tiny.reference(model_folder)
    model = tiny.reference(model_folder)
    model.set_attn_implementation(register_attention(torch.device("cuda")))
    ids = torch.randint(2, 300, (2, 9), generator=torch.Generator().manual_seed(0))
    seen = torch.tensor([[0, 0, 0, *[1] * 6], [1] * 9])
    expected = reference(input_ids=ids, attention_mask=seen).logits
    torch.testing.assert_close(model(input_ids=ids, attention_mask=seen).logits[seen > 0], expected[seen > 0])
    unseen = model(input_ids=ids).logits
    assert not torch.allclose(unseen[0, 3:], expected[0, 3:], atol=1e-3), "the padding would not matter"


def test_on_a_cpu_left_padding_of_other_callers_is_masked(model_folder: Path) -> None:
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


def test_a_cpu_has_no_kernel_for_packed_rows(model_folder: Path) -> None:
    assert not supports_packed_rows(tiny.load(model_folder))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="the kernel runs on CUDA")
def test_an_accelerator_has_a_kernel_for_packed_rows(model_folder: Path) -> None:
    assert supports_packed_rows(tiny.load(model_folder).to(torch.bfloat16))


def test_dropout_raises() -> None:
    with pytest.raises(NotImplementedError, match="attention dropout"):
        short_attention(MODULE, *random_states(1, 1, 1, 2, 2), None, dropout=0.1)


def test_the_last_query_sees_all_keys() -> None:
    hidden = float("-inf")
    assert causal_mask(2, 3, torch.ones(1)).tolist() == [[0, 0, hidden], [0, 0, 0]]
    assert causal_mask(1, 4, torch.ones(1)).tolist() == [[0, 0, 0, 0]]
    assert causal_mask(1, 1, torch.ones(1, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_a_model_on_a_cpu_uses_it_and_computes_the_same(model_folder: Path) -> None:
    assert register_attention(torch.device("cuda")) == CUDA_ATTENTION
    assert register_attention(torch.device("meta")) == "sdpa"
    model, reference = tiny.load(model_folder), tiny.reference(model_folder)
    assert model.config._attn_implementation == SHORT_ATTENTION == register_attention(torch.device("cpu"))
    ids = torch.randint(2, 300, (3, 50), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(input_ids=ids).logits, reference(input_ids=ids).logits, rtol=1e-4, atol=1e-4)
