"""Proves every equation in a free-form text, and reports equations that cannot be read.

The function `steps.false_step` reports equations that are certainly wrong and ignores those it cannot read, which suits
rows written by people. The texts of a teacher model must be fully verified. So this module also reports equations with
a number that cannot be read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from itertools import pairwise

from keeptune.grading.chinese import COMMON_HAN
from keeptune.grading.number import headline_tolerance
from keeptune.skills.arithmetic.expression import evaluate

MAX_SIDE_CHARACTERS = 160
MAX_EXPONENT = 128
_ROOTS = Context(prec=40)

_ASCII_FORMS = str.maketrans("＋－−–×·＊÷／＝（）［］．％０１２３４５６７８９", "+---***//=()[].%0123456789")
_MARKUP = (
    (re.compile(r"^[ \t]*(?:[-*•]|[0-9]{1,2}[.)]|#+)[ \t]+", re.MULTILINE), ""),
    (re.compile(r"\\(?:left|right|displaystyle|quad|[,;!()\[\]])|\$|[¥￥€£]|`"), ""),
    (re.compile(r"\*\*([^*\n]+)\*\*"), r"\1"),
    (re.compile(r"\*\*"), "^"),
    (re.compile(r"\\(?:times|cdot)(?![a-z])"), "*"),
    (re.compile(r"\\div(?![a-z])"), "/"),
    (re.compile(r"\\(?:approx|simeq)(?![a-z])|≃|~="), "≈"),
    (re.compile(r"\\?%"), "%"),
    (re.compile(r"\\(?:text|mathrm)\{[^{}]*\}"), ""),
    (re.compile(r"(?:\\sqrt|sqrt)[({]([^(){}]*)[)}]"), r"√(\1)"),
    (re.compile(r"\^\{([^{}]*)\}"), r"^\1"),
    (re.compile(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}"), r"((\1)/(\2))"),
    (re.compile(r"\\boxed\{([^{}]*)\}"), r"\1"),
    (re.compile("²"), "^2"),
    (re.compile("³"), "^3"),
    (re.compile(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))"), ""),
    (re.compile(r"(?<=[0-9)])\s*[xX]\s*(?=[0-9(])"), "*"),
    (re.compile(r"(?<![0-9])\.(?=[0-9])"), "0."),
    (re.compile(r"\n[ \t]*(?=[=≈])"), " "),
)
_CLAUSE_END = re.compile(r"[\n，。；：、！？!?;]+|=>|[,:.](?=\s|$)")
_EQUALS = re.compile(r"[=≈]")
_DIGIT = re.compile(r"[0-9]")

_UNKNOWN = re.compile(r"(?<=[-+*/^=()0-9√]) ?(?!E[-+][0-9])[a-zA-Z](?![A-Za-z])|(?<![0-9A-Za-z])[a-zA-Z](?= ?[-+*/^)])")
# Words that denote a calculation, not a unit: `half of 10 = 10` must not be read as 10 = 10.
_CALCULATION = re.compile(
    r"\b(?:half|double|twice|triple|times|minus|negative|plus|squared|square (?:root|of)|cubed?|percent"
    r"|(?:third|quarter|fourth|fifth|sixth|seventh|eighth|ninth|tenth|hundredth)s?|dozen|hundred|thousand|million|billion)\b|[负加减乘除倍半根]|平方(?![千分厘毫公]?[米里])|立方(?![千分厘毫]?米)",
    re.IGNORECASE,
)
_UNIT = re.compile(
    r"(?<=[0-9)%])\s*(?:[A-Za-z]{2,}(?:[ -][A-Za-z]{2,})*|"
    + rf"[{COMMON_HAN}]+)(?:/(?:[A-Za-z]{{2,}}|[{COMMON_HAN}]+))?"
)
_WORDS_BEFORE = re.compile(r"^(?:[A-Za-z]{2,}(?:['’][a-z]+)?|[IAa](?= [A-Za-z]{2})|[^-+*/^=()0-9A-Za-z√.])*")
_WORDS_AFTER = re.compile(r"(?<=[0-9)%])[^-+*/^=()0-9√%]*$")
_NUMBER = re.compile(r"[-+]?[0-9]+(?:\.([0-9]+))?(?:E([-+][0-9]+))?(%?)")
_ROOT = re.compile(r"√(?:([0-9]+(?:\.[0-9]+)?)|\(([^()]*)\))")
_POWER = re.compile(r"(^|.)(?<![0-9.])([0-9]+(?:\.[0-9]+)?|\([^()]*\))\^\(?([0-9]{1,3})\)?(?![0-9.^(])")
_TWO_NUMBERS = re.compile(r"[0-9.)%] +[0-9.(√]")
_HUGE = re.compile(r"E[-+][0-9]{4}")


@dataclass(frozen=True, slots=True)
class Proof:
    """The number of equations that hold before the first one that does not, or that cannot be read."""

    proven_count: int
    false_equation: str | None = None
    unreadable_equation: str | None = None


@dataclass(frozen=True, slots=True)
class _Side:
    """The value of one side of an equation.

    If the side is a single number, `last_place` is the value of one unit in its last decimal place.
    """

    value: Fraction
    last_place: Fraction | None


def prove(text: str, problem: str, unknown: Fraction | None) -> Proof:
    """Check all equations in a text.

    Sides without digits, such as `area`, are skipped. Equations of the problem itself need no proof. In a side with a
    letter, such as `3x + 6`, the letter has the value `unknown`.
    """
    problem = _compact(normalize_markup(problem))
    proven_count = 0
    for clause in _CLAUSE_END.split(normalize_markup(text)):
        sides = [side.strip() for side in _EQUALS.split(clause)]
        for left, right in pairwise(side for side in sides if _DIGIT.search(side)):
            equation = f"{left} = {right}"
            if max(len(left), len(right)) > MAX_SIDE_CHARACTERS:
                return Proof(proven_count, unreadable_equation=equation)
            if _is_in_problem(left, right, problem):
                continue
            values = _parse_side(left, unknown), _parse_side(right, unknown)
            if values[0] is None or values[1] is None:
                return Proof(proven_count, unreadable_equation=equation)
            if not _are_equal(values[0], values[1]):
                return Proof(proven_count, false_equation=equation)
            proven_count += 1
    return Proof(proven_count)


def normalize_markup(text: str) -> str:
    """Return the text with one notation for operators, digits, fractions, roots and powers, without markup."""
    text = text.translate(_ASCII_FORMS)
    for pattern, replacement in _MARKUP:
        text = pattern.sub(replacement, text)
    return text


def evaluate_expression(expression: str) -> Fraction | None:
    """Return the exact value of numbers with + - * / ^ √ % and brackets, or None. Roots have 40 digits."""
    is_too_long = len(expression) > 2 * MAX_SIDE_CHARACTERS
    if is_too_long or _TWO_NUMBERS.search(expression) or _HUGE.search(expression):
        return None
    text = _compact(expression).removeprefix("+")
    text = re.sub(r"([0-9]+(?:\.[0-9]+)?)%", r"(\1/100)", text)
    text = re.sub(r"(?<=[0-9)])(?=[(√])|(?<=\))(?=[0-9])", "*", text)
    try:
        while "√" in text or "^" in text:
            reduced = _POWER.sub(_power, _ROOT.sub(_root, text, count=1), count=1)
            if reduced == text or len(reduced) > 100 * MAX_SIDE_CHARACTERS:
                return None
            text = reduced
        return evaluate(text)
    except (ValueError, ArithmeticError):
        return None


def _compact(text: str) -> str:
    return "".join(text.split())


def _is_in_problem(left: str, right: str, problem: str) -> bool:
    """Return whether the compacted problem contains the equation, such as `-81x + -45 = 0`."""
    equation = re.escape(_compact(f"{_WORDS_BEFORE.sub('', left)}={_WORDS_AFTER.sub('', right)}"))
    return re.search(rf"(?<![0-9A-Za-z.*/^+-]){equation}(?![0-9A-Za-z.*/^])", problem) is not None


def _parse_side(side: str, unknown: Fraction | None) -> _Side | None:
    if _CALCULATION.search(side):
        return None
    side = _WORDS_BEFORE.sub("", side)
    if _UNKNOWN.search(side):
        if unknown is None or len({character for character in side if character.isalpha()}) > 1:
            return None
        value = evaluate_expression(
            re.sub(r"[a-zA-Z]", f"({unknown})", re.sub(r"(?<=[0-9)]) ?(?=[a-zA-Z])", "*", side))
        )
        return None if value is None else _Side(value, None)
    side = _WORDS_AFTER.sub("", _UNIT.sub("", side)).strip()
    value = evaluate_expression(side)
    if value is None:
        return None
    number = _NUMBER.fullmatch(_compact(side))
    if number is None:
        return _Side(value, None)
    last = int(number[2] or 0) - len(number[1] or "") - (2 if number[3] else 0)
    return _Side(value, Fraction(10) ** last)


def _are_equal(left: _Side, right: _Side) -> bool:
    """Return whether the sides are equal, or one is the other correctly rounded to two decimals or four digits.

    If both sides are calculations, one may contain a rounded number, as in `38 / 14 * 100 = 2.7143 * 100`. Then four
    digits must be the same.
    """
    error, magnitude = abs(left.value - right.value), abs(left.value)
    last_places = [side.last_place for side in (left, right) if side.last_place is not None]
    if not last_places:
        return error <= magnitude / 10_000
    return error <= headline_tolerance(magnitude) and (error == 0 or error <= max(last_places) / 2)


def _root(match: re.Match[str]) -> str:
    """Return a square root as a fraction.

    Raises:
        ValueError, ArithmeticError: the root does not exist.
    """
    value = evaluate(match[1] or match[2])
    root = _ROOTS.sqrt(_ROOTS.divide(Decimal(value.numerator), Decimal(value.denominator)))
    return f"({Fraction(root)})"


def _power(match: re.Match[str]) -> str:
    """Return a power as a fraction.

    Raises:
        ValueError: its sign is ambiguous, or the exponent is too large.
    """
    before, base, exponent = match[1], match[2], int(match[3])
    # Conventions differ: -2^2 can mean 4 or -4.
    if before == "-" and match.start() == 0:
        raise ValueError("a power of a negative number needs brackets")
    if exponent > MAX_EXPONENT:
        raise ValueError("the exponent is too large")
    return f"{before}({evaluate(base) ** exponent})"
