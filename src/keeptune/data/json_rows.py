"""Reads rows from JSON Lines, JSON lists, and JSON objects with a list under one key.

Files have millions of lines, and most lines are an object with two strings. A fast path parses those. All other lines
take the slow path, which determines the reason for a rejection.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from sys import maxsize
from typing import NamedTuple

from keeptune.data import json_document
from keeptune.data.columns import RowLayout, RowReader
from keeptune.data.conversations import Number
from keeptune.data.json_document import (
    DECODER,
    Item,
    ItemError,
    ValueReader,
    find_lists,
    is_partial_object,
    list_items,
    skip_space,
)
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
from keeptune.data.row_formats import CONVERSATIONS
from keeptune.data.row_values import describe, list_names
from keeptune.data.sources import Shard
from keeptune.data.stream import BLOCK_BYTES, LongLine, decode_lines, open_bytes, read_line_blocks
from keeptune.errors import DataError

_CONVERSATION_KEYS = {"id", "conversations"}
_CONVERSATION_ROLES = ["human", "gpt"]
_ID_ADVICE = "repair it, or name id in data.ignore_columns"

_LINE_SPACE = " \t\r\x0b\x0c"

# The official wrapper is `…\n\n### Instruction:\n{problem}\n\n### Response:`, after the sentences of Alpaca or of the
# contest's own converter. Some teams dropped its start, its end, a `#` or a sentence, or added spaces. Any other text
# before the word is a part of the problem.
_BEFORE_PROBLEM = re.compile(
    r"\A\s*(?:Below is an instruction that describes a (?:grade school math problem|task"
    r"(?:, paired with an input that provides further context)?)\.)?"
    r"\s*(?:Write a response that (?:appropriately completes the request|gives the correct answer)\.)?"
    r"\s*(?:#{2,3} ?)?Instruction: *\n?"
)
_AFTER_PROBLEM = re.compile(r"\n(?:#{2,3} ?)?Response:\Z")


def read_json(path: Path, layout: RowLayout) -> Iterator[RawRow | RejectedRow]:
    """Yield every row of a JSON file.

    The file is a list if its first character is `[`. It is an object with a list of rows if it is one object and not a
    row. Otherwise, it is JSON Lines.

    Raises:
        DataError: the file is missing, unreadable or empty, is a list that does not parse, or is an object with several
            lists. A malformed list is not read further, because the number of lost rows is unknown.
    """
    container = open_container(path, layout)
    if container.text is None:
        return read_json_lines(Shard(str(path)), layout)
    return _read_list(path, container, layout)


class Container(NamedTuple):
    """How a JSON file holds its rows: a name for messages and, for a list, the text and the position of the bracket."""

    name: str
    text: str | None = None
    start: int = 0


def open_container(path: Path, layout: RowLayout) -> Container:
    """Return how a JSON file holds its rows.

    Raises:
        DataError: the file is missing, unreadable or empty, or is an object with several lists.
    """
    first_character, first_line, is_single = _read_start(path)
    if not first_character:
        raise DataError(f"{path}: the file is empty; provide a file with rows")
    if first_character == b"[":
        text = _read_text(path)
        return Container("JSON list", text, text.index("["))
    if first_character == b"{" and (is_partial_object(first_line) or (is_single and not _is_row(first_line, layout))):
        text = _read_text(path)
        lists = find_lists(text)
        if len(lists) > 1:
            raise DataError(
                f"{path}: the object has several lists of rows: {list_names(one.key for one in lists)}; write each "
                "into a file of its own"
            )
        if lists:
            return Container(f"JSON list under {lists[0].key!r}", text, lists[0].start)
    return Container("JSON Lines")


def read_json_lines(shard: Shard, layout: RowLayout) -> Iterator[RawRow | RejectedRow]:
    """Yield the rows of a JSON Lines file or of one shard of it. Blank lines are skipped.

    Raises:
        DataError: the file is missing or unreadable.
    """
    file, line, size_bytes, reader = shard.file, shard.first_line, maxsize, _ObjectReader(layout)
    with open_bytes(Path(file)) as stream:
        if shard.end is not None:
            size_bytes = shard.end - stream.seek(max(shard.start, stream.tell()))  # after the byte order mark
        for block in read_line_blocks(stream, size_bytes):
            if isinstance(block, LongLine):
                yield block.reject(file, line)
                line += 1
                continue
            lines, is_valid = decode_lines(block)
            parse = _parse_fast if is_valid and reader.pair_keys else _parse_slowly
            yield from parse(file, line, lines, reader)
            line += len(lines)


def strip_prompt_wrapper(prompt: str) -> str:
    """Return the text between `### Instruction:` and `### Response:`, or the whole prompt if it has neither.

    Without `#`, both words must be there. A text before them stays, unless it is the known introduction.
    """
    text = prompt.rstrip()
    start, end = _BEFORE_PROBLEM.match(text), _AFTER_PROBLEM.search(text)
    is_pair = start is not None and end is not None
    first = start.end() if start and (is_pair or "#" in start[0]) else 0
    last = end.start() if end and (is_pair or "#" in end[0]) else len(text)
    return text[first:last].strip()


def _read_start(path: Path) -> tuple[bytes, str, bool]:
    """Return the first byte that is not white space, the first line that is not blank, and whether it is the only one.

    The line may be cut after 1 MB.
    """
    start = b""
    with open_bytes(path) as stream:
        while not start and (chunk := stream.read(MAX_ROW_BYTES)):
            start = chunk.lstrip()
        while b"\n" not in start and len(start) <= MAX_ROW_BYTES and (chunk := stream.read(MAX_ROW_BYTES)):
            start += chunk
        line, end, others = start.partition(b"\n")
        while not end and (chunk := stream.read(MAX_ROW_BYTES)):
            _, end, others = chunk.partition(b"\n")
        is_single = not others.strip() and not stream.read(MAX_ROW_BYTES).strip()
    return start[:1], line.decode(errors="surrogateescape"), is_single


def _is_row(line: str, layout: RowLayout) -> bool:
    """Return whether a line is an object with the keys of a row."""
    try:
        value = DECODER.decode(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, tuple) and layout.describe_format(dict(value)) is not None


def _read_text(path: Path) -> str:
    """Return the text of a file. Bytes that are not UTF-8 become lone surrogates, which affect only their item.

    Raises:
        DataError: the file is unreadable, or unpacks to more than `MAX_DOCUMENT_BYTES`.
    """
    content = bytearray()
    with open_bytes(path) as stream:
        while block := stream.read(BLOCK_BYTES):
            content += block
            if len(content) > json_document.MAX_DOCUMENT_BYTES:
                raise DataError(
                    f"{path}: the JSON list or object has more than {json_document.MAX_DOCUMENT_BYTES:,} bytes, and "
                    "would be held in memory; write one object per line (JSONL)"
                )
    return content.decode(errors="surrogateescape")


def _parse_fast(file: str, line: int, lines: list[str], reader: _ObjectReader) -> list[RawRow | RejectedRow]:
    """Return the rows in lines of valid UTF-8, if a row can be two texts that are used as they are.

    The result is a list, because resuming a generator takes longer than creating the row.
    """
    rows: list[RawRow | RejectedRow] = []
    assert reader.pair_keys is not None
    decode, (problem_key, solution_key) = DECODER.raw_decode, reader.pair_keys
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


def _read_list(path: Path, container: Container, layout: RowLayout) -> Iterator[RawRow | RejectedRow]:
    text = container.text or ""
    reader = _ObjectReader(layout)
    for number, item in _items(path, text, container.start):
        try:
            if item.end - item.start > MAX_ROW_BYTES:
                raise RowError(TOO_LONG)
            yield reader.row(str(path), number, item.value)
        except RowError as error:
            yield reject(str(path), number, str(error), text[item.start : item.end])


def _items(path: Path, text: str, start: int) -> Iterator[tuple[int, Item]]:
    """Yield the number and the item of each item of the JSON list that begins at `start`."""
    number, end = 0, start + 1
    try:
        for number, item in enumerate(list_items(ValueReader(text), start), start=1):
            end = item.end
            yield number, item
    except ItemError as error:
        raise _malformed_list_error(path, error.number, error) from None
    if number == 0:
        raise DataError(f"{path}: the list is empty; provide a file with rows")
    bracket = skip_space(text, end)
    is_inner = text[:start].strip() != ""
    if not is_inner and text[bracket + 1 :].strip():
        raise _malformed_list_error(path, number, json.JSONDecodeError("Extra data", text, bracket + 1))


def _malformed_list_error(path: Path, number: int, error: ValueError) -> DataError:
    return DataError(
        f"{path}: item {number} of the JSON list cannot be parsed ({error}); the file may be truncated. "
        "Repair it, or write one object per line (JSONL), where only the malformed line is rejected"
    )


def _parse(text: str) -> object:
    try:
        return DECODER.decode(text)
    except (ValueError, RecursionError):
        raise RowError(f"malformed JSON{_find_fault(text.strip())}") from None


def _find_fault(text: str) -> str:
    """Return what is wrong with a line and what to do, for the usual faults; else nothing."""
    try:
        _, end = DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        if text in ("{", "[", "}", "]", "},"):
            return ": an object over several lines; write one object per line, or a list with [ and ]"
        if text.startswith("{'"):
            return ": single quotes, as Python prints them; write it with json.dumps"
        return ": a comment, which JSON has not; remove the line" if text.startswith(("#", "//")) else ""
    if text[end:].strip() == ",":
        return ": a comma after the object; remove it, or write a list with [ and ]"
    return ": several objects on one line; write one object per line" if text[end:].lstrip().startswith("{") else ""


class _ObjectReader:
    """Converts parsed JSON values to rows. It remembers conversation ids, which must be unique within a file."""

    def __init__(self, layout: RowLayout) -> None:
        self.layout = layout
        self._rows = RowReader(layout)
        self._may_be_conversation = layout.columns.kind is None and layout.format in (None, "conversations")
        self._conversation_ids: set[str] = set()
        columns = layout.columns
        is_pair = self._rows.is_plain_pair and layout.format in (None, "problem-solution")
        self.pair_keys = (columns.problem, columns.solution) if is_pair else None
        """The two keys of a row that can be used as it is, or None if every row must be converted."""

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
        if (
            self._may_be_conversation
            and fields.keys() >= _CONVERSATION_KEYS
            and all(key in _CONVERSATION_KEYS or self.layout.is_ignored(key) for key in fields)
        ):
            return self._conversation(file, line, fields)
        return self._rows.read(file, line, fields)

    def _conversation(self, file: str, line: int, fields: dict[str, object]) -> RawRow:
        """Convert a conversation with an id. Only those of MindFormers and FastChat may have a prompt to remove."""
        conversation_id = self._conversation_id(fields["id"])
        fields = dict(self.layout.without_ignored(fields, CONVERSATIONS))
        turns = fields["conversations"]
        prompt, solution, conversation = CONVERSATIONS.read_row(fields, self.layout.conversations)
        if conversation_id is not None:
            self._conversation_ids.add(conversation_id)
        if conversation is not None:
            return RawRow(file, line, prompt, solution, conversation=conversation)
        if not isinstance(turns, list) or [dict(turn).get("from") for turn in turns] != _CONVERSATION_ROLES:
            return RawRow(file, line, prompt, solution)
        problem = require_text("problem", strip_prompt_wrapper(prompt))
        return RawRow(file, line, problem, solution, unwrapped=problem != prompt.strip())

    def _conversation_id(self, value: object) -> str | None:
        """Return the id of a conversation; None if data.ignore_columns names `id`.

        Raises:
            RowError: the id is not a text or a number, or occurs twice.
        """
        if "id" in self.layout.ignored:
            return None
        if not isinstance(value, (str, Number)):
            raise RowError(f"id is not a text: found {describe(value)}; {_ID_ADVICE}")
        text = value if isinstance(value, str) else value.text
        if text in self._conversation_ids:
            raise RowError(f"id occurs twice: found {text[:60]!r}; {_ID_ADVICE}")
        return text
