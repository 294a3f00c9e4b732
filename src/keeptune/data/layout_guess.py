"""Guesses, from the first rows of a file, which columns hold the problem, the solution and the kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from keeptune.config.data import ColumnsSection
from keeptune.data.columns import FORMAT_KEYS, PLAIN_PAIRS, RowLayout, format_name
from keeptune.data.conversations import Number, is_blank
from keeptune.data.row_formats import find_format
from keeptune.data.row_values import list_names
from keeptune.data.sample import Fields
from keeptune.errors import DataError
from keeptune.grading.number import parse_number

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
    *("text", "sentence", "content", "body", "article", "document", "dialogue", "问题", "题目", "输入", "文本"),
    *("sentence1", "question1", "text1"),
)
_SOLUTION_NAMES = (
    *("solution", "answer", "response", "output", "completion", "correct_answer", "answer_key", "answerkey"),
    *("ground_truth", "expected_output", "expected", "gold", "gold_answer", "reference", "correct"),
    *("reply", "target", "label", "category", "class", "sql"),
    *("intent", "sentiment", "summary", "highlights", "canonical_solution", "code", "答案", "回答", "输出", "标签"),
)
_KIND_NAMES = ("kind", "type", "category", "topic", "subject", "task", "类型", "类别")
_NO_SOLUTION_NAMES = ("rejected", "non_preferred")
_NO_TEXT_NAMES = ("id", "url", "uuid", "guid", "index", "custom_id", "created_at", "timestamp", "date", "")
"""Columns that are neither problem nor answer, although they are the first or the last ones of a table."""

_MIN_SHARE = 0.9
"""The share of rows that decides. Rows that lack what all these have are left to the reader, which names them."""

_CONTEXT_NAMES = (
    *("context", "passage", "article", "document", "paragraph", "support", "system_prompt", "premise", "hypothesis"),
    *("schema", "input", "choices", "options", "sentence2", "question2", "text2", "选项", "背景"),
)
"""Columns without which a problem cannot be answered. They become a part of it."""

_AFTER_PROBLEM = ("hypothesis", "input", "choices", "options", "sentence2", "question2", "text2", "选项")
_LETTERS = "ABCDEFGHIJ"
_MAX_CHOICES = 10
_MAX_KINDS, _MIN_ROWS_PER_KIND = 20, 4
_LONGEST_NAME = 16


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
    rows = _usual_rows(rows, keys)
    common = [key for key in keys if all(key in row for row in rows)]
    row_format = find_format(common)
    kind = _find_kind(rows, [key for key in common if row_format is None or key not in row_format.keys])
    has_context = row_format is not None and any(
        _is_context(key) and key not in row_format.keys and _is_part(rows, key) for key in common
    )
    if row_format is not None and ((kind is None and not has_context) or row_format.required not in PLAIN_PAIRS):
        ignored = tuple(key for key in keys if key not in row_format.keys)
        return LayoutGuess(RowLayout(ignored=ignored), (), f"row format {format_name(row_format)}")
    if row_format is not None:
        problem, solution = row_format.required
        reason = f"row format {format_name(row_format)}"
    else:
        problem, solution = _find_pair(file, rows, common)
        reason = "guessed from the names and values of the columns: check them"
    kind = kind if kind not in (problem, solution) else None
    template, parts = _add_context(rows, problem, solution, [key for key in common if key not in (solution, kind)])
    used = {name if name in keys else name.partition(".")[0] for name in (problem, solution)}
    ignored = tuple(key for key in keys if key not in (*used, *parts, kind))
    columns = ColumnsSection(problem=template, solution=solution, kind=kind)
    kinds = tuple(sorted({str(row[kind]) for row in rows})) if kind else ()
    return LayoutGuess(RowLayout(columns, ignored), kinds, reason)


def _usual_rows(rows: Sequence[Fields], keys: Sequence[str]) -> Sequence[Fields]:
    """Return the rows that lack no value which nine of ten rows have; all rows if these are too few."""
    regular = [key for key in keys if sum(row.get(key) is not None for row in rows) >= _MIN_SHARE * len(rows)]
    usual = [row for row in rows if all(row.get(key) is not None for key in regular)]
    return usual if len(usual) >= _MIN_SHARE * len(rows) else rows


def require_header(file: str, rows: Sequence[Fields]) -> None:
    """Raise the error for a table whose first line is a row and no header.

    It is a row if one of its cells is a value of its column, or a number or sentence like all values of its column.
    Numbered columns (`0`, `1`, …) are the names that pandas gives.
    """
    names = list(rows[0])
    if names == [str(number) for number in range(len(names))]:
        return
    for name in names:
        values = [row.get(name) for row in rows]
        texts = [value for value in values if isinstance(value, str) and not is_blank(value)]
        if (
            texts
            and not _is_pandas_index(name)
            and (name in texts or any(looks(name) and all(map(looks, texts)) for looks in (_is_number, _is_long)))
        ):
            raise DataError(
                f"{file}:1: the first line is a row and no header: found {name[:60]!r}; write the names of the columns "
                f"above it, such as {','.join(('problem', 'solution', 'kind')[: len(names)])}"
            )


def _is_number(text: str) -> bool:
    return parse_number(text) is not None


def _is_long(text: str) -> bool:
    """Whether a text is a sentence of several words, and not a name."""
    return text.rstrip().endswith(("?", "？", ".", "。", "!", "！")) and len(text) > _LONGEST_NAME


def _find_pair(file: str, rows: Sequence[Fields], keys: Sequence[str]) -> tuple[str, str]:
    """Return the columns of the problem and of the solution, or such keys of the objects in columns.

    They are found by name, else they are the first text and the last other column.
    """
    pair = _pair_among(rows, keys) or _pair_among(*_flattened(rows, keys))
    if pair is None:
        expected = " or ".join("+".join(map(repr, required)) for required in FORMAT_KEYS.values())
        raise DataError(
            f"{file}: no two columns can be a problem and its solution; found {list_names(keys)}, expected {expected} "
            "or two columns with texts in all rows. Plain texts can only be replayed (retain.replay)"
        )
    return pair


def _flattened(rows: Sequence[Fields], keys: Sequence[str]) -> tuple[list[Fields], list[str]]:
    """Return the rows with the keys of objects as columns such as `translation.en`, and the columns of all rows."""
    flat: list[Fields] = []
    for row in rows:
        inner = {f"{key}.{name}": item for key in keys for name, item in _pairs(row[key])}
        flat.append({**row, **inner})
    return flat, [key for key in flat[0] if all(key in row for row in flat)]


def _pairs(value: object) -> Iterable[tuple[str, object]]:
    """Return the keys of an object with their values; nothing for other values."""
    return value if isinstance(value, tuple) else ()


def _pair_among(rows: Sequence[Fields], keys: Sequence[str]) -> tuple[str, str] | None:
    keys = [key for key in keys if not _is_numbering(key)]
    texts = [key for key in keys if all(isinstance(row[key], str) for row in rows)]
    values = [key for key in keys if all(isinstance(row[key], (str, bool, Number)) for row in rows)]
    values = [key for key in values if _last_name(key) not in _NO_SOLUTION_NAMES]
    solution = _first_named(_SOLUTION_NAMES, values) or _find_inner_answer(rows, keys)
    problem = _first_named(_PROBLEM_NAMES, [key for key in texts if key != solution])
    problem = problem or next((key for key in texts if key != solution), None)
    others = [key for key in reversed(values) if key != problem and _last_name(key) not in _CONTEXT_NAMES]
    # Without a name to go by, a column that never changes is no answer.
    solution = solution or next((key for key in others if len({str(row[key]) for row in rows}) > 1), None)
    return None if problem is None or solution is None else (problem, solution)


def _is_numbering(key: str) -> bool:
    """Whether a column numbers, dates or locates the rows."""
    return _last_name(key) in _NO_TEXT_NAMES or _is_pandas_index(key)


def _is_pandas_index(name: str) -> bool:
    """Whether pandas named the column `Unnamed: 0`, because the file had no name for it."""
    return name.strip().lower().startswith("unnamed:")


def _find_inner_answer(rows: Sequence[Fields], keys: Sequence[str]) -> str | None:
    """Return the place of the first answer in a column such as `answers` of SQuAD: `answers.text.0`."""
    for key in keys:
        if key.lower() not in ("answer", "answers"):
            continue
        values = [row[key] for row in rows]
        if all(isinstance(value, tuple) for value in values):
            texts = [dict(value).get("text") for value in values if isinstance(value, tuple)]
            if any(isinstance(text, list) and text for text in texts):
                return f"{key}.text.0"
        if all(isinstance(value, list) for value in values):
            items = [item for value in values if isinstance(value, list) for item in value[:1]]
            if items and all(isinstance(item, (str, Number)) for item in items):
                return f"{key}.0"
    return None


def _add_context(rows: Sequence[Fields], problem: str, solution: str, keys: Sequence[str]) -> tuple[str, list[str]]:
    """Return the problem with the columns that it needs as a template, and those columns.

    A list of options becomes one line per option, with the letters or the numbers by which answers name them.
    """
    parts = [key for key in keys if key != problem and _is_context(key) and _is_part(rows, key)]
    if not parts or "{" in problem:
        return problem, []
    letters = [key for key in parts if key in _LETTERS]
    texts = [key for key in parts if isinstance(rows[0][key], str) and key not in letters]
    before = [f"{{{key}}}" for key in texts if key.lower() not in _AFTER_PROBLEM]
    after = [f"{{{key}}}" for key in texts if key.lower() in _AFTER_PROBLEM]
    if letters:
        after.append("\n".join(f"{key}. {{{key}}}" for key in letters))
    for key in parts:
        options = rows[0][key]
        if isinstance(options, list):
            marks = _option_marks([row.get(solution) for row in rows], len(options))
            after.append("\n".join(f"{mark}. {{{key}.{place}}}" for place, mark in enumerate(marks)))
    return "\n\n".join([*before, f"{{{problem}}}", *after]), parts


def _option_marks(answers: Sequence[object], count: int) -> list[str]:
    """Return the marks of options by which the answers name them: letters, or numbers from 0 or from 1."""
    texts = {answer.text if isinstance(answer, Number) else str(answer).strip() for answer in answers}
    if not all(text.isdecimal() for text in texts):
        return list(_LETTERS[:count])
    first = 1 if "0" not in texts and str(count) in texts else 0
    return [str(first + place) for place in range(count)]


def _is_context(key: str) -> bool:
    """Whether the name of a column is that of a context or of an option such as `A`."""
    return key.lower() in _CONTEXT_NAMES or (len(key) == 1 and key in _LETTERS)


def _is_part(rows: Sequence[Fields], key: str) -> bool:
    """Whether a column holds texts, or as many options in every row."""
    values = [row[key] for row in rows]
    if all(isinstance(value, str) for value in values):
        return any(not is_blank(value) for value in values)
    lists = [value for value in values if isinstance(value, list)]
    sizes = {len(value) for value in lists}
    are_texts = all(isinstance(item, (str, Number)) for value in lists for item in value)
    return len(lists) == len(values) and len(sizes) == 1 and 1 < max(sizes) <= _MAX_CHOICES and are_texts


def _first_named(names: Sequence[str], keys: Sequence[str]) -> str | None:
    by_name = {_last_name(key): key for key in reversed(keys)}
    return next((by_name[name] for name in names if name in by_name), None)


def _last_name(key: str) -> str:
    """Return the name of a column, or of a key of the object in it, for comparison."""
    return key.rpartition(".")[2].strip().lower()


def _find_kind(rows: Sequence[Fields], keys: Sequence[str]) -> str | None:
    """Return the first column with a name of kinds and few different texts, each in several rows."""
    for key in keys:
        values = Counter(row[key] for row in rows if isinstance(row[key], str) and not is_blank(row[key]))
        is_few = 1 < len(values) <= _MAX_KINDS and min(values.values()) >= _MIN_ROWS_PER_KIND
        if key.strip().lower() in _KIND_NAMES and is_few and values.total() == len(rows):
            return key
    return None
