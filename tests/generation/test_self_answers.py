"""Self-replay: the prompt pool, the sampled answers, and the training examples made from them."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import tiny

from keeptune.evaluation.practised import practised_by_source
from keeptune.generation.engine import Generator
from keeptune.generation.record_cache import RecordCache
from keeptune.generation.self_answers import ANSWER_TOKENS, prompt_pool, sample_self_answers, self_answer_examples
from keeptune.prompts.chat import ChatLayout
from keeptune.prompts.template import Prompt
from keeptune.training.replay import MAX_ROW_TOKENS

WORDS = tiny.tokenizer()
LAYOUT = ChatLayout(WORDS, Prompt("{problem}\n"))


@pytest.fixture(scope="module")
def generator(model_folder: Path) -> Generator:
    return Generator(tiny.load(model_folder), WORDS)


def test_the_pool_is_broad() -> None:
    pool = prompt_pool()
    languages = Counter(prompt.language for prompt in pool)
    assert len(pool) >= 1500 and min(languages["en"], languages["zh"]) >= 600
    assert len({prompt.id for prompt in pool}) == len(pool)
    assert len({" ".join(message.content for message in prompt.messages) for prompt in pool}) == len(pool)
    assert sum(len(prompt.messages) > 1 for prompt in pool) >= 100
    assert all(prompt.messages[-1].role == "user" for prompt in pool)


def test_the_pool_shares_no_13_gram_with_the_suite() -> None:
    assert set(practised_by_source("self").values()) == {"replay of the base's own answers has its task"}


def test_prompts_are_answered_until_there_are_enough_tokens(generator: Generator, tmp_path: Path) -> None:
    cache = RecordCache(tmp_path, {})
    records = sample_self_answers(generator, LAYOUT, cache, 1, seed=0)
    assert len(records) == 128
    assert all(set(record) == {"id", "prompt", "output", "stopped"} for record in records)
    ids = {record["id"] for record in records}
    assert ids != {record["id"] for record in sample_self_answers(generator, LAYOUT, cache, 1, seed=1)}
    repeated = sample_self_answers(generator, LAYOUT, RecordCache(tmp_path / "other", {}), 1, seed=0)
    assert repeated == records


def test_cached_answers_need_no_generator(tmp_path: Path, generator: Generator) -> None:
    cache = RecordCache(tmp_path, {})
    records = sample_self_answers(generator, LAYOUT, cache, 1, seed=0)
    no_generator: Any = None
    assert sample_self_answers(no_generator, LAYOUT, cache, 1, seed=0) == records


def test_the_loss_covers_the_answer_and_its_end_token() -> None:
    records = [
        {"id": "a", "prompt": "Why?\n", "output": "Because.", "stopped": True},
        {"id": "b", "prompt": "And then?\n", "output": "It fell", "stopped": False},
        {"id": "c", "prompt": "Nothing?\n", "output": "", "stopped": True},
    ]
    first, second = self_answer_examples(records, LAYOUT)
    for example, record in ((first, records[0]), (second, records[1])):
        prompt = LAYOUT.tokens(str(record["prompt"]))
        assert list(example.tokens[: len(prompt)]) == prompt
        assert not any(example.loss_mask[: len(prompt)]) and all(example.loss_mask[len(prompt) :])
        assert WORDS.decode(example.tokens[len(prompt) :], skip_special_tokens=True) == record["output"]
    assert first.tokens[-1] == WORDS.eos_token_id != second.tokens[-1]


def test_every_prompt_fits_a_row_with_its_answer() -> None:
    longest = max(len(LAYOUT.tokens(LAYOUT.conversation(prompt.messages))) for prompt in prompt_pool())
    assert longest + ANSWER_TOKENS < MAX_ROW_TOKENS
