"""The divergence on answers is that of whole tables of logits, behind the answers that the tuned model writes."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from evaluation.pairs import adapter_pair, broken

from keeptune.evaluation.answer_divergence import (
    CHAT_TOKENS,
    DivergencePrompt,
    chat_prompts,
    measure_answer_divergence,
    summarize,
)
from keeptune.evaluation.model_pair import AdapterPair, ModelPair
from keeptune.generation.engine import Generator
from keeptune.generation.record_cache import RecordCache
from keeptune.models import adapters
from keeptune.prompts.chat import FALLBACK

Record = dict[str, Any]
SEED = 5


@pytest.fixture(scope="module")
def pair(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> AdapterPair:
    return adapter_pair(model_folder, tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def prompts(pair: AdapterPair) -> list[DivergencePrompt]:
    """Chat prompts, and skill prompts of other lengths and budgets."""
    with pair.using("tuned") as subject:
        chat = chat_prompts(subject.layout, 6)
        texts = [tiny.PROMPT.render(problem) for _, problem, _ in tiny.problems(6)]
        skill = [
            DivergencePrompt(f"skill-{place}", "skill", text, tuple(subject.layout.tokens(text)), 4 + 9 * place)
            for place, text in enumerate(texts)
        ]
    return chat + skill


@pytest.fixture(scope="module")
def records(pair: AdapterPair, prompts: list[DivergencePrompt]) -> list[Record]:
    return measure_answer_divergence(pair, prompts, SEED)


def by_hand(pair: AdapterPair, tokens: list[int], start: int) -> float:
    """KL(tuned ‖ base) summed over the places that predict the answer, from whole tables."""
    tables = []
    for scale in (0.0, 1.0):
        with torch.no_grad(), adapters.scaled(pair.generator.model, scale):
            logits = pair.generator.model(input_ids=torch.tensor([tokens])).logits[0]
        tables.append(logits.double().log_softmax(-1)[start - 1 : len(tokens) - 1])
    base, tuned = tables
    return float((tuned.exp() * (tuned - base)).sum())


def test_chat_prompts_are_those_of_the_suite(prompts: list[DivergencePrompt]) -> None:
    chat = [prompt for prompt in prompts if prompt.source == "chat"]
    assert len(chat) == 6
    assert all(prompt.id.startswith("chat-") and prompt.budget == CHAT_TOKENS for prompt in chat)


def test_greedy_answers_are_those_of_the_tuned_model(
    pair: AdapterPair, prompts: list[DivergencePrompt], records: list[Record]
) -> None:
    greedy = [record for record in records if record["mode"] == "greedy"]
    with pair.using("tuned") as subject:
        answers = subject.generator.answer(
            [own.tokens for own in prompts], [own.budget for own in prompts], lambda _: False
        )
    said = {own.id: answer.text for own, answer in zip(prompts, answers, strict=True)}
    assert len(greedy) > 6
    assert {record["id"]: record["output"] for record in greedy} == {own["id"]: said[own["id"]] for own in greedy}
    with pair.using("base") as subject:
        others = subject.generator.answer([prompts[0].tokens], [prompts[0].budget], lambda _: False)
    assert others[0].text != said[prompts[0].id]


def test_sampled_answers_are_those_of_the_seed(
    pair: AdapterPair, prompts: list[DivergencePrompt], records: list[Record]
) -> None:
    with pair.using("tuned") as subject:
        answers = subject.generator.sample([own.tokens for own in prompts], [own.budget for own in prompts], SEED)
    said = {own.id: answer.text for own, answer in zip(prompts, answers, strict=True)}
    sampled = [record for record in records if record["mode"] == "sampled"]
    assert {record["id"]: record["output"] for record in sampled} == {own["id"]: said[own["id"]] for own in sampled}


def test_values_are_those_of_whole_tables(
    pair: AdapterPair, prompts: list[DivergencePrompt], records: list[Record]
) -> None:
    words, tokens_of = tiny.tokenizer(), {own.id: own.tokens for own in prompts}
    assert {record["mode"] for record in records} == {"greedy", "sampled"}
    for record in records:
        answer = words.encode(record["output"], add_special_tokens=False)
        before = list(tokens_of[record["id"]])
        assert record["tokens"] in (len(answer), len(answer) + 1)
        end = [words.eos_token_id] * (record["tokens"] - len(answer))
        expected = by_hand(pair, [*before, *answer, *end], len(before))
        assert record["kl"] == pytest.approx(expected, rel=1e-3, abs=1e-4)
        assert record["kl"] > 0


def test_end_tokens_count_where_the_model_ended(
    pair: AdapterPair, prompts: list[DivergencePrompt], records: list[Record]
) -> None:
    tokens = {(record["id"], record["mode"]): record["tokens"] for record in records}
    stopped = set()
    with pair.using("tuned") as subject:
        words = subject.generator.tokenizer
        answers = subject.generator.sample([own.tokens for own in prompts], [own.budget for own in prompts], SEED)
    for own, answer in zip(prompts, answers, strict=True):
        stopped.add(answer.stopped)
        after = words.encode(answer.text, add_special_tokens=False)
        assert tokens.get((own.id, "sampled"), 0) == len(after) + answer.stopped
    assert stopped == {True, False}


def test_an_adapter_that_is_off_diverges_nowhere(
    pair: AdapterPair, prompts: list[DivergencePrompt], records: list[Record]
) -> None:
    off = AdapterPair(pair.generator, pair.adapter, 0.0, pair.base_cache, FALLBACK)
    made = measure_answer_divergence(off, prompts, SEED)
    assert made and all(record["kl"] == 0 for record in made)
    assert [record["output"] for record in made] != [record["output"] for record in records]


def test_a_smaller_scale_diverges_less(
    pair: AdapterPair, prompts: list[DivergencePrompt], records: list[Record]
) -> None:
    half = AdapterPair(pair.generator, pair.adapter, 0.25, pair.base_cache, FALLBACK)
    means = []
    for made in (measure_answer_divergence(half, prompts, SEED), records):
        figures = summarize(made, "chat", "greedy", 1000, 0)
        assert figures is not None
        means.append(figures["point"])
    assert 0 < means[0] < means[1]


def test_summaries_are_means_over_tokens() -> None:
    def record(what: str, mode: str, tokens: int, kl: float | None) -> Record:
        return {"what": what, "mode": mode, "tokens": tokens, "kl": kl}

    records = [
        record("chat", "greedy", 10, 2.0),
        record("chat", "greedy", 30, 2.0),
        record("chat", "sampled", 5, 1.0),
        record("skill", "sampled", 5, 1.0),
        record("skill", "sampled", 5, None),
    ]
    made = summarize(records, "chat", "greedy", 1000, 0)
    assert made is not None
    assert (made["n"], made["tokens"], made["point"]) == (2, 40, pytest.approx(0.1))
    assert made["low95"] == pytest.approx(2 / 30) and made["high95"] == pytest.approx(0.2)
    assert summarize(records, "skill", "greedy", 1000, 0) is None  # not measured
    assert summarize(records, "skill", "sampled", 1000, 0) is None  # not a number


def model_pair(model_folder: Path, tuned: Any, words: Any, cache: Path) -> ModelPair:
    generators = Generator(tiny.load(model_folder), tiny.tokenizer()), Generator(tuned, words)
    return ModelPair(*generators, [RecordCache(cache, {})] * 2, FALLBACK)


def test_a_model_without_finite_numbers_has_no_divergence(
    model_folder: Path, prompts: list[DivergencePrompt], tmp_path: Path
) -> None:
    pair = model_pair(model_folder, broken(model_folder), tiny.tokenizer(), tmp_path)
    records = measure_answer_divergence(pair, prompts, SEED)
    assert records and all(record["kl"] is None for record in records)
    json.dumps(records, allow_nan=False)
    assert summarize(records, "chat", "greedy", 1000, 0) is None


def test_two_models_that_are_equal_diverge_nowhere(
    model_folder: Path, prompts: list[DivergencePrompt], tmp_path: Path
) -> None:
    pair = model_pair(model_folder, tiny.load(model_folder), tiny.tokenizer(), tmp_path)
    assert all(record["kl"] == 0 for record in measure_answer_divergence(pair, prompts, SEED))


def test_models_with_other_tokens_have_no_divergence(
    model_folder: Path, prompts: list[DivergencePrompt], tmp_path: Path
) -> None:
    pair = model_pair(model_folder, tiny.load(model_folder), tiny.byte_fallback_tokenizer(), tmp_path)
    assert pair.differing_tokens is not None
    with pytest.raises(ValueError, match="tokenizer"):
        measure_answer_divergence(pair, prompts, SEED)
