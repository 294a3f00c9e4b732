"""Sampled answers follow the distribution of the model, and depend only on prompt, index and seed."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from keeptune.generation import engine, scheduling
from keeptune.generation.engine import AnswerCollector, Generator
from keeptune.generation.scheduling import Row

WORDS = tiny.tokenizer()
LONGEST_ANSWER = 16
COPIES = 2000


@pytest.fixture(scope="module")
def generator(model_folder: Path) -> Generator:
    return Generator(tiny.load(model_folder), WORDS)


def prompts(number: int, seed: int = 0) -> list[list[int]]:
    """Prompts of different lengths. Every second one starts with the same prefix."""
    draw = random.Random(seed)
    opening = [draw.randrange(2, len(WORDS)) for _ in range(40)]
    batch = []
    for place in range(number):
        prompt = [draw.randrange(2, len(WORDS)) for _ in range(draw.choice([1, 3, 20, 60]))]
        batch.append([*opening, *prompt] if place % 2 else prompt)
    return batch


def budgets(number: int) -> list[int]:
    return [1 + place % LONGEST_ANSWER for place in range(number)]


def test_the_same_seed_gives_the_same_answers(generator: Generator) -> None:
    batch = prompts(30)
    first = generator.sample(batch, budgets(30), 7)
    assert generator.sample(batch, budgets(30), 7) == first
    assert len(first) == 30
    assert all(answer.tokens <= budget for answer, budget in zip(first, budgets(30), strict=True))


@pytest.mark.parametrize("slots", [1, 3, 8])
def test_answers_do_not_depend_on_the_batch(slots: int, generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = prompts(20)
    wide = generator.sample(batch, budgets(20), 7)
    monkeypatch.setattr(scheduling, "SLOTS", slots)
    assert generator.sample(batch, budgets(20), 7) == wide


def test_a_small_cache_changes_nothing(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = prompts(20)
    wide = generator.sample(batch, budgets(20), 7)
    monkeypatch.setattr(engine, "cache_capacity_tokens", lambda *_: 10)
    assert generator.sample(batch, budgets(20), 7) == wide


def test_further_prompts_change_nothing(generator: Generator) -> None:
    batch = prompts(24)
    whole = generator.sample(batch, budgets(24), 7)
    assert generator.sample(batch[:9], budgets(9), 7) == whole[:9]
    assert generator.sample(batch[:1], budgets(1), 7) == whole[:1]
    assert generator.sample([], [], 7) == []


def test_an_answer_does_not_depend_on_the_other_prompts(generator: Generator) -> None:
    batch, others = prompts(12), prompts(12, seed=1)
    mixed = [one if place % 3 else other for place, (one, other) in enumerate(zip(batch, others, strict=True))]
    alone, among = generator.sample(batch, budgets(12), 7), generator.sample(mixed, budgets(12), 7)
    assert [alone[place] for place in range(12) if place % 3] == [among[place] for place in range(12) if place % 3]


def test_a_larger_budget_continues_the_same_answer(generator: Generator) -> None:
    batch = prompts(12)
    short, long = generator.sample(batch, [4] * 12, 7), generator.sample(batch, [12] * 12, 7)
    for few, many in zip(short, long, strict=True):
        assert few == many if few.stopped else many.tokens >= few.tokens == 4


def test_other_seeds_give_other_answers(generator: Generator) -> None:
    batch = prompts(10)
    texts = [tuple(answer.text for answer in generator.sample(batch, [8] * 10, seed)) for seed in range(6)]
    assert len(set(texts)) == 6


def test_equal_prompts_get_different_answers(generator: Generator) -> None:
    answers = generator.sample([[5, 6, 7]] * 40, [6] * 40, 7)
    assert len({answer.text for answer in answers}) > 20


def test_sampling_leaves_greedy_answers_and_global_randomness_alone(generator: Generator) -> None:
    batch = prompts(10)
    greedy = generator.answer(batch, [6] * 10, lambda _: False)
    state = torch.random.get_rng_state()
    sampled = generator.sample(batch, [6] * 10, 7)
    assert torch.equal(state, torch.random.get_rng_state())
    assert generator.answer(batch, [6] * 10, lambda _: False) == greedy != sampled


def test_an_error_leaves_greedy_answers_greedy(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = prompts(4)
    greedy = generator.answer(batch, [6] * 4, lambda _: False)

    def fails(*_: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(AnswerCollector, "append", fails)
        with pytest.raises(MemoryError):
            generator.sample(batch, [6] * 4, 7)
    assert generator.answer(batch, [6] * 4, lambda _: False) == greedy


def drawn_tokens(generator: Generator, prompt: list[int], tokens: int, seed: int) -> list[list[int]]:
    """The tokens of many answers to one prompt, end tokens included."""
    drawn: list[list[int]] = [[] for _ in range(COPIES)]

    class Watched(Generator):
        def _forward(self, cache: Any, first: int, tokens: Any, starts: Any, rows: Sequence[Row]) -> list[int]:
            chosen = super()._forward(cache, first, tokens, starts, rows)
            for row, token in zip(rows, chosen, strict=True):
                drawn[row.index].append(token)
            return chosen

    Watched(generator.model, generator.tokenizer).sample([prompt] * COPIES, [tokens] * COPIES, seed)
    return drawn


@pytest.mark.parametrize("seed", [0, 1])
def test_tokens_are_as_frequent_as_the_model_says(generator: Generator, model_folder: Path, seed: int) -> None:
    prompt = WORDS.encode("Question: 1 + 1\nAnswer:\n")
    with torch.no_grad():
        logits = tiny.reference(model_folder)(input_ids=torch.tensor([prompt])).logits[0, -1]
    expected = COPIES * logits.double().softmax(-1).numpy()
    first = [tokens[0] for tokens in drawn_tokens(generator, prompt, 1, seed)]
    counts = np.bincount(first, minlength=len(expected))
    assert counts.sum() == COPIES
    # Pearson's test needs at least five expected draws, so rarer tokens are counted together.
    common = expected >= 5
    observed = np.array([*counts[common], counts[~common].sum()])
    expected_counts = np.array([*expected[common], expected[~common].sum()])
    statistic, freedom = float(((observed - expected_counts) ** 2 / expected_counts).sum()), len(expected_counts) - 1
    assert freedom >= 10
    # Wilson and Hilferty's bound: a true sampler exceeds it once in 30,000.
    assert statistic < freedom * (1 - 2 / (9 * freedom) + 4 * (2 / (9 * freedom)) ** 0.5) ** 3


def test_each_token_is_drawn_independently(generator: Generator, model_folder: Path) -> None:
    """With one draw for a whole answer, a token would follow itself far more often than the model says."""
    prompt = WORDS.encode("Question: 1 + 1\nAnswer:\n")
    reference, size = tiny.reference(model_folder), len(WORDS)
    with torch.no_grad():
        rows = torch.tensor([[*prompt, token] for token in range(size)])
        tables = reference(input_ids=rows).logits[:, -2:].double().softmax(-1)
    first, itself = tables[0, 0], tables[torch.arange(size), 1, torch.arange(size)]
    first[WORDS.eos_token_id] = 0  # nothing follows the end token
    share = float((first * itself).sum())
    pairs = [tokens for tokens in drawn_tokens(generator, prompt, 2, seed=3) if len(tokens) == 2]
    repeated = sum(one == other for one, other in pairs) / COPIES
    assert repeated == pytest.approx(share, abs=4.5 * (share * (1 - share) / COPIES) ** 0.5)
