"""Guesses, from the first rows of a file, which columns hold the problem, the solution and the kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from keeptune.config.data import ColumnsSection
from keeptune.data.columns import FORMAT_KEYS, PLAIN_PAIRS, RowLayout, format_name
from keeptune.data.conversations import Number, is_blank
from keeptune.data.row_formats import find_format
from keeptune.data.row_values import list_names
from keeptune.data.sample import Fields
from keeptune.errors import DataError

_PROBLEM_NAMES = (
    *(
        "problem",
        "question",
        "prompt",
        "instruction",
        "query",
        "input",
        "request",
        "message",
        "ticket",
        "email",
        "order",
    ),
    *("text", "sentence", "content", "body", "问题", "题目", "输入", "文本"),
)
_SOLUTION_NAMES = (
    *("solution", "answer", "response", "output", "completion", "reply", "target", "label", "category", "class", "sql"),
    *("intent", "sentiment", "summary", "答案", "回答", "输出", "标签"),
)
_KIND_NAMES = ("kind", "type", "category", "topic", "subject", "task", "类型", "类别")
_MAX_KINDS, _MIN_ROWS_PER_KIND = 20, 4


@dataclass(frozen=True, slots=True)
class LayoutGuess:
    """How to read a file, the kinds in its column of kinds, and the reason for the choice of columns."""

    layout: RowLayout
    kinds: tuple[str, ...]
    reason: str


def guess_layout(file: str, rows: Sequence[Fields]) -> LayoutGuess:
    """Return the layout under which all columns of these rows are used or ignored.

    Raises:
        DataError: no columns can be a problem and its solution.
    """
    keys = list(dict.fromkeys(key for row in rows for key in row))
    common = [key for key in keys if all(key in row for row in rows)]
    row_format = find_format(common)
    kind = _find_kind(rows, [key for key in common if row_format is None or key not in row_format.keys])
    if row_format is not None and (kind is None or row_format.required not in PLAIN_PAIRS):
        ignored = tuple(key for key in keys if key not in row_format.keys)
        return LayoutGuess(RowLayout(ignored=ignored), (), f"row format {format_name(row_format)}")
    if row_format is not None:
        problem, solution = row_format.required
        reason = f"row format {format_name(row_format)}"
    else:
        problem, solution = _find_pair(file, rows, common)
        reason = "guessed from the names and values of the columns: check them"
    kind = kind if kind not in (problem, solution) else None
    ignored = tuple(key for key in keys if key not in (problem, solution, kind))
    columns = ColumnsSection(problem=problem, solution=solution, kind=kind)
    kinds = tuple(sorted({str(row[kind]) for row in rows})) if kind else ()
    return LayoutGuess(RowLayout(columns, ignored), kinds, reason)


def _find_pair(file: str, rows: Sequence[Fields], keys: Sequence[str]) -> tuple[str, str]:
    """Return the columns of the problem and of the solution: by name, else the first text and the last other column."""
    texts = [key for key in keys if all(isinstance(row[key], str) for row in rows)]
    values = [key for key in keys if all(isinstance(row[key], (str, bool, Number)) for row in rows)]
    solution = _first_named(_SOLUTION_NAMES, values)
    problem = _first_named(_PROBLEM_NAMES, [key for key in texts if key != solution])
    problem = problem or next((key for key in texts if key != solution), None)
    solution = solution or next((key for key in reversed(values) if key != problem), None)
    if problem is None or solution is None:
        expected = " or ".join("+".join(map(repr, required)) for required in FORMAT_KEYS.values())
        raise DataError(
            f"{file}: no two columns can be a problem and its solution; found {list_names(keys)}, expected {expected} "
            "or two columns with texts in all rows"
        )
    return problem, solution


def _first_named(names: Sequence[str], keys: Sequence[str]) -> str | None:
    by_name = {key.strip().lower(): key for key in reversed(keys)}
    return next((by_name[name] for name in names if name in by_name), None)


def _find_kind(rows: Sequence[Fields], keys: Sequence[str]) -> str | None:
    """Return the first column with a name of kinds and few different texts, each in several rows."""
    for key in keys:
        values = Counter(row[key] for row in rows if isinstance(row[key], str) and not is_blank(row[key]))
        is_few = 1 < len(values) <= _MAX_KINDS and min(values.values()) >= _MIN_ROWS_PER_KIND
        if key.strip().lower() in _KIND_NAMES and is_few and values.total() == len(rows):
            return key
    return None
