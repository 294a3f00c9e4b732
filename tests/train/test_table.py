"""Lines of a skill's table fill as many tokens as were wanted, labelled on what is to be written and no more."""

import random
import re
from typing import Any

import tiny
from hypothesis import given
from hypothesis import strategies as st

from keeptune.skill.arithmetic.skill import Arithmetic
from keeptune.train.table import KIND, ROW_LINES, table

WORDS: Any = tiny.tokenizer(before=[tiny.BEGIN])


def recite(generator: random.Random) -> tuple[str, str]:
    number = generator.randint(0, 99)
    return f"{number}=", str(number * 2)


@given(st.integers(1, 2_000), st.integers(0, 5))
def test_as_many_tokens_as_were_wanted(tokens: int, seed: int) -> None:
    rows = table(recite, WORDS, tokens, seed)
    sizes = [len(row.tokens) for row in rows]
    assert sum(sizes[:-1]) < tokens <= sum(sizes)
    assert {row.kind for row in rows} == {KIND}
    assert rows == table(recite, WORDS, tokens, seed)


def test_what_is_given_is_not_learnt() -> None:
    (row, *_) = table(Arithmetic().recited, WORDS, 1, seed=3)
    assert row.tokens[0] == WORDS.convert_tokens_to_ids(tiny.BEGIN)
    told = WORDS.decode([token for token, labelled in zip(row.tokens, row.labelled, strict=True) if labelled])
    given_part = WORDS.decode([token for token, labelled in zip(row.tokens, row.labelled, strict=True) if not labelled])
    assert told.count("\n") == ROW_LINES
    assert "\n" not in given_part
    assert "<" not in given_part.removeprefix(tiny.BEGIN)


def test_numbers_are_spelled_as_in_solutions() -> None:
    (row, *_) = table(Arithmetic().recited, WORDS, 1, seed=3, spelling="spaced")
    lines = WORDS.decode(row.tokens, skip_special_tokens=True).splitlines()
    assert len(lines) == ROW_LINES
    assert not any(re.search("[0-9]{2}", line) for line in lines)
    assert any(re.fullmatch(r"lg[0-9 ]{5}=[0-9 ]{13}", line) for line in lines)
