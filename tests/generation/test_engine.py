"""The generation engine gives exactly the answers of `model.generate` of transformers, row by row."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import PeftModel
from transformers import LlamaForCausalLM

from keeptune.generation import engine, scheduling, slot_cache
from keeptune.generation.engine import Answer, Generator
from keeptune.generation.scheduling import MIN_SHARED_TOKENS, Row, admission_levels, common_prefix
from keeptune.generation.slot_cache import MIN_CACHE_TOKENS, SlotCache, cache_capacity_tokens
from keeptune.models import adapters

Prompts = list[list[int]]
WORDS = tiny.tokenizer()
[LINE_END] = WORDS.encode("\n")
LONGEST_ANSWER = 24


def second_line(so_far: str) -> bool:
    return so_far.count("\n") == 2


def never(so_far: str) -> bool:  # noqa: ARG001
    return False


def text(tokens: list[int]) -> str:
    return str(WORDS.decode(tokens, skip_special_tokens=True))


class Oracle:
    """The answer of transformers to one prompt, cut at the budget, the end token or the stop rule."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.cached: dict[tuple[int, ...], list[int]] = {}

    def tokens(self, prompt: list[int]) -> list[int]:
        if tuple(prompt) not in self.cached:
            ids = torch.tensor([prompt])
            output = self.model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=LONGEST_ANSWER, do_sample=False
            )
            self.cached[tuple(prompt)] = output[0, len(prompt) :].tolist()
        return self.cached[tuple(prompt)]

    def answer(self, prompt: list[int], budget: int, stop: Callable[[str], bool]) -> Answer:
        output: list[int] = []
        for token in self.tokens(prompt)[:budget]:
            if token == WORDS.eos_token_id:
                return Answer(text(output), len(output), True)
            output.append(token)
            if token == LINE_END and stop(text(output)):
                return Answer(text(output), len(output), True)
        return Answer(text(output), len(output), False)


@pytest.fixture(scope="module")
def generator(model_folder: Path) -> Generator:
    return Generator(tiny.load(model_folder), WORDS)


@pytest.fixture(scope="module")
def oracle(model_folder: Path) -> Oracle:
    return Oracle(tiny.reference(model_folder))


def drawn(generator: random.Random, tokens: int) -> list[int]:
    return [generator.randrange(2, len(WORDS)) for _ in range(tokens)]


def ragged(seed: int) -> Prompts:
    """Prompts of different lengths without common prefixes."""
    draw = random.Random(seed)
    return [drawn(draw, draw.choice([1, 2, 3, 10, 30, 70])) for _ in range(20)]


def sharing(seed: int) -> Prompts:
    """Prompts with a common opening, and groups with a common passage, like reading questions."""
    draw = random.Random(seed)
    opening = drawn(draw, draw.randrange(MIN_SHARED_TOKENS, 60))
    prompts = [opening]
    for _ in range(4):
        passage = opening + drawn(draw, draw.choice([1, 5, 40, 50]))
        prompts += [passage + drawn(draw, draw.randrange(12)) for _ in range(draw.randrange(1, 6))]
    prompts.append(list(prompts[-1]))
    draw.shuffle(prompts)
    return prompts


@pytest.mark.parametrize("slots", [1, 3, 8, 128])
@pytest.mark.parametrize("make", [ragged, sharing])
def test_answers_equal_those_of_transformers(
    make: Callable[[int], Prompts], slots: int, generator: Generator, oracle: Oracle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduling, "SLOTS", slots)
    prompts = make(0)
    draw = random.Random(slots)
    budgets = [draw.choice([1, 2, 9, LONGEST_ANSWER]) for _ in prompts]
    progress: list[int] = []
    answers = generator.answer(prompts, budgets, second_line, progress.append)
    assert answers == [oracle.answer(*request, second_line) for request in zip(prompts, budgets, strict=True)]
    assert sum(progress) == len(prompts)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 25))
@pytest.mark.parametrize("make", [ragged, sharing])
def test_many_more_answers_equal_those_of_transformers(
    make: Callable[[int], Prompts], seed: int, generator: Generator, oracle: Oracle, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(seed)
    monkeypatch.setattr(scheduling, "SLOTS", draw.randrange(1, 12))
    prompts = make(seed)
    budgets = [draw.randrange(1, LONGEST_ANSWER + 1) for _ in prompts]
    answers = generator.answer(prompts, budgets, second_line)
    assert answers == [oracle.answer(*request, second_line) for request in zip(prompts, budgets, strict=True)]


def test_the_prompts_above_end_in_every_way(oracle: Oracle) -> None:
    ends = set()
    for prompt in ragged(0) + sharing(0):
        tokens = oracle.tokens(prompt)
        lines = tokens.count(LINE_END)
        ends.add("end token" if tokens[-1] == WORDS.eos_token_id else "second line" if lines > 1 else "budget")
    assert ends == {"end token", "second line", "budget"}


def test_a_small_cache_changes_nothing(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = sharing(1) + ragged(1)
    budgets = [LONGEST_ANSWER] * len(prompts)
    wide = generator.answer(prompts, budgets, never)
    monkeypatch.setattr(engine, "cache_capacity_tokens", lambda *_: 10)
    assert generator.answer(prompts, budgets, never) == wide


def test_one_long_budget_leaves_the_other_rows_their_slots(
    generator: Generator, oracle: Oracle, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots = []

    class Watched(SlotCache):
        def __init__(self, number: int, *others: Any) -> None:
            slots.append(number)
            super().__init__(number, *others)

    monkeypatch.setattr(engine, "SlotCache", Watched)
    prompts = [prompt[:9] for prompt in ragged(3) if len(prompt) >= 9]
    budgets = [1] * len(prompts)
    budgets[2] = LONGEST_ANSWER
    monkeypatch.setattr(engine, "cache_capacity_tokens", lambda *_: 10 * len(prompts))
    answers = generator.answer(prompts, budgets, never)
    assert answers == [oracle.answer(*request, never) for request in zip(prompts, budgets, strict=True)]
    assert slots == [1, len(prompts) - 1]


@pytest.mark.parametrize(("memory_of_least", "expected"), [(0.1, 1), (8, 1), (16.1, 2), (31, 2), (33, 4)])
def test_more_memory_gives_a_larger_cache(
    memory_of_least: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    least = MIN_CACHE_TOKENS * 131_072  # bytes of a token: 2 · 32 layers · 8 heads · 128 · 2
    monkeypatch.setattr(slot_cache, "total_bytes", lambda _: int(memory_of_least * least))
    assert cache_capacity_tokens(tiny.LLAMA3_8B, 2, torch.device("cpu")) == expected * MIN_CACHE_TOKENS


def test_answers_come_in_the_order_of_the_prompts(generator: Generator) -> None:
    prompts = sharing(2) + ragged(2)
    budgets = [1 + index % LONGEST_ANSWER for index in range(len(prompts))]
    answers = generator.answer(prompts, budgets, second_line)
    order = random.Random(0).sample(range(len(prompts)), len(prompts))
    shuffled = generator.answer([prompts[i] for i in order], [budgets[i] for i in order], second_line)
    assert shuffled == [answers[i] for i in order]
    assert generator.answer([], [], never) == []


def test_the_stop_rule_sees_the_text_whenever_a_line_ends(generator: Generator, oracle: Oracle) -> None:
    seen: list[str] = []

    def watch(so_far: str) -> bool:
        seen.append(so_far)
        return False

    generator.answer(ragged(0), [LONGEST_ANSWER] * 20, watch)
    outputs = [oracle.tokens(prompt) for prompt in ragged(0)]
    ends = [(output, end) for output in outputs for end, token in enumerate(output) if token == LINE_END]
    assert ends
    assert sorted(seen) == sorted(WORDS.decode(output[: end + 1]) for output, end in ends)


def test_stop_tokens_can_be_set(generator: Generator, oracle: Oracle) -> None:
    prompt = ragged(0)[5]
    tokens = oracle.tokens(prompt)
    other = Generator(generator.model, WORDS, stop_ids=[tokens[2]])
    [answer] = other.answer([prompt], [LONGEST_ANSWER], never)
    end = tokens.index(tokens[2])
    assert answer == Answer(text(tokens[:end]), end, True)


def test_the_adapter_is_used_in_its_current_state(model_folder: Path, tmp_path: Path, oracle: Oracle) -> None:
    tuned = tiny.tune(tiny.load(model_folder))
    tuned.save_pretrained(tmp_path)
    plain = Oracle(PeftModel.from_pretrained(tiny.reference(model_folder), tmp_path).eval())
    generator, prompts = Generator(tuned, WORDS), sharing(0)
    budgets = [LONGEST_ANSWER] * len(prompts)
    with_adapter = [plain.answer(prompt, LONGEST_ANSWER, never) for prompt in prompts]
    without = [oracle.answer(prompt, LONGEST_ANSWER, never) for prompt in prompts]
    assert generator.answer(prompts, budgets, never) == with_adapter
    with adapters.scaled(tuned, 0):
        assert generator.answer(prompts, budgets, never) == without
    assert with_adapter != without


@pytest.mark.parametrize("words", [WORDS, tiny.byte_fallback_tokenizer()], ids=["byte-level", "byte-fallback"])
def test_every_kind_of_vocabulary_has_a_line_end(words: Any) -> None:
    model = LlamaForCausalLM(tiny.config(len(words)))
    assert Generator(model, words).line_ends == {words.encode("a\n")[-1]}


def admissions(prompts: Prompts) -> list[list[tuple[int, int | None, int]]]:
    """(row, parent, tokens copied), level by level."""
    levels = admission_levels([Row(index, prompt, 1) for index, prompt in enumerate(prompts)])
    return [[(a.row.index, None if a.parent is None else a.parent.index, a.shared) for a in level] for level in levels]


def test_without_common_prefixes_all_rows_are_computed_together() -> None:
    assert admissions([[1, 2, 3]]) == [[(0, None, 0)], [], []]
    assert admissions([[1] * 50, [2] * 50, [3] * 9]) == [[(0, None, 0), (1, None, 0), (2, None, 0)], [], []]
    almost = [7] * (MIN_SHARED_TOKENS - 1)
    assert admissions([[*almost, 1], [*almost, 2]]) == [[(0, None, 0), (1, None, 0)], [], []]


def test_two_levels_of_sharing_are_computed_once_each() -> None:
    opening, first, second = [1] * 40, [2] * 50, [3] * 60
    prompts = [
        [*opening, *first, 4],
        [*opening, *first, 5, 5],
        [*opening, *first, 6],
        [*opening, *second, 4],
        [*opening, *second, 5],
        [*opening, 9],
    ]
    assert admissions(prompts) == [[(0, None, 0)], [(3, 0, 40), (5, 0, 40)], [(1, 0, 90), (2, 0, 90), (4, 3, 100)]]


def test_the_last_token_of_equal_prompts_is_computed() -> None:
    prompt = [1] * 80
    assert admissions([prompt, prompt, prompt]) == [[(0, None, 0)], [(1, 0, 79), (2, 0, 79)], []]


def test_a_common_opening_does_not_split_the_batch(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 27: with a system prompt, every prompt took its own forward pass."""
    opening, passes = [3] * 2 * MIN_SHARED_TOKENS, 0
    forward = generator._forward

    def counted(*arguments: Any) -> list[int]:
        nonlocal passes
        passes += 1
        return forward(*arguments)

    monkeypatch.setattr(generator, "_forward", counted)
    generator.answer([[*opening, *drawn(random.Random(seed), 9)] for seed in range(20)], [1] * 20, never)
    assert passes == 2


def test_a_long_prompt_is_computed_in_parts(
    generator: Generator, oracle: Oracle, monkeypatch: pytest.MonkeyPatch
) -> None:
    widths: list[int] = []
    forward = generator._forward

    def watched(cache: Any, first: int, tokens: Prompts, *others: Any) -> list[int]:
        widths.append(max(map(len, tokens)))
        return forward(cache, first, tokens, *others)

    monkeypatch.setattr(generator, "_forward", watched)
    monkeypatch.setattr(engine, "PREFILL_TOKENS", 8)
    prompts = [*ragged(0), *sharing(0)]
    answers = generator.answer(prompts, [LONGEST_ANSWER] * len(prompts), never)
    assert answers == [oracle.answer(prompt, LONGEST_ANSWER, never) for prompt in prompts]
    assert max(widths) == 8


PIECES = st.lists(st.sampled_from([[1] * 31, [2] * 33, [3] * 70, [4], [5]]), min_size=1, max_size=4)
PROMPTS = st.lists(PIECES.map(lambda pieces: [token for piece in pieces for token in piece]), min_size=1, max_size=12)


@given(PROMPTS, st.booleans(), st.booleans())
def test_every_level_copies_equal_tokens_that_are_computed(prompts: Prompts, opened: bool, ordered: bool) -> None:
    if opened:
        prompts = [[9] * MIN_SHARED_TOKENS + prompt for prompt in prompts]
    if ordered:
        prompts.sort()
    computed: set[int] = set()
    for level in admissions(prompts):
        for row, parent, shared in level:
            if parent is None:
                assert shared == 0
                continue
            assert parent in computed
            assert prompts[parent][:shared] == prompts[row][:shared]
            assert shared < len(prompts[row])
        computed.update(row for row, _, _ in level)
    assert computed == set(range(len(prompts)))


@given(st.lists(st.integers(0, 2)), st.lists(st.integers(0, 2)))
def test_the_common_prefix(left: list[int], right: list[int]) -> None:
    count = common_prefix(left, right)
    assert left[:count] == right[:count]
    assert left[: count + 1] != right[: count + 1] or count == len(left) == len(right)
