"""Regular expressions of users and rows, with a time limit.

Nested repetition such as `(a+)+` can take years on a text of 50 characters, and a row or a model decides on the text.
"""

from __future__ import annotations

import warnings
from re import _parser  # type: ignore[attr-defined]  # the parsed form of a pattern has no public name
from typing import Any

import regex

MATCH_SECONDS = 2.0
"""Maximum processor time of one pattern on one text."""


def pattern_fault(pattern: str) -> str | None:
    """Return why a text is no regular expression, or None if it is one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about sets that a later version may read in another way
            regex.compile(pattern)
    except (regex.error, OverflowError) as error:
        return str(error)
    except RecursionError:
        return "its parentheses are nested too deeply"
    return None


def has_nested_repetition(pattern: str) -> bool:
    """Whether a pattern, for `re`, repeats a part that has alternatives or is repeated itself, such as `(a+)+`.

    Only such parts can take exponential time.
    """
    return _varies(_parser.parse(pattern), is_repeated=False)


def _varies(tree: Any, is_repeated: bool) -> bool:
    for operation, argument in tree:
        name = str(operation)
        if name.endswith("_REPEAT"):
            _, most, part = argument
            if is_repeated or _varies(part, is_repeated=int(most) > 1):
                return True
        elif name == "BRANCH":
            if is_repeated or any(_varies(part, is_repeated) for part in argument[1]):
                return True
        elif name in ("SUBPATTERN", "ATOMIC_GROUP", "ASSERT", "ASSERT_NOT"):
            part = argument if name == "ATOMIC_GROUP" else argument[-1]
            if _varies(part, is_repeated):
                return True
        elif name == "GROUPREF_EXISTS":
            return True
    return False


def search(pattern: str, text: str, ignore_case: bool = False) -> Any:
    """Return the first match of a pattern in a text, or None.

    Raises:
        TimeoutError: it takes more than `MATCH_SECONDS`.
    """
    return regex.search(pattern, text, _flags(ignore_case), timeout=MATCH_SECONDS)


def fullmatch(pattern: str, text: str, ignore_case: bool = False) -> Any:
    """Return the match of a pattern with the whole text, or None.

    Raises:
        TimeoutError: it takes more than `MATCH_SECONDS`.
    """
    return regex.fullmatch(pattern, text, _flags(ignore_case), timeout=MATCH_SECONDS)


def _flags(ignore_case: bool) -> int:
    return regex.IGNORECASE if ignore_case else 0
