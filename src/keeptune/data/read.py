"""Raw rows out of files: each is kept, or rejected with its place and the reason; none disappears.

Three formats are read, and told apart by content: JSON Lines, a JSON list, and the conversation list that
MindFormers and FastChat train on. Nothing in a file can crash the reader or make it hold more than one long line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import BinaryIO

from keeptune.data.source import Shard
from keeptune.errors import DataError
from keeptune.recipe import ColumnsSection

LONGEST_ROW_BYTES = 1_000_000
LONGEST_TEXT = 2_000
"""Characters of a rejected row that are kept."""

_ROW_KEYS = {"problem", "solution"}
_CONVERSATION_KEYS = {"id", "conversations"}
_TURN_KEYS = {"from", "value"}

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SPACE = re.compile(r"[ \t\r\n]+")
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")

# The official wrapper is `…\n\n### Instruction:\n{problem}\n\n### Response:`; teams dropped either end, one #, or
# the first sentence, and added spaces.
_BEFORE_PROBLEM = re.compile(r"\A(?:[^#]*\n)?[ ]*(?:#{2,3} ?)?Instruction: *\n?")
_AFTER_PROBLEM = re.compile(r"\n(?:#{2,3} ?)?Response:\Z")


@dataclass(frozen=True, slots=True)
class Row:
    """A problem with its stored solution, and where it stands: the line of a JSONL file, the item of a JSON list."""

    file: str
    line: int
    problem: str
    solution: str
    label: str | None = None
    unwrapped: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that is not used, why, its text cut to 2,000 characters, and how long it was (in bytes if undecoded).

    What precedes a colon in the reason is the same for all rows that are rejected for it.
    """

    file: str
    line: int
    reason: str
    text: str
    length: int


class _BadRow(Exception):  # noqa: N818  (carries a reason, never leaves this file)
    pass


def reject(file: str, line: int, reason: str, text: str) -> Rejected:
    """The record of a rejected row, with no more of its text than is worth keeping."""
    return Rejected(file, line, reason, _HALF_CHARACTER.sub("\ufffd", text[:LONGEST_TEXT]), len(text))


def read_rows(path: Path) -> Iterator[Row | Rejected]:
    """Every row of a file in its order, kept or rejected. Blank lines are no rows.

    errors: DataError when the file is missing, unreadable or empty, or is a JSON list that does not parse: where
    such a list goes wrong, nobody can say how many rows are lost.
    """
    try:
        with path.open("rb") as file:
            opening = _opening(file)
            if not opening:
                raise DataError(f"{path}: the file is empty; give one with rows")
            yield from _read_list(path, file) if opening == b"[" else _read_lines(path, file)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check data.files and its permissions") from None


def unwrap(prompt: str) -> str:
    """The problem inside a prompt: what stands between `### Instruction:` and `### Response:`, or all of it."""
    return _AFTER_PROBLEM.sub("", _BEFORE_PROBLEM.sub("", prompt.rstrip(), count=1)).strip()


def _opening(file: BinaryIO) -> bytes:
    """The first character that is not a space; leaves the file behind its byte order mark."""
    start = len(_BYTE_ORDER_MARK) if file.read(3) == _BYTE_ORDER_MARK else 0
    file.seek(start)
    opening = b""
    while not opening and (chunk := file.read(LONGEST_ROW_BYTES)):
        opening = chunk.lstrip()[:1]
    file.seek(start)
    return opening


def _read_lines(path: Path, file: BinaryIO) -> Iterator[Row | Rejected]:
    identities: set[str] = set()
    line = 0
    while raw := file.readline(LONGEST_ROW_BYTES + 1):
        line += 1
        if len(raw) > LONGEST_ROW_BYTES and not raw.endswith(b"\n"):
            length = len(raw) + _skip_line(file)
            text = raw[: 4 * LONGEST_TEXT].decode(errors="replace")[:LONGEST_TEXT]
            yield Rejected(str(path), line, "longer than 1 MB", text, length)
            continue
        if not raw.strip():
            continue
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            yield reject(str(path), line, "not UTF-8", raw.decode(errors="replace").rstrip("\r\n"))
            continue
        try:
            problem, solution = _texts(_parse(text), identities)
            yield Row(str(path), line, problem, solution)
        except _BadRow as bad:
            yield reject(str(path), line, str(bad), text.rstrip("\r\n"))


def _skip_line(file: BinaryIO) -> int:
    """How many bytes the rest of the line had."""
    skipped = 0
    while rest := file.readline(LONGEST_ROW_BYTES):
        skipped += len(rest)
        if rest.endswith(b"\n"):
            break
    return skipped


def _read_list(path: Path, file: BinaryIO) -> Iterator[Row | Rejected]:
    # Bytes that are not UTF-8 become lone surrogates, so that they spoil their own item and not the file.
    text = file.read().decode(errors="surrogateescape")
    identities: set[str] = set()
    for number, start, end, value in _items(path, text):
        try:
            if end - start > LONGEST_ROW_BYTES:
                raise _BadRow("longer than 1 MB")
            problem, solution = _texts(value, identities)
            yield Row(str(path), number, problem, solution)
        except _BadRow as bad:
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
        raise _BadRow("malformed JSON") from None


class _Doubled:
    """An object in which a key occurs twice: json would keep the last one silently."""


def _object(pairs: list[tuple[str, object]]) -> object:
    built = dict(pairs)
    return built if len(built) == len(pairs) else _Doubled()


# Numbers are of no use in a row; as floats they cannot be too long to be parsed.
_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=float)


def _texts(value: object, identities: set[str]) -> tuple[str, str]:
    """The problem and the solution of a parsed row. `identities` holds the ids of all conversations before it."""
    if isinstance(value, _Doubled):
        raise _BadRow("a key occurs twice")
    if not isinstance(value, dict):
        raise _BadRow("not an object")
    if value.keys() == _CONVERSATION_KEYS:
        problem, solution = _conversation(value, identities)
    elif value.keys() == _ROW_KEYS:
        problem, solution = value["problem"], value["solution"]
    else:
        raise _BadRow("keys are neither problem and solution nor id and conversations")
    return _text("problem", problem), _text("solution", solution)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise _BadRow(f"{name} is not a text")
    if not value.strip():
        raise _BadRow(f"{name} is empty")
    if not value.isascii() and _HALF_CHARACTER.search(value):
        raise _BadRow(f"{name} holds half a character (a lone surrogate, or bytes that are not UTF-8)")
    return value


def _conversation(value: dict[str, object], identities: set[str]) -> tuple[object, object]:
    identity, turns = value["id"], value["conversations"]
    if not isinstance(identity, str):
        raise _BadRow("id is not a text")
    if identity in identities:
        raise _BadRow("id occurs twice")
    if not isinstance(turns, list) or [_speaker(turn) for turn in turns] != ["human", "gpt"]:
        raise _BadRow("not one human turn and one gpt turn")
    identities.add(identity)
    asked, answered = turns[0]["value"], turns[1]["value"]
    return unwrap(asked) if isinstance(asked, str) else asked, answered


def _speaker(turn: object) -> object:
    return turn["from"] if isinstance(turn, dict) and turn.keys() == _TURN_KEYS else None


def read_shard(shard: Shard, _: ColumnsSection) -> Iterator[Row | Rejected]:
    """The rows of a shard."""
    return read_rows(Path(shard.file))
