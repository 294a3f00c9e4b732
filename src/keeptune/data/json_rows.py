"""Reads rows from JSON Lines and JSON lists, in the formats of `row_formats`.

Files have millions of lines, and most lines are an object with two strings. A fast path parses those. All other lines
take the slow path, which determines the reason for a rejection.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from sys import maxsize

from keeptune.config.data import ColumnsSection
from keeptune.data.conversations import Number
from keeptune.data.row import (
    MAX_ROW_BYTES,
    NOT_UTF8,
    TOO_LONG,
    RawRow,
    RejectedRow,
    RowError,
    is_utf8,
    reject,
    require_text,
)
from keeptune.data.row_formats import convert_fields
from keeptune.data.sources import Shard
from keeptune.data.stream import LongLine, decode_lines, open_bytes, read_line_blocks
from keeptune.errors import DataError

_CONVERSATION_KEYS = {"id", "conversations"}
_CONVERSATION_ROLES = ["human", "gpt"]

_SPACE = re.compile(r"[ \t\r\n]+")
_LINE_SPACE = " \t\r\x0b\x0c"

# The official wrapper is `…\n\n### Instruction:\n{problem}\n\n### Response:`. Some teams dropped its start, its end, a
# `#` or the first sentence, or added spaces.
_BEFORE_PROBLEM = re.compile(r"\A(?:[^#]*\n)?[ ]*(?:#{2,3} ?)?Instruction: *\n?")
_AFTER_PROBLEM = re.compile(r"\n(?:#{2,3} ?)?Response:\Z")

# An object becomes the tuple of its (key, value) pairs. This needs no call into Python and preserves duplicate keys.
# A number keeps its text. This also avoids Python's limit on the number of digits.
_DECODER = json.JSONDecoder(object_pairs_hook=tuple, parse_int=Number, parse_float=Number)


def read_json(path: Path, columns: ColumnsSection, conversations: bool = False) -> Iterator[RawRow | RejectedRow]:
    """Yield every row of a JSON file. The file is a list if its first character is `[`, and JSON Lines otherwise.

    Raises:
        DataError: the file is missing, unreadable or empty, or is a list that does not parse. A malformed list is not
            read further, because the number of lost rows is unknown.
    """
    first_character = _first_character(path)
    if not first_character:
        raise DataError(f"{path}: the file is empty; provide a file with rows")
    if first_character == b"[":
        return _read_list(path, columns, conversations)
    return read_json_lines(Shard(str(path)), columns, conversations)


def read_json_lines(
    shard: Shard, columns: ColumnsSection, conversations: bool = False
) -> Iterator[RawRow | RejectedRow]:
    """Yield the rows of a JSON Lines file or of one shard of it. Blank lines are skipped.

    Raises:
        DataError: the file is missing or unreadable.
    """
    file, line, size_bytes = shard.file, shard.first_line, maxsize
    reader = _ObjectReader(columns, conversations)
    with open_bytes(Path(file)) as stream:
        if shard.end is not None:
            size_bytes = shard.end - stream.seek(max(shard.start, stream.tell()))  # after the byte order mark
        for block in read_line_blocks(stream, size_bytes):
            if isinstance(block, LongLine):
                yield block.reject(file, line)
                line += 1
                continue
            lines, is_valid = decode_lines(block)
            parse = _parse_fast if is_valid and columns.kind is None else _parse_slowly
            yield from parse(file, line, lines, reader)
            line += len(lines)


def strip_prompt_wrapper(prompt: str) -> str:
    """Return the text between `### Instruction:` and `### Response:`, or the whole prompt if it has neither."""
    return _AFTER_PROBLEM.sub("", _BEFORE_PROBLEM.sub("", prompt.rstrip(), count=1)).strip()


def _first_character(path: Path) -> bytes:
    """Return the first byte that is not white space."""
    first = b""
    with open_bytes(path) as stream:
        while not first and (chunk := stream.read(MAX_ROW_BYTES)):
            first = chunk.lstrip()[:1]
    return first


def _parse_fast(file: str, line: int, lines: list[str], reader: _ObjectReader) -> list[RawRow | RejectedRow]:
    """Return the rows in lines of valid UTF-8, for recipes without data.columns.kind.

    The result is a list, because resuming a generator takes longer than creating the row.
    """
    rows: list[RawRow | RejectedRow] = []
    decode, problem_key, solution_key = _DECODER.raw_decode, reader.columns.problem, reader.columns.solution
    for number, text in enumerate(lines, line):
        try:
            value, end = decode(text)
            (first, problem), (second, solution) = value
        except (ValueError, TypeError, RecursionError):
            rows += _parse_slowly(file, number, [text], reader)
            continue
        if (
            first == problem_key
            and second == solution_key
            and type(value) is tuple
            and end == len(text)
            and type(problem) is str is type(solution)
            and problem
            and solution
            and not problem.isspace()
            and not solution.isspace()
            and "\\u" not in text  # may be a lone surrogate
        ):
            rows.append(RawRow(file, number, problem, solution))
        else:
            rows += _parse_slowly(file, number, [text], reader)
    return rows


def _parse_slowly(file: str, line: int, lines: list[str], reader: _ObjectReader) -> Iterator[RawRow | RejectedRow]:
    """Yield the rows in lines with any content."""
    for number, text in enumerate(lines, line):
        if not text.strip(_LINE_SPACE):
            continue
        try:
            if not is_utf8(text):
                text = text.encode(errors="surrogateescape").decode(errors="replace")
                raise RowError(NOT_UTF8)
            yield reader.row(file, number, _parse(text))
        except RowError as error:
            yield reject(file, number, str(error), text.rstrip("\r"))


def _read_list(path: Path, columns: ColumnsSection, conversations: bool) -> Iterator[RawRow | RejectedRow]:
    with open_bytes(path) as stream:
        # Bytes that are not UTF-8 become lone surrogates, so only the item that contains them is rejected.
        text = stream.read().decode(errors="surrogateescape")
    reader = _ObjectReader(columns, conversations)
    for number, start, end, value in _items(path, text):
        try:
            if end - start > MAX_ROW_BYTES:
                raise RowError(TOO_LONG)
            yield reader.row(str(path), number, value)
        except RowError as error:
            yield reject(str(path), number, str(error), text[start:end])


def _items(path: Path, text: str) -> Iterator[tuple[int, int, int, object]]:
    """Yield the number, start, end and value of each item of a JSON list."""
    position = _skip_space(text, text.index("[") + 1)
    if text.startswith("]", position):
        raise DataError(f"{path}: the list is empty; provide a file with rows")
    for number in count(1):
        try:
            value, end = _DECODER.raw_decode(text, position)
            separator = _skip_space(text, end)
            is_last = text.startswith("]", separator)
            if not is_last and not text.startswith(",", separator):
                raise json.JSONDecodeError("Expecting ',' or ']'", text, separator)
            if is_last and text[separator + 1 :].strip():
                raise json.JSONDecodeError("Extra data", text, separator + 1)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{path}: item {number} of the JSON list cannot be parsed ({error}); the file may be truncated. "
                "Repair it, or write one object per line (JSONL), where only the malformed line is rejected"
            ) from None
        yield number, position, end, value
        if is_last:
            return
        position = _skip_space(text, separator + 1)


def _skip_space(text: str, position: int) -> int:
    space = _SPACE.match(text, position)
    return space.end() if space else position


def _parse(text: str) -> object:
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        raise RowError("malformed JSON") from None


class _ObjectReader:
    """Converts parsed JSON values to rows. It remembers conversation ids, which must be unique within a file."""

    def __init__(self, columns: ColumnsSection, conversations: bool) -> None:
        self.columns, self.conversations = columns, conversations
        self._keys = {columns.problem, columns.solution} | ({columns.kind} if columns.kind is not None else set())
        self._is_default = columns == ColumnsSection()
        self._conversation_ids: set[str] = set()

    def row(self, file: str, line: int, value: object) -> RawRow:
        """Convert a parsed value to a row.

        Raises:
            RowError: the value is not a row; the message is the reason.
        """
        if not isinstance(value, tuple):
            raise RowError("not an object")
        fields: dict[str, object] = dict(value)
        if len(fields) < len(value):
            raise RowError("a key occurs twice")
        columns = self.columns
        if fields.keys() == _CONVERSATION_KEYS and columns.kind is None:
            return self._conversation(file, line, fields)
        if self._is_default:
            problem, solution, conversation = convert_fields(fields, self.conversations)
            return RawRow(file, line, problem, solution, conversation=conversation)
        if missing := self._keys - fields.keys():
            raise RowError(f"a key that data.columns names is missing: {', '.join(sorted(missing))}")
        label = None if columns.kind is None else require_text("kind", fields[columns.kind])
        problem = require_text("problem", fields[columns.problem])
        return RawRow(file, line, problem, require_text("solution", fields[columns.solution]), label)

    def _conversation(self, file: str, line: int, fields: dict[str, object]) -> RawRow:
        """Convert a conversation with an id. Only those of MindFormers and FastChat may have a prompt to remove."""
        conversation_id, turns = fields["id"], fields["conversations"]
        if not isinstance(conversation_id, str):
            raise RowError("id is not a text")
        if conversation_id in self._conversation_ids:
            raise RowError("id occurs twice")
        prompt, solution, conversation = convert_fields(fields, self.conversations)
        self._conversation_ids.add(conversation_id)
        if not isinstance(turns, list) or [dict(turn).get("from") for turn in turns] != _CONVERSATION_ROLES:
            return RawRow(file, line, prompt, solution, conversation=conversation)
        problem = require_text("problem", strip_prompt_wrapper(prompt))
        return RawRow(file, line, problem, solution, unwrapped=problem != prompt.strip())
