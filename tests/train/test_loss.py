"""The chunked loss is cross entropy: same values, same gradient."""

import pytest
import torch
from torch.nn import functional

from keeptune.train.loss import CHUNK_TOKENS, weighted_nll


def drawn(tokens: int, width: int = 24, vocabulary: int = 97) -> tuple[torch.Tensor, ...]:
    draw = torch.Generator().manual_seed(tokens)
    hidden = torch.randn(tokens, width, generator=draw).requires_grad_()
    weight = torch.randn(vocabulary, width, generator=draw)
    labels = torch.randint(vocabulary, (tokens,), generator=draw)
    return hidden, weight, labels, torch.rand(tokens, generator=draw)


@pytest.mark.parametrize("tokens", [1, 2, CHUNK_TOKENS - 1, CHUNK_TOKENS, CHUNK_TOKENS + 1, 3 * CHUNK_TOKENS + 7])
def test_loss_and_gradient_are_those_of_cross_entropy(tokens: int) -> None:
    hidden, weight, labels, token_weights = drawn(tokens)
    own = hidden.detach().clone().requires_grad_()
    total, losses = weighted_nll(own, weight, labels, token_weights)
    expected = functional.cross_entropy(hidden @ weight.t(), labels, reduction="none")
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(total, (expected * token_weights).sum(), rtol=1e-5, atol=1e-5)
    # A factor behind the loss must reach the gradient that was formed before it was known.
    (3 * total).backward()
    (3 * (expected * token_weights).sum()).backward()
    torch.testing.assert_close(own.grad, hidden.grad, rtol=1e-5, atol=1e-5)


def test_large_logits_stay_finite() -> None:
    hidden, weight, labels, token_weights = drawn(5)
    own = (1e4 * hidden.detach()).requires_grad_()
    total, _ = weighted_nll(own, weight, labels, token_weights)
    expected = functional.cross_entropy(own.detach() @ weight.t(), labels, reduction="none")
    torch.testing.assert_close(total, (expected * token_weights).sum())
    total.backward()
    assert own.grad is not None
    assert bool(own.grad.isfinite().all())


def test_the_loss_is_summed_in_float32_where_the_model_is_not() -> None:
    hidden, weight, labels, token_weights = drawn(40)
    own = hidden.detach().bfloat16().requires_grad_()
    total, losses = weighted_nll(own, weight.bfloat16(), labels, token_weights)
    assert (total.dtype, losses.dtype) == (torch.float32, torch.float32)
    logits = (own.detach() @ weight.bfloat16().t()).float()
    torch.testing.assert_close(losses, functional.cross_entropy(logits, labels, reduction="none"))
    total.backward()
    assert own.grad is not None
    assert own.grad.dtype == torch.bfloat16


def test_neither_the_output_layer_nor_the_token_losses_carry_a_gradient() -> None:
    hidden, weight, labels, token_weights = drawn(7)
    weight.requires_grad_()
    total, losses = weighted_nll(hidden, weight, labels, token_weights)
    assert not losses.requires_grad
    total.backward()
    assert weight.grad is None
