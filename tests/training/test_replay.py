"""Practice is labelled on answers and line ends alone, written as it is asked, and as much as was wanted."""

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
from keeptune.training.batches import Example
from keeptune.training.replay import KIND, ROW_TOKENS, practice, replay

WORDS: Any = tiny.tokenizer(before=[tiny.BEGIN])
ITEMS = practice("embedded")
BY_ID = {item.question_id: item for item in ITEMS}


def labelled_runs(example: Example) -> list[str]:
    """The texts of the labelled stretches, in order."""
    runs: list[list[int]] = [[]]
    for token, labelled in zip(example.tokens, example.labelled, strict=True):
        if labelled:
            runs[-1].append(token)
        elif runs[-1]:
            runs.append([])
    return [WORDS.decode(run) for run in runs if run]


def contexts(example: Example) -> list[str]:
    """The passages of a row, in order."""
    return re.findall(r"Passage: (.*)\n", WORDS.decode(example.tokens))


def test_labels_are_on_answers_and_line_ends_alone() -> None:
    for example in replay([ITEMS], WORDS, tokens=3000, max_tokens=2000, seed=0):
        assert example.kind == KIND
        asked = [item for item in ITEMS if item.context in contexts(example)]
        assert sorted(labelled_runs(example)) == sorted(f" {item.answers[0]}\n" for item in asked)
        text = WORDS.decode(example.tokens)
        first = BY_ID[example.name.removeprefix("practice:")]
        assert text.startswith(f"{tiny.BEGIN}Passage: {first.context}\nQuestion: {first.question}\nAnswer:")
        assert text.endswith("\n")
        for item in asked:
            assert f"\nQuestion: {item.question}\nAnswer: {item.answers[0]}\n" in text


def test_a_row_holds_several_passages_behind_one_beginning() -> None:
    short = [ReadingItem("T", n, f"Ann has {n} hats.", f"{n}", "How many hats?", (f"{n}",)) for n in range(40)]
    rows = replay([short], WORDS, tokens=4000, max_tokens=2000, seed=0)
    assert sum(len(contexts(row)) for row in rows) > 5 * len(rows)
    for row in rows:
        text = WORDS.decode(row.tokens)
        assert text.count(tiny.BEGIN) == 1
        assert text.count("\n\nPassage: ") == len(contexts(row)) - 1
        assert len(row.tokens) <= ROW_TOKENS
        assert len(row.tokens) == len(row.labelled)


def test_each_source_has_its_share() -> None:
    ours, theirs = ITEMS[: len(ITEMS) // 2], ITEMS[len(ITEMS) // 2 :]
    rows = replay([ours, theirs, theirs], WORDS, tokens=30_000, max_tokens=2000, seed=0)
    mine = {item.context for item in ours}
    assert all(mine.issuperset(contexts(row)) or mine.isdisjoint(contexts(row)) for row in rows)
    own = sum(len(row.tokens) for row in rows if mine.issuperset(contexts(row)))
    assert own == pytest.approx(10_000, rel=0.1)
    assert sum(len(row.tokens) for row in rows) == pytest.approx(30_000, rel=0.1)


def test_the_last_lines_of_a_prompt_are_practised_token_for_token() -> None:
    item = ITEMS[0]
    [example] = replay([[item]], WORDS, tokens=1, max_tokens=2000, seed=0)
    asked = encode_prompt(WORDS, question_text(item.context, item.question, "few-shot"))
    opening = encode_prompt(WORDS, "Passage: ")
    length = example.labelled.index(True)
    assert tuple(asked[-length + len(opening) :]) == example.tokens[len(opening) : length]


@given(st.integers(1, 60_000), st.integers(0, 3))
def test_as_many_tokens_as_wanted_and_no_passage_too_many(tokens: int, seed: int) -> None:
    chosen = replay([ITEMS[:30]], WORDS, tokens, max_tokens=2000, seed=seed)
    assert tokens <= sum(len(example.tokens) for example in chosen) < tokens + ROW_TOKENS
    passages, order = {item.context for item in ITEMS[:30]}, [text for row in chosen for text in contexts(row)]
    for start in range(0, len(order), len(passages)):
        round_ = order[start : start + len(passages)]
        assert len(set(round_)) == len(round_)


def test_what_is_too_long_is_left_out() -> None:
    sizes = sorted(len(example.tokens) for example in replay([ITEMS], WORDS, 20_000, 10_000, seed=0))
    limit = sizes[len(sizes) // 2]
    chosen = replay([ITEMS], WORDS, 20_000, limit, seed=0)
    assert chosen
    assert max(len(example.tokens) for example in chosen) <= limit
    with pytest.raises(DataError, match=r"none has at most 3 tokens with its questions; raise data\.max_tokens"):
        replay([ITEMS], WORDS, 20_000, max_tokens=3, seed=0)
    assert replay([ITEMS], WORDS, 0, max_tokens=2000, seed=0) == []


def test_the_choice_follows_from_the_seed() -> None:
    first, again, other = (replay([ITEMS], WORDS, 9000, 2000, seed) for seed in (0, 0, 1))
    assert first == again
    assert [example.name for example in first] != [example.name for example in other]


def test_where_a_line_end_is_two_tokens_the_second_is_the_line_end() -> None:
    words = tiny.byte_fallback_tokenizer()
    assert words.convert_ids_to_tokens(words.encode("\n", add_special_tokens=False)) == ["▁", "<0x0A>"]
    [example] = replay([ITEMS[:1]], words, tokens=1, max_tokens=5000, seed=0)
    assert (words.convert_ids_to_tokens(example.tokens[-1]), example.labelled[-1]) == ("<0x0A>", True)


def test_another_file_can_be_practised(tmp_path: Path) -> None:
    entry = {"id": "1", "question": "Q?", "answers": [{"text": "c"}]}
    tree = {"data": [{"title": "T", "paragraphs": [{"context": "C c.", "qas": [entry]}]}]}
    path = tmp_path / "squad.json"
    path.write_text(json.dumps(tree), encoding="utf-8")
    assert practice(str(path)) == [ReadingItem("T", 0, "C c.", "1", "Q?", ("c",))]
    with pytest.raises(DataError, match=r"none\.json"):
        practice(str(tmp_path / "none.json"))


def test_a_text_is_practised_whole(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_text("Mass is conserved.\n\n" + "Wool is spun. " * 40, encoding="utf-8")
    texts = practice(str(path))
    assert len(texts) == 2
    rows = replay([texts], WORDS, tokens=1, max_tokens=2000, seed=0)
    for row in rows:
        assert row.kind == KIND
        assert row.labelled == (False, *[True] * (len(row.tokens) - 1)), "all but the token that begins a text"
    parts = replay([texts[1:]], WORDS, tokens=len(WORDS.encode(texts[1])), max_tokens=50, seed=0)
    assert max(len(part.tokens) for part in parts) == 50
    assert sum(len(part.tokens) - 1 for part in parts) >= len(WORDS.encode(texts[1])) - 1, "no part is left out"


def test_texts_and_questions_have_the_same_share(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_text("\n\n".join(f"Line {number} of a chronicle." for number in range(50)), encoding="utf-8")
    rows = replay([ITEMS, practice(str(path))], WORDS, tokens=20_000, max_tokens=2000, seed=0)
    sizes = [sum(len(row.tokens) for row in rows if ("text" in row.name) is whole) for whole in (True, False)]
    assert abs(sizes[0] - sizes[1]) < 2000


def test_a_part_of_a_text_with_nothing_to_learn_is_left_out(tmp_path: Path) -> None:
    """Without a begin token a row's first token has nothing before it, and a part of one token is that alone."""
    words: Any = tiny.tokenizer()
    path = tmp_path / "text.txt"
    path.write_text("Where the river bends twice there stands a mill.", encoding="utf-8")
    size = len(encode_prompt(words, path.read_text(encoding="utf-8"))) - 1
    rows = replay([practice(str(path))], words, 1, size, seed=0)
    assert [len(row.tokens) for row in rows] == [size] and any(rows[0].labelled)
