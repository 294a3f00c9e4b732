"""Rows out of JSON: JSON Lines, a JSON list, and the conversation list that MindFormers and FastChat train on.

Files have millions of lines, most of them an object of two plain texts. These take a short way, and whatever it does
not understand goes the long way, which knows the reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from sys import maxsize

from keeptune.config.data import ColumnsSection
from keeptune.data.row import LONGEST_ROW_BYTES, NOT_UTF8, TOO_LONG, BadRow, Rejected, Row, checked, is_utf8, reject
from keeptune.data.sources import Shard
from keeptune.data.stream import LongLine, decoded, line_blocks, opened
from keeptune.errors import DataError

_CONVERSATION_KEYS = {"id", "conversations"}
_TURN_KEYS = {"from", "value"}

_SPACE = re.compile(r"[ \t\r\n]+")
_LINE_SPACE = " \t\r\x0b\x0c"

# The official wrapper is `…\n\n### Instruction:\n{problem}\n\n### Response:`; teams dropped either end, one #, or
# the first sentence, and added spaces.
_BEFORE_PROBLEM = re.compile(r"\A(?:[^#]*\n)?[ ]*(?:#{2,3} ?)?Instruction: *\n?")
_AFTER_PROBLEM = re.compile(r"\n(?:#{2,3} ?)?Response:\Z")

# An object becomes the tuple of its (key, value) pairs: that takes no call into Python, and shows keys that occur
# twice. Numbers are of no use in a row; as floats they cannot be too long to be parsed.
_DECODER = json.JSONDecoder(object_pairs_hook=tuple, parse_int=float)


def read_json(path: Path, columns: ColumnsSection) -> Iterator[Row | Rejected]:
    """Every row of a whole JSON file: a list, or one value a line, as its first character tells.

    errors: DataError when the file is missing, unreadable or empty, or is a list that does not parse: where such a
    list goes wrong, nobody can say how many rows are lost.
    """
    opening = _opening(path)
    if not opening:
        raise DataError(f"{path}: the file is empty; give one with rows")
    return _read_list(path, columns) if opening == b"[" else read_lines(Shard(str(path)), columns)


def read_lines(shard: Shard, columns: ColumnsSection) -> Iterator[Row | Rejected]:
    """The rows in a part of a JSON Lines file, or in all of it. Blank lines are no rows.

    errors: DataError when the file is missing or unreadable.
    """
    file, line, size_bytes, reader = shard.file, shard.first_line, maxsize, _ObjectReader(columns)
    with opened(Path(file)) as stream:
        if shard.end is not None:
            size_bytes = shard.end - stream.seek(max(shard.start, stream.tell()))  # behind the byte order mark
        for block in line_blocks(stream, size_bytes):
            if isinstance(block, LongLine):
                yield block.reject(file, line)
                line += 1
                continue
            lines, is_clean = decoded(block)
            yield from (_short_way if is_clean and columns.kind is None else _long_way)(file, line, lines, reader)
            line += len(lines)


def unwrap(prompt: str) -> str:
    """The problem inside a prompt: what stands between `### Instruction:` and `### Response:`, or all of it."""
    return _AFTER_PROBLEM.sub("", _BEFORE_PROBLEM.sub("", prompt.rstrip(), count=1)).strip()


def _opening(path: Path) -> bytes:
    """The first character that is not a space."""
    opening = b""
    with opened(path) as stream:
        while not opening and (chunk := stream.read(LONGEST_ROW_BYTES)):
            opening = chunk.lstrip()[:1]
    return opening


def _short_way(file: str, line: int, lines: list[str], reader: _ObjectReader) -> list[Row | Rejected]:
    """The rows in lines of UTF-8, where no kind is asked for. A list, because resuming a generator for each takes
    longer than making the row."""
    rows: list[Row | Rejected] = []
    decode, problem_key, solution_key = _DECODER.raw_decode, reader.columns.problem, reader.columns.solution
    for number, text in enumerate(lines, line):
        try:
            value, end = decode(text)
            (first, problem), (second, solution) = value
        except (ValueError, TypeError, RecursionError):
            rows += _long_way(file, number, [text], reader)
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
            and "\\u" not in text  # it may be half a character
        ):
            rows.append(Row(file, number, problem, solution))
        else:
            rows += _long_way(file, number, [text], reader)
    return rows


def _long_way(file: str, line: int, lines: list[str], reader: _ObjectReader) -> Iterator[Row | Rejected]:
    """The rows in lines, whatever they hold."""
    for number, text in enumerate(lines, line):
        if not text.strip(_LINE_SPACE):
            continue
        try:
            if not is_utf8(text):
                text = text.encode(errors="surrogateescape").decode(errors="replace")
                raise BadRow(NOT_UTF8)
            yield reader.row(file, number, _parse(text))
        except BadRow as bad:
            yield reject(file, number, str(bad), text.rstrip("\r"))


def _read_list(path: Path, columns: ColumnsSection) -> Iterator[Row | Rejected]:
    with opened(path) as stream:
        # Bytes that are not UTF-8 become lone surrogates, so that they spoil their own item and not the file.
        text = stream.read().decode(errors="surrogateescape")
    reader = _ObjectReader(columns)
    for number, start, end, value in _items(path, text):
        try:
            if end - start > LONGEST_ROW_BYTES:
                raise BadRow(TOO_LONG)
            yield reader.row(str(path), number, value)
        except BadRow as bad:
            yield reject(str(path), number, str(bad), text[start:end])


def _items(path: Path, text: str) -> Iterator[tuple[int, int, int, object]]:
    """Number, start, end and value of each item of a JSON list, one at a time."""
    position = _after_space(text, text.index("[") + 1)
    if text.startswith("]", position):
        raise DataError(f"{path}: the list is empty; give a file with rows")
    for number in count(1):
        try:
            value, end = _DECODER.raw_decode(text, position)
            separator = _after_space(text, end)
            ended = text.startswith("]", separator)
            if not ended and not text.startswith(",", separator):
                raise json.JSONDecodeError("Expecting ',' or ']'", text, separator)
            if ended and text[separator + 1 :].strip():
                raise json.JSONDecodeError("Extra data", text, separator + 1)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{path}: item {number} of the JSON list cannot be parsed ({error}); repair the file, which may be "
                "cut short, or write one object a line (JSONL), where a bad line costs only itself"
            ) from None
        yield number, position, end, value
        if ended:
            return
        position = _after_space(text, separator + 1)


def _after_space(text: str, position: int) -> int:
    space = _SPACE.match(text, position)
    return space.end() if space else position


def _parse(text: str) -> object:
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        raise BadRow("malformed JSON") from None


class _ObjectReader:
    """Makes rows of parsed values. It remembers the ids of conversations, which may not repeat within a file."""

    def __init__(self, columns: ColumnsSection) -> None:
        self.columns = columns
        self._named = {columns.problem, columns.solution} | ({columns.kind} if columns.kind is not None else set())
        self._is_default = columns == ColumnsSection()
        self._identities: set[str] = set()

    def row(self, file: str, line: int, value: object) -> Row:
        """The row that a parsed value is. errors: BadRow with the reason when it is none."""
        if not isinstance(value, tuple):
            raise BadRow("not an object")
        keyed: dict[str, object] = dict(value)
        if len(keyed) < len(value):
            raise BadRow("a key occurs twice")
        names = self.columns
        if keyed.keys() == _CONVERSATION_KEYS and names.kind is None:
            return self._conversation(file, line, keyed)
        if self._is_default and keyed.keys() != self._named:
            raise BadRow("keys are neither problem and solution nor id and conversations")
        if missing := self._named - keyed.keys():
            raise BadRow(f"a key that data.columns names is missing: {', '.join(sorted(missing))}")
        label = None if names.kind is None else checked("kind", keyed[names.kind])
        problem, solution = checked("problem", keyed[names.problem]), checked("solution", keyed[names.solution])
        return Row(file, line, problem, solution, label)

    def _conversation(self, file: str, line: int, keyed: dict[str, object]) -> Row:
        identity, turns = keyed["id"], keyed["conversations"]
        if not isinstance(identity, str):
            raise BadRow("id is not a text")
        if identity in self._identities:
            raise BadRow("id occurs twice")
        if not isinstance(turns, list) or [_speaker(turn) for turn in turns] != ["human", "gpt"]:
            raise BadRow("not one human turn and one gpt turn")
        self._identities.add(identity)
        asked, answered = dict(turns[0])["value"], dict(turns[1])["value"]
        if not isinstance(asked, str):
            raise BadRow("problem is not a text")
        problem = unwrap(asked)
        unwrapped = problem != asked.strip()
        return Row(
            file, line, checked("problem", problem), checked("solution", answered), label=None, unwrapped=unwrapped
        )


def _speaker(turn: object) -> object:
    if not isinstance(turn, tuple) or len(turn) != len(_TURN_KEYS):
        return None
    keyed = dict(turn)
    return keyed["from"] if keyed.keys() == _TURN_KEYS else None
