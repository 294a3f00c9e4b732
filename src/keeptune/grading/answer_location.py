r"""Finds the answer of a text at a declared place. Stored solutions and outputs are read by the same code.

An answer counts only where the text ends. So a heading `#### Step 1` or a box in the middle of a solution is text.

| location | answer |
|---|---|
| `whole` | the whole text |
| `last line` | the last line that is not empty |
| `after 'MARKER'` | the rest of the last line after the last MARKER in it |
| `boxed` | the contents of all `\boxed{}` on the last line of the last paragraph that has one |
| `json` | the JSON value that ends the text, also in a code fence |
| `regex PATTERN` | the match of PATTERN that ends the text; its first group, if it has groups; none after 2 seconds |
| `last number` | after the last `####`, else in the last box, else the last number: for outputs of unknown form |
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from keeptune.grading.number import find_final_answer
from keeptune.grading.stated_answer import closing_brace
from keeptune.grading.timed_patterns import pattern_fault, search

Place = Literal["whole", "last line", "after", "boxed", "json", "regex", "last number"]

LOCATIONS = ("whole", "last line", "after 'MARKER'", "boxed", "json", "regex PATTERN", "last number")
"""The forms of a description of a location."""

MAXIMUM_CHARACTERS = 100_000
"""Longer texts have no answer. The limit bounds the time of the search for JSON and patterns."""

_BOX = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])\s*(?=\{)")
_QUOTED = re.compile(r"(['\"])(.*)\1", re.DOTALL)
_LAST_FENCE = re.compile(r"```[\w+-]*[ \t]*\n?((?:(?!```).)*?)\n?[ \t]*```\s*\Z", re.DOTALL)
_JSON_START = re.compile(r"[\[{]")
_MAXIMUM_STARTS = 1_000


@dataclass(frozen=True, slots=True)
class AnswerLocation:
    """Where a text states its answer. `argument` is the marker or the pattern."""

    place: Place
    argument: str = ""

    def __str__(self) -> str:
        if self.place == "after":
            return f"after '{self.argument}'"
        return f"regex {self.argument}" if self.place == "regex" else self.place

    def find(self, text: str) -> str | None:
        """Return the answer of a text without surrounding spaces, or None if the text states none."""
        if len(text) > MAXIMUM_CHARACTERS or not text.strip():
            return None
        answer = self._find(text.strip())
        return answer.strip() or None if answer is not None else None

    def _find(self, text: str) -> str | None:
        last_line = text.rpartition("\n")[2]
        match self.place:
            case "whole":
                return text
            case "last line":
                return last_line
            case "after":
                _, marker, answer = last_line.rpartition(self.argument)
                return answer if marker else None
            case "boxed":
                return _find_boxes(text)
            case "json":
                return _find_json(text)
            case "regex":
                return _find_pattern(self.argument, text)
            case "last number":
                answer_and_source = find_final_answer(text)
                return answer_and_source and answer_and_source[0]

    def write(self, answer: str) -> str:
        """Return the shortest text that states the answer at this location."""
        match self.place:
            case "after":
                return f"{self.argument} {answer}"
            case "boxed":
                return f"\\boxed{{{answer}}}"
            case _:
                return answer

    def ends_output(self, output: str) -> bool:
        """Whether the last complete line of an unfinished output states the answer, so that generation can stop."""
        if self.place != "after":
            return False
        last_line = output[: output.rfind("\n") + 1].rstrip().rpartition("\n")[2]
        return bool(last_line.rpartition(self.argument)[2].strip()) if self.argument in last_line else False


@lru_cache(maxsize=256)
def parse_location(description: str) -> AnswerLocation:
    """Return the location that a text such as `after '####'` describes.

    Raises:
        ValueError: the text describes none.
    """
    words = description.strip()
    if words in ("whole", "last line", "boxed", "json", "last number"):
        return AnswerLocation(words)  # type: ignore[arg-type]
    place, _, argument = words.partition(" ")
    argument = argument.strip()
    if quoted := _QUOTED.fullmatch(argument):
        argument = quoted[2]
    if place == "after" and argument and "\n" not in argument:
        return AnswerLocation("after", argument)
    if place == "regex" and argument:
        if fault := pattern_fault(argument):
            raise ValueError(f"must have a valid pattern after `regex` ({fault}; got {argument})")
        return AnswerLocation("regex", argument)
    note = "; quote the marker, because YAML takes ` #` as a comment" if place == "after" else ""
    raise ValueError(f"must be one of {', '.join(LOCATIONS)} (got {words[:40]}){note}")


def _find_boxes(text: str) -> str | None:
    r"""Return the contents of all boxes on the last line with a box, if that line is in the last paragraph."""
    paragraph = re.split(r"\n[ \t]*\n", text)[-1]
    boxes: list[tuple[int, str]] = []
    position = 0
    while match := _BOX.search(paragraph, position):
        end = closing_brace(paragraph, match.end())
        if end is None:
            return None
        boxes.append((paragraph.count("\n", 0, match.start()), paragraph[match.end() + 1 : end].strip()))
        position = end
    if not boxes:
        return None
    last_line = boxes[-1][0]
    return ", ".join(content for line, content in boxes if line == last_line)


def remove_fence(text: str) -> str:
    """Return the content of the code fence that ends a text, or the text itself if none does."""
    fence = _LAST_FENCE.search(text)
    return fence[1].strip() if fence else text


def _find_json(text: str) -> str | None:
    """Return the JSON object or list that ends the text, or the whole text if it is another JSON value."""
    candidate = remove_fence(text)
    decoder = json.JSONDecoder()
    for count, start in enumerate(_JSON_START.finditer(candidate)):
        if count == _MAXIMUM_STARTS:
            return None
        try:
            _, end = decoder.raw_decode(candidate, start.start())
        except (ValueError, RecursionError):
            continue
        if end == len(candidate):
            return candidate[start.start() :]
    try:
        json.loads(candidate)
    except (ValueError, RecursionError):
        return None
    return candidate


def _find_pattern(pattern: str, text: str) -> str | None:
    try:
        match = search(rf"(?:{pattern})\s*\Z", text)
    except TimeoutError:
        return None
    if match is None:
        return None
    return next((group for group in match.groups() if group is not None), None) if match.re.groups else str(match[0])
