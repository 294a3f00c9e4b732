"""Sampled tokens follow the distribution that temperature and nucleus define; log probabilities are the model's."""

import numpy as np
import pytest
import torch

from keeptune.generation import sampling
from keeptune.generation.sampling import Choice, Sampling, choose_tokens, uniform

VOCABULARY = 50
DRAWS = 4_000


@pytest.fixture(scope="module")
def logits() -> torch.Tensor:
    return 2 * torch.randn(4, VOCABULARY, generator=torch.Generator().manual_seed(3))


def tokens(logits: torch.Tensor, settings: Sampling) -> list[int]:
    """Many draws from the first row: one per length of the answer."""
    rows = logits[:1].expand(DRAWS, -1)
    return [choice.token for choice in choose_tokens(rows, [settings] * DRAWS, range(DRAWS))]


def nucleus(probabilities: np.ndarray, top_p: float) -> np.ndarray:
    """The renormalized probabilities of the smallest set with at least this probability, by its definition."""
    order, inside, mass = np.argsort(-probabilities), np.zeros_like(probabilities), 0.0
    for token in order:
        if mass >= top_p:
            break
        inside[token] = probabilities[token]
        mass += probabilities[token]
    return inside / inside.sum()


@pytest.mark.parametrize("candidates", [3, 1_024])
@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (1.5, 0.9), (1.0, 0.3), (1.0, 1e-9)])
def test_tokens_are_as_frequent_as_defined(
    temperature: float, top_p: float, candidates: int, logits: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "NUCLEUS_CANDIDATES", candidates)
    probabilities = (logits[0].double() / temperature).softmax(-1).numpy()
    expected = DRAWS * (nucleus(probabilities, top_p) if top_p < 1 else probabilities)
    counts = np.bincount(tokens(logits, Sampling(temperature, top_p, seed=1)), minlength=VOCABULARY)
    assert not counts[expected == 0].any()
    # Pearson's test needs at least five expected draws, so rarer tokens are counted together.
    common = expected >= 5
    observed, means = (np.array([*part[common], part[~common].sum()]) for part in (counts, expected))
    statistic = float(((observed - means)[means > 0] ** 2 / means[means > 0]).sum())
    freedom = max(1, int((means > 0).sum()) - 1)
    # Wilson and Hilferty's bound: a true sampler exceeds it once in 30,000.
    assert statistic < freedom * (1 - 2 / (9 * freedom) + 4 * (2 / (9 * freedom)) ** 0.5) ** 3


def test_temperature_0_is_the_most_likely_token(logits: torch.Tensor) -> None:
    expected = logits.argmax(-1).tolist()
    for temperature in (0.0, 1e-30):
        choices = choose_tokens(logits, [Sampling(temperature, seed=row) for row in range(4)], [0] * 4)
        assert [choice.token for choice in choices] == expected


def test_each_row_has_its_own_settings(logits: torch.Tensor) -> None:
    settings = [Sampling(), Sampling(1.0, seed=5), Sampling(0.7, 0.8, seed=6), Sampling(1.0, seed=5)]
    together = choose_tokens(logits, settings, [3, 4, 5, 6])
    alone = [choose_tokens(logits[[row]], [settings[row]], [3 + row])[0] for row in range(4)]
    assert together == alone


def test_draws_depend_on_seed_and_length(logits: torch.Tensor) -> None:
    settings = Sampling(1.0, seed=1)
    assert tokens(logits, settings) == tokens(logits, settings)
    assert tokens(logits, settings)[:100] != tokens(logits, Sampling(1.0, seed=2))[:100]
    draws = np.array([uniform(7, index) for index in range(DRAWS)])
    assert draws.min() >= 0
    assert draws.max() < 1
    assert abs(draws.mean() - 0.5) < 5 / (12 * DRAWS) ** 0.5
    assert abs(np.corrcoef(draws[1:], draws[:-1])[0, 1]) < 5 / DRAWS**0.5


def test_log_probabilities_are_those_at_temperature_1(logits: torch.Tensor) -> None:
    settings = [Sampling(0.5, 0.5, 1, top_logprobs=3), Sampling(), Sampling(top_logprobs=0), Sampling(top_logprobs=99)]
    choices = choose_tokens(logits, settings, [0] * 4)
    logprobs = logits.log_softmax(-1)
    for row in (0, 2, 3):
        assert choices[row].logprob == pytest.approx(float(logprobs[row, choices[row].token]))
    values, ids = logprobs[0].topk(3)
    assert choices[0].top == tuple(zip(ids.tolist(), values.tolist(), strict=True))
    assert choices[1] == Choice(choices[1].token)
    assert (len(choices[2].top), len(choices[3].top)) == (0, VOCABULARY)


def test_bfloat16_logits_choose_as_the_generator_does() -> None:
    logits = torch.randn(8, VOCABULARY, generator=torch.Generator().manual_seed(1)).bfloat16()
    choices = choose_tokens(logits, [Sampling()] * 8, [0] * 8)
    assert [choice.token for choice in choices] == logits.max(-1).indices.tolist()
