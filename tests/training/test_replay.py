"""Replayed rows have answers and line ends as targets, the layout of the evaluation, and the requested size."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from keeptune.errors import DataError
from keeptune.grading.squad import ReadingItem
from keeptune.prompts.reading import question_text
from keeptune.prompts.template import encode_prompt
from keeptune.training.batches import REPLAY_KIND, TokenizedExample
from keeptune.training.replay import MAX_ROW_TOKENS, build_replay_examples, load_replay_source

WORDS: Any = tiny.tokenizer(before=[tiny.BEGIN])
ITEMS = load_replay_source("embedded")
BY_ID = {item.question_id: item for item in ITEMS}


def target_texts(example: TokenizedExample) -> list[str]:
    """The texts of contiguous targets, in order."""
    runs: list[list[int]] = [[]]
    for token, is_target in zip(example.tokens, example.loss_mask, strict=True):
        if is_target:
            runs[-1].append(token)
        elif runs[-1]:
            runs.append([])
    return [WORDS.decode(run) for run in runs if run]


def contexts(example: TokenizedExample) -> list[str]:
    """The passages of a row, in order."""
    return re.findall(r"Passage: (.*)\n", WORDS.decode(example.tokens))


def test_targets_are_answers_and_line_ends() -> None:
    for example in build_replay_examples([ITEMS], WORDS, tokens=3000, max_tokens=2000, seed=0):
        assert example.kind == REPLAY_KIND
        asked = [item for item in ITEMS if item.context in contexts(example)]
        assert sorted(target_texts(example)) == sorted(f" {item.answers[0]}\n" for item in asked)
        text = WORDS.decode(example.tokens)
        first = BY_ID[example.name.removeprefix("practice:")]
        assert text.startswith(f"{tiny.BEGIN}Passage: {first.context}\nQuestion: {first.question}\nAnswer:")
        assert text.endswith("\n")
        for item in asked:
            assert f"\nQuestion: {item.question}\nAnswer: {item.answers[0]}\n" in text


def test_a_row_holds_several_passages_after_one_bos() -> None:
    short = [ReadingItem("T", n, f"Ann has {n} hats.", f"{n}", "How many hats?", (f"{n}",)) for n in range(40)]
    rows = build_replay_examples([short], WORDS, tokens=4000, max_tokens=2000, seed=0)
    assert sum(len(contexts(row)) for row in rows) > 5 * len(rows)
    for row in rows:
        text = WORDS.decode(row.tokens)
        assert text.count(tiny.BEGIN) == 1
        assert text.count("\n\nPassage: ") == len(contexts(row)) - 1
        assert len(row.tokens) <= MAX_ROW_TOKENS
        assert len(row.tokens) == len(row.loss_mask)


def test_sources_have_equal_shares() -> None:
    first_half, second_half = ITEMS[: len(ITEMS) // 2], ITEMS[len(ITEMS) // 2 :]
    rows = build_replay_examples([first_half, second_half, second_half], WORDS, tokens=30_000, max_tokens=2000, seed=0)
    first_contexts = {item.context for item in first_half}
    assert all(first_contexts.issuperset(contexts(row)) or first_contexts.isdisjoint(contexts(row)) for row in rows)
    first_tokens = sum(len(row.tokens) for row in rows if first_contexts.issuperset(contexts(row)))
    assert first_tokens == pytest.approx(10_000, rel=0.1)
    assert sum(len(row.tokens) for row in rows) == pytest.approx(30_000, rel=0.1)


def test_rows_end_with_the_tokens_of_the_evaluation_prompt() -> None:
    item = ITEMS[0]
    [example] = build_replay_examples([[item]], WORDS, tokens=1, max_tokens=2000, seed=0)
    asked = encode_prompt(WORDS, question_text(item.context, item.question, "few-shot"))
    bos = encode_prompt(WORDS, "Passage: ")
    length = example.loss_mask.index(True)
    assert tuple(asked[-length + len(bos) :]) == example.tokens[len(bos) : length]


@given(st.integers(1, 60_000), st.integers(0, 3))
def test_rows_reach_the_requested_tokens_without_excess(tokens: int, seed: int) -> None:
    examples = build_replay_examples([ITEMS[:30]], WORDS, tokens, max_tokens=2000, seed=seed)
    assert tokens <= sum(len(example.tokens) for example in examples) < tokens + MAX_ROW_TOKENS
    passages, order = {item.context for item in ITEMS[:30]}, [text for row in examples for text in contexts(row)]
    for start in range(0, len(order), len(passages)):
        round_ = order[start : start + len(passages)]
        assert len(set(round_)) == len(round_)


def test_passages_that_are_too_long_are_skipped() -> None:
    sizes = sorted(len(example.tokens) for example in build_replay_examples([ITEMS], WORDS, 20_000, 10_000, seed=0))
    limit = sizes[len(sizes) // 2]
    examples = build_replay_examples([ITEMS], WORDS, 20_000, limit, seed=0)
    assert examples
    assert max(len(example.tokens) for example in examples) <= limit
    with pytest.raises(DataError, match=r"at most 3 tokens"):
        build_replay_examples([ITEMS], WORDS, 20_000, max_tokens=3, seed=0)
    assert build_replay_examples([ITEMS], WORDS, 0, max_tokens=2000, seed=0) == []


def test_the_seed_decides_the_rows() -> None:
    first, again, other = (build_replay_examples([ITEMS], WORDS, 9000, 2000, seed) for seed in (0, 0, 1))
    assert first == again
    assert [example.name for example in first] != [example.name for example in other]


def test_the_line_end_is_the_last_of_its_tokens() -> None:
    words = tiny.byte_fallback_tokenizer()
    assert words.convert_ids_to_tokens(words.encode("\n", add_special_tokens=False)) == ["▁", "<0x0A>"]
    [example] = build_replay_examples([ITEMS[:1]], words, tokens=1, max_tokens=5000, seed=0)
    assert (words.convert_ids_to_tokens(example.tokens[-1]), example.loss_mask[-1]) == ("<0x0A>", True)


def test_a_squad_file_is_a_source(tmp_path: Path) -> None:
    entry = {"id": "1", "question": "Q?", "answers": [{"text": "c"}]}
    tree = {"data": [{"title": "T", "paragraphs": [{"context": "C c.", "qas": [entry]}]}]}
    path = tmp_path / "squad.json"
    path.write_text(json.dumps(tree), encoding="utf-8")
    assert load_replay_source(str(path)) == [ReadingItem("T", 0, "C c.", "1", "Q?", ("c",))]
    with pytest.raises(DataError, match=r"none\.json"):
        load_replay_source(str(tmp_path / "none.json"))


def test_all_tokens_of_a_text_are_targets(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_text("Mass is conserved.\n\n" + "Wool is spun. " * 40, encoding="utf-8")
    texts = load_replay_source(str(path))
    assert len(texts) == 2
    rows = build_replay_examples([texts], WORDS, tokens=1, max_tokens=2000, seed=0)
    for row in rows:
        assert row.kind == REPLAY_KIND
        assert row.loss_mask == (False, *[True] * (len(row.tokens) - 1)), "all but the token that begins a text"
    parts = build_replay_examples([texts[1:]], WORDS, tokens=len(WORDS.encode(texts[1])), max_tokens=50, seed=0)
    assert max(len(part.tokens) for part in parts) == 50
    assert sum(len(part.tokens) - 1 for part in parts) >= len(WORDS.encode(texts[1])) - 1, "no part is missing"


def test_texts_and_questions_have_equal_shares(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_text("\n\n".join(f"Line {number} of a chronicle." for number in range(50)), encoding="utf-8")
    rows = build_replay_examples([ITEMS, load_replay_source(str(path))], WORDS, tokens=20_000, max_tokens=2000, seed=0)
    sizes = [sum(len(row.tokens) for row in rows if ("text" in row.name) is whole) for whole in (True, False)]
    assert abs(sizes[0] - sizes[1]) < 2000


def test_a_part_of_a_text_without_targets_is_skipped(tmp_path: Path) -> None:
    """Without a BOS token, the first token has no context, so a part of one token has no target."""
    words: Any = tiny.tokenizer()
    path = tmp_path / "text.txt"
    path.write_text("Where the river bends twice there stands a mill.", encoding="utf-8")
    size = len(encode_prompt(words, path.read_text(encoding="utf-8"))) - 1
    rows = build_replay_examples([load_replay_source(str(path))], words, 1, size, seed=0)
    assert [len(row.tokens) for row in rows] == [size] and any(rows[0].loss_mask)
