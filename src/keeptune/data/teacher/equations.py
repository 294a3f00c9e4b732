"""Whether every equation in a text of free form can be proven, with nothing left that merely looks right.

`steps.find_false_step` looks for what is surely wrong and lets pass what it cannot read, which is fair to rows that
people made. A model's text has to earn its place: an equation with a number in it that cannot be read is refused.
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

LONGEST_SIDE_CHARACTERS = 160
LARGEST_POWER = 128
_ROOTS = Context(prec=40)

_PLAIN = str.maketrans("＋－−–×·＊÷／＝（）［］．％０１２３４５６７８９", "+---***//=()[].%0123456789")
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
_BETWEEN = re.compile(r"[\n，。；：、！？!?;]+|=>|[,:.](?=\s|$)")
_EQUALS = re.compile(r"[=≈]")
_DIGIT = re.compile(r"[0-9]")

_UNKNOWN = re.compile(r"(?<=[-+*/^=()0-9√]) ?(?!E[-+][0-9])[a-zA-Z](?![A-Za-z])|(?<![0-9A-Za-z])[a-zA-Z](?= ?[-+*/^)])")
# A word that is no unit but a calculation: `half of 10 = 10` must not be read as 10 = 10.
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
_WORDS_BEHIND = re.compile(r"(?<=[0-9)%])[^-+*/^=()0-9√%]*$")
_NUMBER = re.compile(r"[-+]?[0-9]+(?:\.([0-9]+))?(?:E([-+][0-9]+))?(%?)")
_ROOT = re.compile(r"√(?:([0-9]+(?:\.[0-9]+)?)|\(([^()]*)\))")
_POWER = re.compile(r"(^|.)(?<![0-9.])([0-9]+(?:\.[0-9]+)?|\([^()]*\))\^\(?([0-9]{1,3})\)?(?![0-9.^(])")
_TWO_NUMBERS = re.compile(r"[0-9.)%] +[0-9.(√]")
_HUGE = re.compile(r"E[-+][0-9]{4}")


@dataclass(frozen=True, slots=True)
class Proof:
    """How many equations hold, and the first one that does not, or that cannot be read."""

    holding: int
    false: str | None = None
    unread: str | None = None


@dataclass(frozen=True, slots=True)
class _Side:
    """One side: its value, and the worth of one unit in its last place where it is a number and nothing more."""

    value: Fraction
    last_place: Fraction | None


def prove(text: str, problem: str, unknown: Fraction | None) -> Proof:
    """Whether all equations of a text hold.

    A side without digits, such as `area`, states nothing by itself. An equation of the problem itself needs no
    proof. A side with a letter, such as `3x + 6`, is judged with `unknown` in the letter's place.
    """
    given = _compact(plain(problem))
    holding = 0
    for clause in _BETWEEN.split(plain(text)):
        sides = [side.strip() for side in _EQUALS.split(clause)]
        for left, right in pairwise(side for side in sides if _DIGIT.search(side)):
            shown = f"{left} = {right}"
            if max(len(left), len(right)) > LONGEST_SIDE_CHARACTERS:
                return Proof(holding, unread=shown)
            if _stated(left, right, given):
                continue
            values = _read(left, unknown), _read(right, unknown)
            if values[0] is None or values[1] is None:
                return Proof(holding, unread=shown)
            if not _equal(values[0], values[1]):
                return Proof(holding, false=shown)
            holding += 1
    return Proof(holding)


def plain(text: str) -> str:
    """A text with one spelling for operators, digits, fractions, roots and powers, whatever the markup."""
    text = text.translate(_PLAIN)
    for pattern, replacement in _MARKUP:
        text = pattern.sub(replacement, text)
    return text


def value_of(expression: str) -> Fraction | None:
    """The exact value of plain numbers with + - * / ^ √ % and brackets, else None. Roots have 40 digits."""
    too_long = len(expression) > 2 * LONGEST_SIDE_CHARACTERS
    if too_long or _TWO_NUMBERS.search(expression) or _HUGE.search(expression):
        return None
    text = _compact(expression).removeprefix("+")
    text = re.sub(r"([0-9]+(?:\.[0-9]+)?)%", r"(\1/100)", text)
    text = re.sub(r"(?<=[0-9)])(?=[(√])|(?<=\))(?=[0-9])", "*", text)
    try:
        while "√" in text or "^" in text:
            reduced = _POWER.sub(_power, _ROOT.sub(_root, text, count=1), count=1)
            if reduced == text or len(reduced) > 100 * LONGEST_SIDE_CHARACTERS:
                return None
            text = reduced
        return evaluate(text)
    except (ValueError, ArithmeticError):
        return None


def _compact(text: str) -> str:
    return "".join(text.split())


def _stated(left: str, right: str, given: str) -> bool:
    """Whether the problem says so itself, such as `-81x + -45 = 0`."""
    equation = re.escape(_compact(f"{_WORDS_BEFORE.sub('', left)}={_WORDS_BEHIND.sub('', right)}"))
    return re.search(rf"(?<![0-9A-Za-z.*/^+-]){equation}(?![0-9A-Za-z.*/^])", given) is not None


def _read(side: str, unknown: Fraction | None) -> _Side | None:
    if _CALCULATION.search(side):
        return None
    side = _WORDS_BEFORE.sub("", side)
    if _UNKNOWN.search(side):
        if unknown is None or len({character for character in side if character.isalpha()}) > 1:
            return None
        value = value_of(re.sub(r"[a-zA-Z]", f"({unknown})", re.sub(r"(?<=[0-9)]) ?(?=[a-zA-Z])", "*", side)))
        return None if value is None else _Side(value, None)
    side = _WORDS_BEHIND.sub("", _UNIT.sub("", side)).strip()
    value = value_of(side)
    if value is None:
        return None
    number = _NUMBER.fullmatch(_compact(side))
    if number is None:
        return _Side(value, None)
    last = int(number[2] or 0) - len(number[1] or "") - (2 if number[3] else 0)
    return _Side(value, Fraction(10) ** last)


def _equal(left: _Side, right: _Side) -> bool:
    """Equal, or one side is the other correctly rounded, and not too coarsely: to two decimals or four digits.

    Of two calculations, one may hold a rounded number, as in `38 / 14 * 100 = 2.7143 * 100`: four digits are the same.
    """
    error, size = abs(left.value - right.value), abs(left.value)
    places = [side.last_place for side in (left, right) if side.last_place is not None]
    if not places:
        return error <= size / 10_000
    return error <= headline_tolerance(left.value) and (error == 0 or error <= max(places) / 2)


def _root(match: re.Match[str]) -> str:
    """A square root as a decimal number. errors: ValueError or ArithmeticError where there is none."""
    value = evaluate(match[1] or match[2])
    root = _ROOTS.sqrt(_ROOTS.divide(Decimal(value.numerator), Decimal(value.denominator)))
    return f"({Fraction(root)})"


def _power(match: re.Match[str]) -> str:
    """A power as a fraction. errors: ValueError where its sign is not clear, or it is too large."""
    before, base, exponent = match[1], match[2], int(match[3])
    # -2^2 is 4 to some and -4 to others.
    if before == "-" and match.start() == 0:
        raise ValueError("a power of a negative number needs brackets")
    if exponent > LARGEST_POWER:
        raise ValueError("the exponent is too large")
    return f"{before}({evaluate(base) ** exponent})"
