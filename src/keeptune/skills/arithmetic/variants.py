"""Problems of the data set in another spelling: `×`, `÷`, full-width digits, ASCII punctuation, other spacing.

The text of a recognized variant is replaced by that of the data set. So a variant is a duplicate of its problem, and
all problems of a kind have the same wording.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache

from keeptune.skills.arithmetic.kind import AMOUNT, UNSIGNED_AMOUNT
from keeptune.skills.arithmetic.kinds import KINDS

MAX_CHARACTERS = 400
"""Longer texts are no variants: the longest problem of the data set has about 60 characters."""

_SIGNS = str.maketrans({"×": "*", "✕": "*", "∙": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "—": "-", "∶": ":"})
_FINAL_MARKS = "?。.!"
_UNSIGNED = r"(?:0|[1-9][0-9]{0,8})(?:\.[0-9]{1,2})?"
_SUBTRACTED = re.compile(r"(?<=x)-(?=[0-9])")


def standard_text(problem: str) -> str | None:
    """Return the problem as the data set writes it, or None if it is no variant of a known kind."""
    if len(problem) > MAX_CHARACTERS:
        return None
    text = _squash(problem)
    for form in _forms():
        if match := form.pattern.fullmatch(text):
            return form.render(match.groups())
    return None


@dataclass(frozen=True, slots=True)
class _Form:
    """A kind's text: the constant parts, and between them numbers, which have two decimals where `amounts` says so."""

    constants: tuple[str, ...]
    amounts: tuple[bool, ...]
    pattern: re.Pattern[str]

    def render(self, numbers: tuple[str, ...]) -> str:
        """Return the text of the data set with these numbers."""
        parts = [self.constants[0]]
        for number, is_amount, constant in zip(numbers, self.amounts, self.constants[1:], strict=True):
            parts += [_with_two_decimals(number) if is_amount else number.replace(",", ", "), constant]
        return "".join(parts)


@cache
def _forms() -> tuple[_Form, ...]:
    """Return the form of every kind, derived from its pattern."""
    return tuple(_form(kind.problem_pattern.pattern) for kind in KINDS)


def _form(source: str) -> _Form:
    constants, numbers = _split(source)
    constants = [re.sub(r"\\(.)", r"\1", constant) for constant in constants]
    relaxed = [number.replace(AMOUNT, f"-?{_UNSIGNED}").replace(UNSIGNED_AMOUNT, _UNSIGNED) for number in numbers]
    squashed = [re.escape(_squash(constant, is_end=constant is constants[-1])) for constant in constants]
    pattern = squashed[0] + "".join(
        f"({number.replace(' ', '')}){after}" for number, after in zip(relaxed, squashed[1:], strict=True)
    )
    amounts = tuple(number in (AMOUNT, UNSIGNED_AMOUNT) for number in numbers)
    return _Form(tuple(constants), amounts, re.compile(pattern))


def _split(source: str) -> tuple[list[str], list[str]]:
    """Return the constant parts of a pattern and its groups, without their parentheses."""
    constants, groups, depth, start = [], [], 0, 0
    for position, character in enumerate(source):
        is_escaped = position > 0 and source[position - 1] == "\\"
        if character == "(" and not is_escaped:
            if depth == 0:
                constants.append(source[start:position])
                start = position + 1
            depth += 1
        elif character == ")" and not is_escaped:
            depth -= 1
            if depth == 0:
                groups.append(source[start:position])
                start = position + 1
    return [*constants, source[start:]], groups


def _squash(text: str, is_end: bool = True) -> str:
    """Return the text in half-width characters, without white space, and without punctuation at its end."""
    half_width = unicodedata.normalize("NFKC", text).translate(_SIGNS)
    compact = "".join(half_width.split())
    return _SUBTRACTED.sub("+-", compact.rstrip(_FINAL_MARKS) if is_end else compact)


def _with_two_decimals(number: str) -> str:
    whole, _, decimals = number.partition(".")
    return f"{whole}.{decimals:0<2}"
