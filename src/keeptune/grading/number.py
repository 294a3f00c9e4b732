r"""Graded answers: what number a model gave, how it was found, and whether it is right.

Every comparison is exact: answers and truths are rationals, never floats, so 1E+34 is graded as carefully as 0.5
and a tolerance holds at its very edge. Nothing a model writes is evaluated, and every length is bounded.
Five policies are judged side by side, because on the same outputs graders differ by twenty points (20 % against
14.5 % for one base model at two tolerances); the headline is `2d4s`, two decimals or four significant digits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from math import floor, gcd
from typing import Literal

from keeptune.grading.answers import ANSWER_MARKER, Truth
from keeptune.grading.stated_answer import find_boxed, normalize_answer

Source = Literal["marker", "boxed", "last_number", "whole"]
"""Where an answer was found; "last_number", or "whole" where a text is wanted, for an output that does not state it."""

Policy = Literal["2d4s", "exact", "rounded_as_given", "relative_1pct", "isclose_1e-2"]

POLICIES: tuple[Policy, ...] = ("2d4s", "exact", "rounded_as_given", "relative_1pct", "isclose_1e-2")
HEADLINE: Policy = "2d4s"

LOWEST_TERMS = "fraction"
"""The kind of problems that ask for a fraction in its lowest terms."""

MAXIMUM_CHARACTERS = 400
MAXIMUM_EXPONENT = 400

# Full-width forms become ASCII, except the comma: in Chinese text it separates numbers and groups no digits.
# NFKC is not used, because it turns 10⁵ into 105 and 2½ into 21/2.
_FULL_WIDTH = "".join(chr(code) for code in range(0xFF01, 0xFF5F) if chr(code) != "，")
_HALF_WIDTH = "".join(chr(ord(character) - 0xFEE0) for character in _FULL_WIDTH)
_PLAIN = str.maketrans(_FULL_WIDTH + "\u3000\u2212\u2013￥", _HALF_WIDTH + " --¥")
_SUPERSCRIPT = re.compile("[⁰¹²³⁴-⁹⁺⁻]+")
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")

_DECIMAL = r"(?:[1-9][0-9]{0,2}(?:,[0-9]{3})++(?![0-9])|[0-9]++)(?:\.[0-9]++)?|(?<![0-9])\.[0-9]++"
_TIMES_TEN = r"\s*(?:[*×·xX]|\\times|\\cdot)\s*10\s*(?:\^|\*\*)\s*\{?\s*"
_EXPONENT = rf"(?:[eE](?=[+-]?[0-9])|{_TIMES_TEN})(?P<exponent>[+-]?[0-9]++)\s*\}}?"
_CURRENCY = r"[$¥€£]?+ ?+"

# A word of two letters or more is a unit, and so is a customary single letter; another letter is a variable.
_UNIT_WORD = r"(?:(?!pi\b|sqrt)[A-Za-z]{2,}+|[mgslhLtKCNVWJ](?![A-Za-z])|[\u4e00-\u9fff]++|[°℃%㎡])(?:\^?\{?[23]\}?)?+"
_MAGNITUDE = r"(?! ?(?:dozen|hundred|thousand|million|billion|trillion|[十百千万亿](?![\u4e00-\u9fff])))"
_UNIT = rf"{_MAGNITUDE}(?: ?+(?:[/·] ?+)?+{_UNIT_WORD})*+"

_WHOLE_TEXT = re.compile(
    rf"{_CURRENCY}(?P<sign>[+-]?) ?{_CURRENCY}"
    r"(?:(?:(?P<whole>[0-9]++) )?(?P<numerator>[0-9]++) ?/ ?(?P<denominator>[0-9]++)"
    rf"|(?P<mantissa>{_DECIMAL})(?:{_EXPONENT})?+|10\^\{{?(?P<power>[+-]?[0-9]++)\}}?){_UNIT}"
)
# Not the 2 of cm2 or x^2, and no minus between two terms.
_IN_TEXT = re.compile(
    r"(?:(?<![0-9A-Za-z)\]}])[+-][$¥€£]?)?(?<![0-9A-Za-z^])(?<!\^\{)"
    r"(?:(?:[0-9]++ ?)?\\[dt]?frac\{[+-]?[0-9]++\}\{[0-9]++\}|[0-9]++/[0-9]++(?!\.[0-9])"
    rf"|(?:{_DECIMAL})(?:{_EXPONENT})?+)"
)
_LATEX_RATIO = re.compile(r"\\frac\{([+-]?[0-9]+)\}\{([0-9]+)\}")
_LATEX_MATHS = re.compile(r"\\[()\[\]]")
_EQUATION = re.compile(r"^.*[=≈]|^[^0-9:]*:", re.DOTALL)
# What `str` writes for a Fraction and nothing more: Fraction itself would also read 1_000, and fail on 1/0.
_RATIONAL = re.compile(r"-?[0-9]{1,400}(?:/[1-9][0-9]{0,399})?")
_DECORATION = " \t*_`'\"$"


def parse_truth(stored: str) -> Truth:
    """The exact answer that `str` has written: a rational number, or a symbolic text."""
    return Fraction(stored) if _RATIONAL.fullmatch(stored) else stored


def parse_number(text: str) -> Fraction | None:
    r"""The exact number that a text is, or None where it is not one number.

    Read are signs, decimals, thousands commas, full-width digits, `1.2E+34`, `1.2×10^34`, `2/5`, `2 1/2`,
    `\frac{2}{5}`, what follows the last `=`, a currency sign before and a unit behind. A percent sign is a unit:
    `60%` is 60, since the contest's percent answers are bare numbers. A word that changes the number
    (`5 million`, `5 万`) is not a unit, and makes the text no number; `万元` is the contest's unit of sales.
    None too for more than 400 characters or an exponent beyond ±400: no output may cost memory or time.
    """
    number = _read(text)
    return None if number is None else number.value


def find_final_answer(output: str) -> tuple[str, Source] | None:
    r"""The answer that an output states and where it stood, or None if it holds none.

    It follows the last `####` on its line; else it is in the last `\boxed{}`; else the last number is taken, which
    is a guess and is recorded as one. `output` is the completion alone: with the prompt in front, an empty
    completion would be graded on a number of the question.
    """
    _, marker, after = output.rpartition(ANSWER_MARKER)
    marked = after.split("\n", 1)[0].strip() if marker else ""
    if marked:
        return marked, "marker"
    in_box = (find_boxed(output) or "").strip()
    if in_box:
        return in_box, "boxed"
    numbers = [match[0] for match in _IN_TEXT.finditer(_plain(output))]
    return (numbers[-1], "last_number") if numbers else None


def headline_tolerance(truth: Fraction) -> Fraction:
    """How far an answer may be from the truth under the headline policy."""
    return max(Fraction(1, 200), abs(truth) / 10_000)


@dataclass(frozen=True, slots=True)
class Graded:
    """One graded output: the answer as written, its value where it is a number, where it stood, the verdicts."""

    answer: str | None
    value: Fraction | None
    source: Source | None
    verdicts: dict[Policy, bool]

    @property
    def correct(self) -> bool:
        """The headline verdict."""
        return self.verdicts[HEADLINE]


def grade(output: str, truth: Truth, kind: str | None = None) -> Graded:
    """The verdicts on an output under every policy; an output without an answer is wrong under all of them, and so is
    4/10 where the problem is of the kind that asks for a fraction in its lowest terms.

    - `2d4s`: |answer − truth| ≤ max(0.005, |truth| / 10,000)
    - `exact`: equal values, so 2.50 is 5/2
    - `rounded_as_given`: the truth, rounded to the last place that the answer gives, is the answer. Halves may
      go away from zero or to the even digit. `0.51` is right for 20/39, `1.2E+34` for 1.17E+34. The answer needs
      one digit other than zero, or `0` would be right for 0.3; an answer written as a fraction must be exact.
    - `relative_1pct`: |answer − truth| ≤ |truth| / 100
    - `isclose_1e-2`: |answer − truth| ≤ 0.01 + |truth| / 100,000, as `numpy.isclose(answer, truth, atol=1e-2)`
      does; a team's judge found the organisers' baseline of 20 % this way

    A truth that is a text (a surd, a tuple) has one verdict under all names: the normalised texts are equal. No number
    in an output is such an answer, so all of an output that does not mark or box one is it.
    """
    found = _wanted_answer(output, truth)
    if found is None:
        return Graded(None, None, None, dict.fromkeys(POLICIES, False))
    answer, source = found
    number = _read(answer)
    value = None if number is None else number.value
    if isinstance(truth, str):
        same = len(answer) <= MAXIMUM_CHARACTERS and normalize_answer(answer) == truth
        return Graded(answer, value, source, dict.fromkeys(POLICIES, same))
    if number is None or (kind == LOWEST_TERMS and not number.is_reduced):
        return Graded(answer, value, source, dict.fromkeys(POLICIES, False))
    return Graded(answer, value, source, _verdicts(number, truth))


def _wanted_answer(output: str, truth: Truth) -> tuple[str, Source] | None:
    found = find_final_answer(output)
    if isinstance(truth, str) and (found is None or found[1] == "last_number"):
        return (output.strip(), "whole") if output.strip() else None
    return found


@dataclass(frozen=True, slots=True)
class _Number:
    """A number as written: its value, the worth of one unit in its last place (None for a fraction), and whether it is
    as short as it can be, which 4/10 is not."""

    value: Fraction
    last_place: Fraction | None
    is_reduced: bool = True


def _verdicts(number: _Number, truth: Fraction) -> dict[Policy, bool]:
    error, size = abs(number.value - truth), abs(truth)
    return {
        "2d4s": error <= headline_tolerance(truth),
        "exact": error == 0,
        "rounded_as_given": _is_rounded(number, truth),
        "relative_1pct": error <= size / 100,
        "isclose_1e-2": error <= Fraction(1, 100) + size / 100_000,
    }


def _is_rounded(number: _Number, truth: Fraction) -> bool:
    if number.last_place is None or number.value == 0:
        return number.value == truth
    steps = truth / number.last_place
    away_from_zero = floor(abs(steps) + Fraction(1, 2)) * (-1 if steps < 0 else 1)
    return number.value / number.last_place in (away_from_zero, round(steps))


def _plain(text: str) -> str:
    """The text with ASCII digits, signs and full stops, and `^` before a raised number."""
    raised = _SUPERSCRIPT.sub(lambda match: "^" + match[0].translate(_RAISED), text)
    return raised.translate(_PLAIN)


def _read(text: str) -> _Number | None:
    """The number that the text is, or None."""
    if len(text) > MAXIMUM_CHARACTERS:
        return None
    text = _EQUATION.sub("", _LATEX_MATHS.sub("", _plain(text)))
    if "\\" in text or "{" in text:
        text = _LATEX_RATIO.sub(r" \1/\2", normalize_answer(text))
    match = _WHOLE_TEXT.fullmatch(" ".join(text.split()).strip(_DECORATION).rstrip(".。!").strip(_DECORATION))
    if match is None:
        return None
    sign = -1 if match["sign"] == "-" else 1
    if match["denominator"] is not None:
        numerator, denominator = int(match["numerator"]), int(match["denominator"])
        if denominator == 0:
            return None
        value = sign * (int(match["whole"] or 0) + Fraction(numerator, denominator))
        return _Number(value, None, gcd(numerator, denominator) == 1)
    return _decimal(sign, match["mantissa"] or "1", match["exponent"] or match["power"] or "0")


def _decimal(sign: int, mantissa: str, exponent: str) -> _Number | None:
    """sign · mantissa · 10^exponent, or None where the exponent is beyond its bound."""
    power = int(exponent)
    if abs(power) > MAXIMUM_EXPONENT:
        return None
    whole, _, decimals = mantissa.replace(",", "").partition(".")
    last_place = Fraction(10) ** (power - len(decimals))
    return _Number(sign * int(whole + decimals) * last_place, last_place)
