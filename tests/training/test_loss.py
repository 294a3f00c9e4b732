"""The chunked losses are cross entropy and Kullback-Leibler divergence: same values, same gradients."""

from typing import Any

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from keeptune.training import token_weights as weights
from keeptune.training.loss import CHUNK_TOKENS, CHUNK_VALUES, unlikely_to, weighted_divergence, weighted_nll


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


class Largest(TorchDispatchMode):
    """Notes how many numbers the largest tensor has that anything makes while it lasts."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        # A transposed weight is the weight itself.
        if isinstance(made, torch.Tensor) and not made._is_view():
            self.numbers = max(self.numbers, made.numel())
        return made


@pytest.mark.parametrize("vocabulary", [49_152, 128_256])
def test_memory_grows_with_neither_the_vocabulary_nor_the_batch(vocabulary: int) -> None:
    hidden, weight, labels, token_weights = drawn(700, 8, vocabulary)
    with Largest() as largest:
        weighted_nll(hidden, weight, labels, token_weights)[0].backward()
        weighted_divergence(hidden, hidden.detach() + 1, weight, 1.0)[0].backward()
    assert CHUNK_VALUES / 2 < largest.numbers <= CHUNK_VALUES


@pytest.mark.parametrize("method", ["dft", "eaft"])
@pytest.mark.parametrize("tokens", [1, CHUNK_TOKENS + 1])
def test_weights_of_tokens_are_constants_beside_the_loss(tokens: int, method: Any) -> None:
    """DFT: −sg(p)·log p. EAFT: −sg(H₂₀ / ln 20)·log p, H₂₀ the entropy of the 20 likeliest words."""
    hidden, weight, labels, token_weights = drawn(tokens)
    own = hidden.detach().clone().requires_grad_()
    given = token_weights.clone()
    total, losses = weighted_nll(own, weight, labels, token_weights, weights.weigher(method))
    assert torch.equal(token_weights, given), "the caller's weights are left as they were"
    chances = (hidden @ weight.t()).log_softmax(-1)
    expected = -chances.gather(1, labels[:, None]).squeeze(1)
    if method == "dft":
        factor = (-expected).exp()
    else:
        twenty = chances.exp().sort(descending=True).values[:, :20]
        shares = twenty / twenty.sum(-1, keepdim=True)
        factor = -(shares * shares.log()).sum(-1) / torch.log(torch.tensor(20.0))
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-5)
    reference = (expected * factor.detach() * given).sum()
    torch.testing.assert_close(total, reference, rtol=1e-5, atol=1e-5)
    total.backward()
    reference.backward()
    torch.testing.assert_close(own.grad, hidden.grad, rtol=1e-4, atol=1e-5)


def test_entropy_is_one_where_nothing_is_known_and_nought_where_all_is() -> None:
    vague, sure = torch.zeros(1, 97), torch.zeros(1, 97).index_fill(1, torch.tensor([3]), 100.0)
    label = torch.tensor([3])
    assert float(weights.eaft(vague, label)) == pytest.approx(1)
    assert float(weights.eaft(sure, label)) == pytest.approx(0)


def test_what_the_base_finds_unlikely_is_told_by_its_perplexity() -> None:
    base, weight, labels, _ = drawn(CHUNK_TOKENS + 9, width=2, vocabulary=5)
    perplexity = functional.cross_entropy(base @ weight.t(), labels, reduction="none").exp()
    unlikely = unlikely_to(base, weight, labels)
    assert torch.equal(unlikely, perplexity > 2.5)
    assert 0 < unlikely.sum() < len(labels)
    assert not len(unlikely_to(base[:0], weight, labels[:0]))


@pytest.mark.parametrize("tokens", [1, CHUNK_TOKENS + 1])
def test_the_divergence_without_a_token_is_that_of_the_other_words(tokens: int) -> None:
    hidden, weight, left_out, _ = drawn(tokens)
    base = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(1))
    own = hidden.detach().clone().requires_grad_()
    total, each = weighted_divergence(own, base, weight, 0.5, left_out)
    others = torch.ones(tokens, 97, dtype=torch.bool).scatter_(1, left_out[:, None], False)
    logits, reference = ((states @ weight.t())[others].view(tokens, 96) for states in (hidden, base))
    expected = functional.kl_div(logits.log_softmax(-1), reference.log_softmax(-1), reduction="none", log_target=True)
    torch.testing.assert_close(each, expected.sum(-1), rtol=1e-4, atol=1e-4)
    total.backward()
    (0.5 * expected.sum()).backward()
    torch.testing.assert_close(own.grad, hidden.grad, rtol=1e-4, atol=1e-4)


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


@pytest.mark.parametrize("tokens", [1, CHUNK_TOKENS, CHUNK_TOKENS + 1, 2 * CHUNK_TOKENS + 7])
def test_the_divergence_and_its_gradient_are_those_of_kl_div(tokens: int) -> None:
    hidden, weight, _, _ = drawn(tokens)
    base = torch.randn(tokens, hidden.shape[1], generator=torch.Generator().manual_seed(7))
    own = hidden.detach().clone().requires_grad_()
    total, divergences = weighted_divergence(own, base, weight, 0.25)
    chances = [(states @ weight.t()).log_softmax(-1) for states in (hidden, base)]
    expected = functional.kl_div(*chances, reduction="none", log_target=True).sum(-1)
    torch.testing.assert_close(divergences, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(total, 0.25 * expected.sum(), rtol=1e-4, atol=1e-5)
    (3 * total).backward()
    (3 * 0.25 * expected.sum()).backward()
    torch.testing.assert_close(own.grad, hidden.grad, rtol=1e-4, atol=1e-5)
    assert not divergences.requires_grad


def test_equal_states_do_not_diverge_and_pull_nowhere() -> None:
    hidden, weight, _, _ = drawn(9)
    total, divergences = weighted_divergence(hidden, hidden.detach(), weight, 1.0)
    total.backward()
    assert float(divergences.abs().max()) < 1e-6
    assert hidden.grad is not None
    assert float(hidden.grad.abs().max()) < 1e-5
