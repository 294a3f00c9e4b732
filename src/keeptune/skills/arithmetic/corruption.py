"""Rows that are wrong on purpose, so that a demonstration or a test has something to reject.

Each fault is one that was found in real data sets of the contest: a line that was cut off, a key that is missing, an
answer that is wrong, a problem of no known kind, a value that is no text.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator

Row = dict[str, str]


def spoilt(rows: Iterable[Row], share: float, seed: int) -> Iterator[str]:
    """The rows as lines of JSON, about `share` of them spoilt; which ones and how follows from the seed."""
    generator = random.Random(f"{seed}/spoil")
    for row in rows:
        if generator.random() < share:
            yield generator.choice(_FAULTS)(row, generator)
        else:
            yield _line(row)


def _line(row: object) -> str:
    return json.dumps(row, ensure_ascii=False)


def _cut_off(row: Row, generator: random.Random) -> str:
    line = _line(row)
    return line[: generator.randrange(1, len(line) - 1)]


def _without_solution(row: Row, generator: random.Random) -> str:  # noqa: ARG001
    return _line({"problem": row["problem"]})


def _wrong_answer(row: Row, generator: random.Random) -> str:
    """One digit of the solution is another one; of a solution without digits, the text is turned round."""
    places = [place for place, character in enumerate(row["solution"]) if character in "0123456789"]
    if not places:
        return _line({**row, "solution": row["solution"][::-1]})
    place = generator.choice(places)
    digit = str((int(row["solution"][place]) + generator.randint(1, 9)) % 10)
    return _line({**row, "solution": row["solution"][:place] + digit + row["solution"][place + 1 :]})


def _unknown_problem(row: Row, generator: random.Random) -> str:
    return _line({**row, "problem": f"计算 {generator.randint(2, 20)} 的阶乘？"})


def _not_a_text(row: Row, generator: random.Random) -> str:
    return _line({**row, "solution": generator.randint(1, 100)})


_FAULTS: tuple[Callable[[Row, random.Random], str], ...] = (
    _cut_off,
    _without_solution,
    _wrong_answer,
    _unknown_problem,
    _not_a_text,
)
