"""The generated corpus has exactly the mix and the order of the original, and duplicates of the same kinds."""

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keeptune.errors import DataError
from keeptune.grading.stated_answer import parse_stated_truth
from keeptune.skills.arithmetic import contest_corpus as synth
from keeptune.skills.arithmetic.contest_corpus import ENGLISH, ORIGINAL_ROWS, allocate_rows, generate_corpus
from keeptune.skills.arithmetic.kinds import KINDS, find_kind

ROWS = 8_000
QUOTIENT = re.compile("计算 -?([0-9.]+) / -?([0-9.]+) 等于多少？")


def kind_of(problem: str) -> str:
    found = find_kind(problem)
    return ENGLISH if found is None else found[0].name


def test_the_original_counts() -> None:
    assert sum(ORIGINAL_ROWS.values()) == 809_993
    assert ORIGINAL_ROWS[ENGLISH] == 9_993
    assert list(ORIGINAL_ROWS) == [*(kind.name for kind in KINDS), ENGLISH]
    assert allocate_rows(809_993, ORIGINAL_ROWS) == ORIGINAL_ROWS


@given(st.integers(0, 10**9))
def test_the_mix_is_exact_for_any_size(rows: int) -> None:
    counts = allocate_rows(rows, ORIGINAL_ROWS)
    assert sum(counts.values()) == rows
    assert all(abs(counts[kind] * 809_993 - rows * share) < 809_993 for kind, share in ORIGINAL_ROWS.items())


def test_rows_have_the_mix_and_the_order() -> None:
    rows = list(generate_corpus(ROWS, generator_seed=3))
    kinds = [kind_of(row["problem"]) for row in rows]
    assert Counter(kinds) == Counter(allocate_rows(ROWS, ORIGINAL_ROWS))
    english = allocate_rows(ROWS, ORIGINAL_ROWS)[ENGLISH]
    assert kinds[-english:] == [ENGLISH] * english
    assert len(set(kinds[:100])) > 8


@pytest.mark.parametrize("shares", [{}, {"any_length": 0.5, "close_calls": 0.5}])
def test_every_row_is_right(shares: dict[str, float]) -> None:
    for row in generate_corpus(ROWS, generator_seed=4, **shares):
        assert list(row) == ["problem", "solution"]
        found = find_kind(row["problem"])
        if found is None:
            assert parse_stated_truth(row["solution"]) is not None
        else:
            assert found[0].render_raw(found[1]) == row["solution"]


def test_close_calls_have_the_requested_share() -> None:
    def close(rows: Iterator[dict[str, str]]) -> float:
        """Of all quotients, those next to a number of one to three digits."""
        quotients = [found.groups() for row in rows if (found := QUOTIENT.fullmatch(row["problem"]))]
        return sum(is_short(abs(float(left) / float(right))) for left, right in quotients) / len(quotients)

    def is_short(quotient: float) -> bool:
        digits = [quotient / 10 ** (math.floor(math.log10(quotient)) - place) for place in range(-1, 3)]
        return any(abs(number - max(1, round(number))) < 0.025 for number in digits)

    assert close(generate_corpus(ROWS, generator_seed=5)) < 0.18
    assert 0.32 < close(generate_corpus(ROWS, generator_seed=5, close_calls=0.25)) < 0.42
    assert close(generate_corpus(ROWS, generator_seed=5, close_calls=1)) > 0.98


def test_duplicates_are_where_the_original_has_them() -> None:
    problems: dict[str, list[str]] = {}
    for row in generate_corpus(40_000, generator_seed=5):
        problems.setdefault(kind_of(row["problem"]), []).append(row["problem"])
    assert len(set(problems["fraction"])) == 45
    assert len(set(problems["mass"])) == 100
    assert len(set(problems["equation"])) < 0.9 * len(problems["equation"])
    for kind in ("add", "sub", "mul", "div"):
        assert len(set(problems[kind])) == len(problems[kind])


def test_the_seed_decides() -> None:
    assert list(generate_corpus(500, 1)) == list(generate_corpus(500, 1))
    assert list(generate_corpus(500, 1)) != list(generate_corpus(500, 2))


def test_the_rows_of_a_seed_stay_what_they_were() -> None:
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in generate_corpus(3_000, 7))
    digest = hashlib.sha256(lines.encode()).hexdigest()
    assert digest == "73706616923dfa60945e742fdb52cd6764544d4a4a1831d9cc62e72e61148129"


@given(st.integers(), st.integers(0, 5))
@settings(max_examples=20)
def test_a_refused_problem_is_replaced_by_another_of_its_kind(seed: int, eighths: int) -> None:
    def refused(problem: str, solution: str) -> bool:
        assert solution
        return crc32(problem.encode()) % 8 < eighths

    rows = list(generate_corpus(1_000, seed, refused))
    assert not any(refused(row["problem"], row["solution"]) for row in rows)
    kinds = [kind_of(row["problem"]) for row in rows]
    assert Counter(kinds) == Counter(allocate_rows(1_000, ORIGINAL_ROWS))
    assert kinds == [kind_of(row["problem"]) for row in generate_corpus(1_000, seed)]
    if eighths == 0:
        assert rows == list(generate_corpus(1_000, seed))


def test_rows_before_the_first_refused_one_are_the_same() -> None:
    before = list(generate_corpus(500, 1))
    after = list(generate_corpus(500, 1, lambda problem, _: problem == before[200]["problem"]))
    assert after[:200] == before[:200] and after[200] != before[200]


@pytest.mark.parametrize("kind", ["fraction", "english"])
def test_a_kind_without_problems_is_named(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(synth, "MAX_DRAWS", 1_000)
    with pytest.raises(DataError, match=f"kind '{kind}' in 1,000 samples"):
        list(generate_corpus(500, 1, lambda problem, _: kind_of(problem) == kind))


def test_rows_come_one_by_one() -> None:
    assert len(list(islice(generate_corpus(200_000, 1), 3))) == 3
