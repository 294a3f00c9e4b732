"""The chunked losses equal cross-entropy and KL divergence in values and gradients."""

from typing import Any

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from keeptune.training import token_weights as weights
from keeptune.training.loss import CHUNK_TOKENS, CHUNK_VALUES, improbable_labels, weighted_kl, weighted_nll


def random_inputs(tokens: int, width: int = 24, vocabulary: int = 97) -> tuple[torch.Tensor, ...]:
    draw = torch.Generator().manual_seed(tokens)
    hidden = torch.randn(tokens, width, generator=draw).requires_grad_()
    weight = torch.randn(vocabulary, width, generator=draw)
    labels = torch.randint(vocabulary, (tokens,), generator=draw)
    return hidden, weight, labels, torch.rand(tokens, generator=draw)


@pytest.mark.parametrize("tokens", [1, 2, CHUNK_TOKENS - 1, CHUNK_TOKENS, CHUNK_TOKENS + 1, 3 * CHUNK_TOKENS + 7])
def test_loss_and_gradient_equal_cross_entropy(tokens: int) -> None:
    hidden, weight, labels, token_weights = random_inputs(tokens)
    copy = hidden.detach().clone().requires_grad_()
    total, losses = weighted_nll(copy, weight, labels, token_weights)
    expected = functional.cross_entropy(hidden @ weight.t(), labels, reduction="none")
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(total, (expected * token_weights).sum(), rtol=1e-5, atol=1e-5)
    # A later factor of the loss must scale the gradient, which was computed before.
    (3 * total).backward()
    (3 * (expected * token_weights).sum()).backward()
    torch.testing.assert_close(copy.grad, hidden.grad, rtol=1e-5, atol=1e-5)


class Largest(TorchDispatchMode):
    """Records the size of the largest tensor that any operation creates."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        # Transposing a weight creates no new tensor.
        if isinstance(result, torch.Tensor) and not result._is_view():
            self.numbers = max(self.numbers, result.numel())
        return result


@pytest.mark.parametrize("vocabulary", [49_152, 128_256])
def test_memory_depends_on_neither_vocabulary_nor_batch(vocabulary: int) -> None:
    hidden, weight, labels, token_weights = random_inputs(700, 8, vocabulary)
    with Largest() as largest:
        weighted_nll(hidden, weight, labels, token_weights)[0].backward()
        weighted_kl(hidden, hidden.detach() + 1, weight, 1.0)[0].backward()
    assert CHUNK_VALUES / 2 < largest.numbers <= CHUNK_VALUES


@pytest.mark.parametrize("method", ["dft", "eaft"])
@pytest.mark.parametrize("tokens", [1, CHUNK_TOKENS + 1])
def test_token_weights_are_constants_in_the_gradient(tokens: int, method: Any) -> None:
    """DFT: −sg(p)·log p. EAFT: −sg(H₂₀ / ln 20)·log p, with H₂₀ the entropy of the 20 most likely words."""
    hidden, weight, labels, token_weights = random_inputs(tokens)
    copy = hidden.detach().clone().requires_grad_()
    original_weights = token_weights.clone()
    total, losses = weighted_nll(copy, weight, labels, token_weights, weights.weight_function(method))
    assert torch.equal(token_weights, original_weights), "the caller's weights are left as they were"
    chances = (hidden @ weight.t()).log_softmax(-1)
    expected = -chances.gather(1, labels[:, None]).squeeze(1)
    if method == "dft":
        factor = (-expected).exp()
    else:
        twenty = chances.exp().sort(descending=True).values[:, :20]
        shares = twenty / twenty.sum(-1, keepdim=True)
        factor = -(shares * shares.log()).sum(-1) / torch.log(torch.tensor(20.0))
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-5)
    reference = (expected * factor.detach() * original_weights).sum()
    torch.testing.assert_close(total, reference, rtol=1e-5, atol=1e-5)
    total.backward()
    reference.backward()
    torch.testing.assert_close(copy.grad, hidden.grad, rtol=1e-4, atol=1e-5)


def test_relative_entropy_is_one_for_uniform_and_zero_for_certain() -> None:
    vague, sure = torch.zeros(1, 97), torch.zeros(1, 97).index_fill(1, torch.tensor([3]), 100.0)
    label = torch.tensor([3])
    assert float(weights.eaft(vague, label)) == pytest.approx(1)
    assert float(weights.eaft(sure, label)) == pytest.approx(0)


def test_improbable_labels_follow_the_perplexity_of_the_base() -> None:
    base, weight, labels, _ = random_inputs(CHUNK_TOKENS + 9, width=2, vocabulary=5)
    perplexity = functional.cross_entropy(base @ weight.t(), labels, reduction="none").exp()
    unlikely = improbable_labels(base, weight, labels)
    assert torch.equal(unlikely, perplexity > 2.5)
    assert 0 < unlikely.sum() < len(labels)
    assert not len(improbable_labels(base[:0], weight, labels[:0]))


@pytest.mark.parametrize("tokens", [1, CHUNK_TOKENS + 1])
def test_kl_with_excluded_token_covers_the_other_words(tokens: int) -> None:
    hidden, weight, left_out, _ = random_inputs(tokens)
    base = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(1))
    copy = hidden.detach().clone().requires_grad_()
    total, each = weighted_kl(copy, base, weight, 0.5, left_out)
    others = torch.ones(tokens, 97, dtype=torch.bool).scatter_(1, left_out[:, None], False)
    logits, reference = ((states @ weight.t())[others].view(tokens, 96) for states in (hidden, base))
    expected = functional.kl_div(logits.log_softmax(-1), reference.log_softmax(-1), reduction="none", log_target=True)
    torch.testing.assert_close(each, expected.sum(-1), rtol=1e-4, atol=1e-4)
    total.backward()
    (0.5 * expected.sum()).backward()
    torch.testing.assert_close(copy.grad, hidden.grad, rtol=1e-4, atol=1e-4)


def test_large_logits_stay_finite() -> None:
    hidden, weight, labels, token_weights = random_inputs(5)
    copy = (1e4 * hidden.detach()).requires_grad_()
    total, _ = weighted_nll(copy, weight, labels, token_weights)
    expected = functional.cross_entropy(copy.detach() @ weight.t(), labels, reduction="none")
    torch.testing.assert_close(total, (expected * token_weights).sum())
    total.backward()
    assert copy.grad is not None
    assert bool(copy.grad.isfinite().all())


def test_the_loss_of_a_bfloat16_model_is_summed_in_float32() -> None:
    hidden, weight, labels, token_weights = random_inputs(40)
    copy = hidden.detach().bfloat16().requires_grad_()
    total, losses = weighted_nll(copy, weight.bfloat16(), labels, token_weights)
    assert (total.dtype, losses.dtype) == (torch.float32, torch.float32)
    logits = (copy.detach() @ weight.bfloat16().t()).float()
    torch.testing.assert_close(losses, functional.cross_entropy(logits, labels, reduction="none"))
    total.backward()
    assert copy.grad is not None
    assert copy.grad.dtype == torch.bfloat16


def test_output_layer_and_token_losses_have_no_gradient() -> None:
    hidden, weight, labels, token_weights = random_inputs(7)
    weight.requires_grad_()
    total, losses = weighted_nll(hidden, weight, labels, token_weights)
    assert not losses.requires_grad
    total.backward()
    assert weight.grad is None


@pytest.mark.parametrize("tokens", [1, CHUNK_TOKENS, CHUNK_TOKENS + 1, 2 * CHUNK_TOKENS + 7])
def test_kl_and_its_gradient_equal_kl_div(tokens: int) -> None:
    hidden, weight, _, _ = random_inputs(tokens)
    base = torch.randn(tokens, hidden.shape[1], generator=torch.Generator().manual_seed(7))
    copy = hidden.detach().clone().requires_grad_()
    total, divergences = weighted_kl(copy, base, weight, 0.25)
    chances = [(states @ weight.t()).log_softmax(-1) for states in (hidden, base)]
    expected = functional.kl_div(*chances, reduction="none", log_target=True).sum(-1)
    torch.testing.assert_close(divergences, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(total, 0.25 * expected.sum(), rtol=1e-4, atol=1e-5)
    (3 * total).backward()
    (3 * 0.25 * expected.sum()).backward()
    torch.testing.assert_close(copy.grad, hidden.grad, rtol=1e-4, atol=1e-5)
    assert not divergences.requires_grad


def test_equal_states_have_zero_kl_and_zero_gradient() -> None:
    hidden, weight, _, _ = random_inputs(9)
    total, divergences = weighted_kl(hidden, hidden.detach(), weight, 1.0)
    total.backward()
    assert float(divergences.abs().max()) < 1e-6
    assert hidden.grad is not None
    assert float(hidden.grad.abs().max()) < 1e-5
