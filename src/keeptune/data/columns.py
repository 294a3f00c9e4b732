"""How the keys of a row become its problem, solution and kind: by name, by template, or by a known row format.

No column is dropped in silence. A column that nothing uses must be named in data.ignore_columns.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from keeptune.config.data import ALL_COLUMNS, ColumnsSection, DataSection, FormatName
from keeptune.data.conversations import TURN_KEYS, Number, is_blank
from keeptune.data.row import RawRow, RowError, require_text
from keeptune.data.row_formats import EXPECTED_KEYS, RowFormat, RowTexts, convert_fields, find_format
from keeptune.data.row_values import describe, list_names, require_content

FORMAT_KEYS: dict[FormatName, tuple[str, ...]] = {
    "problem-solution": ("problem", "solution"),
    "messages": ("messages",),
    "conversations": ("conversations",),
    "alpaca": ("instruction", "output"),
    "prompt-completion": ("prompt", "completion"),
    "preference": ("chosen",),
    "question-answer": ("question", "answer"),
}
"""The keys by which each format is recognized."""

PLAIN_PAIRS = frozenset(FORMAT_KEYS[name] for name in ("problem-solution", "prompt-completion", "question-answer"))
"""The keys of the formats whose problem and solution can be two texts that are used as they are."""

NAMED_COLUMNS = "data.columns"
"""Stands for the format of rows whose columns the recipe names."""

_MAX_CACHED_FORMATS = 1_000
_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]+)\}")


@dataclass(frozen=True, slots=True)
class RowLayout:
    """What determines how a row is read: `data.columns`, `data.ignore_columns`, `data.format`, and the prompt."""

    columns: ColumnsSection = ColumnsSection()  # noqa: RUF009  (frozen)
    ignored: tuple[str, ...] = ()
    format: FormatName | None = None
    conversations: bool = False
    """Whether a row may have any number of turns, a system text and tools, because the prompt is a chat prompt."""

    @classmethod
    def from_section(cls, section: DataSection, conversations: bool = False) -> RowLayout:
        """Return the layout of a recipe's rows."""
        return cls(section.columns, section.ignore_columns, section.format, conversations)

    @property
    def has_known_format(self) -> bool:
        """Whether the keys of a row determine its format, because the recipe names no columns."""
        return self.columns == ColumnsSection()

    def find_format(self, keys: Collection[str]) -> RowFormat | None:
        """Return the row format of these keys, or None if the recipe names the columns or no format fits."""
        if not self.has_known_format:
            return None
        if self.format is None:
            return find_format(keys)
        required = FORMAT_KEYS[self.format]
        return find_format(required) if set(required) <= set(keys) else None

    def describe_format(self, keys: Collection[str]) -> str | None:
        """Return the name of the format of these keys, `data.columns`, or None if the keys cannot be read."""
        if not self.has_known_format:
            return NAMED_COLUMNS if RowReader(self).used(keys) <= set(keys) else None
        row_format = self.find_format(keys)
        return None if row_format is None else format_name(row_format)

    @property
    def expected_keys(self) -> str:
        """The keys that a row must have, for error messages."""
        if not self.has_known_format:
            return list_names(sorted(RowReader(self).used(())))
        return EXPECTED_KEYS if self.format is None else list_names(FORMAT_KEYS[self.format])

    def is_ignored(self, name: str) -> bool:
        """Return whether the recipe allows this column to be dropped."""
        return ALL_COLUMNS in self.ignored or name in self.ignored

    def without_ignored(self, fields: Mapping[str, object], row_format: RowFormat) -> Mapping[str, object]:
        """Return the fields of a row without those that the recipe ignores, also within its turns.

        `all` keeps every key of the format, such as a system text. A recipe can name such a key to drop it.
        """
        if not self.ignored:
            return fields

        def is_kept(key: str) -> bool:
            if key in row_format.required:
                return True
            return key not in self.ignored if key in row_format.keys else not self.is_ignored(key)

        return {key: self._clean(fields[key]) for key in fields if is_kept(key)}

    def _clean(self, value: object) -> object:
        """Return a list of turns without the keys of turns that the recipe ignores."""
        if not isinstance(value, list):
            return value
        return [
            tuple((key, item) for key, item in turn if key in TURN_KEYS or not self.is_ignored(key))
            if isinstance(turn, tuple) and not {"role", "from"}.isdisjoint(dict(turn))
            else turn
            for turn in value
        ]


def format_name(row_format: RowFormat) -> str:
    """Return the name of a row format in recipes, data cards and messages."""
    return next(
        (name for name, keys in FORMAT_KEYS.items() if keys == row_format.required), "+".join(row_format.required)
    )


def dropped_columns_advice(names: Iterable[str]) -> str:
    """Return what to do about columns that would be dropped."""
    listed = list(names)
    shown = ", ".join(listed[:3]) + (", …" if len(listed) > 3 else "")
    return f"use them in data.columns, or name them in data.ignore_columns: [{shown}] (or all)"


class RowReader:
    """Converts the fields of a row to its problem, solution and kind."""

    def __init__(self, layout: RowLayout) -> None:
        self._layout = layout
        self._has_known_format = layout.has_known_format
        self._formats: dict[tuple[str, ...], RowFormat] = {}
        """The format for each sequence of keys that needs no further check. It saves half of the time per row."""
        columns = layout.columns
        self._problem, self._solution = _Column.parse(columns.problem), _Column.parse(columns.solution)
        self._kind = None if columns.kind is None else _Column.parse(columns.kind)
        self._columns = [self._problem, self._solution, *([self._kind] if self._kind else [])]
        self.is_plain_pair = self._kind is None and not (self._problem.is_template or self._solution.is_template)
        """Whether a row with exactly the two named keys, both texts, can be used as it is."""

    def used(self, keys: Collection[str]) -> set[str]:
        """Return the keys that the recipe's columns use, given the keys of a row."""
        return {_first_key(name, keys) for column in self._columns for name in column.names}

    def read(self, file: str, line: int, fields: Mapping[str, object]) -> RawRow:
        """Return the row with these fields.

        Raises:
            RowError: a key is missing or would be dropped, or a value is not a text.
        """
        layout = self._layout
        if self._has_known_format:
            row_format = self._formats.get(tuple(fields))
            texts = (
                self._read_format(fields) if row_format is None else row_format.read_row(fields, layout.conversations)
            )
            problem, solution, conversation = texts
            return RawRow(file, line, problem, solution, conversation=conversation)
        used = self.used(fields)
        if missing := used - fields.keys():
            raise RowError(
                f"a key that data.columns names is missing: {', '.join(sorted(missing))}; found {list_names(fields)}, "
                f"expected {layout.expected_keys}"
            )
        if len(fields) > len(used):
            dropped = [key for key in fields if not (key in used or layout.is_ignored(key) or is_blank(fields[key]))]
            _reject_dropped(dropped)
        return self.read_named(file, line, fields)

    def read_named(self, file: str, line: int, fields: Mapping[str, object]) -> RawRow:
        """Return the row with the columns that the recipe names."""
        label = None if self._kind is None else require_text("kind", self._kind.value(fields))
        problem = require_content("problem", self._problem.value(fields))
        return RawRow(file, line, problem, require_content("solution", self._solution.value(fields)), label)

    def _read_format(self, fields: Mapping[str, object]) -> RowTexts:
        layout = self._layout
        row_format = layout.find_format(fields.keys())
        if row_format is None:
            fixed = "" if layout.format is None else f" of data.format: {layout.format}"
            raise RowError(
                f"keys fit no row format{fixed}: found {list_names(fields)}; expected {layout.expected_keys}"
            )
        if (
            not layout.ignored
            and all(key in row_format.keys for key in fields)
            and len(self._formats) < _MAX_CACHED_FORMATS
        ):
            self._formats[tuple(fields)] = row_format
        fields = layout.without_ignored(fields, row_format)
        return convert_fields(fields, row_format, layout.conversations)


@dataclass(frozen=True, slots=True)
class _Column:
    """A column that the recipe names: the name of a key, or a template with names in braces."""

    text: str
    names: tuple[str, ...]
    is_template: bool

    @classmethod
    def parse(cls, text: str) -> _Column:
        names = tuple(match[1] for match in _PLACEHOLDER.finditer(text) if match[1])
        return cls(text, names or (text,), bool(names))

    def value(self, fields: Mapping[str, object]) -> object:
        if not self.is_template:
            return _look_up(fields, self.text)
        return _PLACEHOLDER.sub(
            lambda match: _text_of(match[1], _look_up(fields, match[1])) if match[1] else match[0][0], self.text
        )


def _first_key(name: str, keys: Collection[str]) -> str:
    """Return the key of a row that a name leads into: the name itself, or its part before the first point."""
    first = name.partition(".")[0]
    return first if name not in keys and first in keys else name


def _look_up(fields: Mapping[str, object], name: str) -> object:
    """Return the value of a name such as `answer` or `answers.text.0`; None if an inner key is missing."""
    if name in fields:
        return fields[name]
    first, *others = name.split(".")
    value = fields.get(first)
    for part in others:
        if isinstance(value, tuple):
            value = dict(value).get(part)
        elif isinstance(value, list) and part.isdecimal():
            value = value[int(part)] if int(part) < len(value) else None
        else:
            return None
    return value


def _text_of(name: str, value: object) -> str:
    """Return the text of a value in a template. An absent value is an empty text."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case Number():
            return value.text
        case str():
            return value
    raise RowError(
        f"a column of a template is not a text: {name!r} is {describe(value)}; use a text, number or boolean"
    )


def _reject_dropped(names: list[str]) -> None:
    if names:
        raise RowError(f"keys would be dropped: found {list_names(names)}; {dropped_columns_advice(names)}")
