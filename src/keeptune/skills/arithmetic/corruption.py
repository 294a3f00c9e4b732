"""Deliberate corruption of rows, for demonstrations and tests of row validation.

Each corruption occurs in real data sets of the contest: a truncated line, a missing key, a wrong answer, a problem of
an unknown kind, or a value that is not a string.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator

Row = dict[str, str]


def corrupt_rows(rows: Iterable[Row], share: float, seed: int) -> Iterator[str]:
    """Yield the rows as JSON lines, with about `share` of them corrupted.

    The seed determines which rows are corrupted, and how.
    """
    generator = random.Random(f"{seed}/spoil")
    for row in rows:
        if generator.random() < share:
            yield generator.choice(_CORRUPTIONS)(row, generator)
        else:
            yield _to_json(row)


def _to_json(row: object) -> str:
    return json.dumps(row, ensure_ascii=False)


def _truncate_line(row: Row, generator: random.Random) -> str:
    line = _to_json(row)
    return line[: generator.randrange(1, len(line) - 1)]


def _remove_solution(row: Row, generator: random.Random) -> str:  # noqa: ARG001
    return _to_json({"problem": row["problem"]})


def _change_answer(row: Row, generator: random.Random) -> str:
    """Change one digit of the solution; reverse the solution if it has no digits."""
    places = [place for place, character in enumerate(row["solution"]) if character in "0123456789"]
    if not places:
        return _to_json({**row, "solution": row["solution"][::-1]})
    place = generator.choice(places)
    digit = str((int(row["solution"][place]) + generator.randint(1, 9)) % 10)
    return _to_json({**row, "solution": row["solution"][:place] + digit + row["solution"][place + 1 :]})


def _replace_problem(row: Row, generator: random.Random) -> str:
    return _to_json({**row, "problem": f"计算 {generator.randint(2, 20)} 的阶乘？"})


def _replace_solution_with_number(row: Row, generator: random.Random) -> str:
    return _to_json({**row, "solution": generator.randint(1, 100)})


_CORRUPTIONS: tuple[Callable[[Row, random.Random], str], ...] = (
    _truncate_line,
    _remove_solution,
    _change_answer,
    _replace_problem,
    _replace_solution_with_number,
)
