r"""Grading of model outputs: extraction of the answer, its value, and verdicts under five policies.

All comparisons are exact. Answers and truths are rational numbers, never floats, so 1E+34 is graded as precisely as
0.5, and a tolerance includes its exact boundary. Model output is never evaluated as code, and all lengths are limited.
Five policies are recorded side by side, because graders differ by up to twenty points on the same outputs. The
headline policy is `2d4s`: two decimals or four significant digits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from math import floor, gcd
from typing import Literal

from keeptune.grading.answers import ANSWER_MARKER, Truth
from keeptune.grading.chinese import COMMON_HAN
from keeptune.grading.stated_answer import find_boxed, normalize_answer

Source = Literal["marker", "boxed", "last_number", "whole"]
"""Where an answer was found. Outputs without a stated answer have "last_number", or "whole" if the truth is a text."""

Policy = Literal["2d4s", "exact", "rounded_as_given", "relative_1pct", "isclose_1e-2"]

POLICIES: tuple[Policy, ...] = ("2d4s", "exact", "rounded_as_given", "relative_1pct", "isclose_1e-2")
HEADLINE: Policy = "2d4s"
"""The policy of the reported accuracy."""

LOWEST_TERMS = "fraction"
"""The kind whose answers must be fractions in lowest terms."""

MAXIMUM_CHARACTERS = 400
MAXIMUM_EXPONENT = 400

# Full-width forms become ASCII, except the comma, which separates numbers in Chinese text.
# NFKC is not used, because it turns 10⁵ into 105 and 2½ into 21/2.
HALF_WIDTH = {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F) if chr(code) != "，"}
_PLAIN = HALF_WIDTH | str.maketrans("\u3000\u2212\u2013￥", " --¥")
_SUPERSCRIPT = re.compile("[⁰¹²³⁴-⁹⁺⁻]+")
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")

_DECIMAL = r"(?:[1-9][0-9]{0,2}(?:,[0-9]{3})++(?![0-9])|[0-9]++)(?:\.[0-9]++)?|(?<![0-9])\.[0-9]++"
_TIMES_TEN = r"\s*(?:[*×·xX]|\\times|\\cdot)\s*10\s*(?:\^|\*\*)\s*\{?\s*"
_EXPONENT = rf"(?:[eE](?=[+-]?[0-9])|{_TIMES_TEN})(?P<exponent>[+-]?[0-9]++)\s*\}}?"
_CURRENCY = r"[$¥€£]?+ ?+"

# A word of two or more letters is a unit, and so is a common single letter. Any other letter is a variable.
_UNIT_WORD = (
    rf"(?:(?!pi\b|sqrt)[A-Za-z]{{2,}}+|[mgslhLtKCNVWJ](?![A-Za-z])|[{COMMON_HAN}]++|[°℃%㎡])(?:\^?\{{?[23]\}}?)?+"
)
_MAGNITUDE = rf"(?! ?(?:dozen|hundred|thousand|million|billion|trillion|[十百千万亿](?![{COMMON_HAN}])))"
_UNIT = rf"{_MAGNITUDE}(?: ?+(?:[/·] ?+)?+{_UNIT_WORD})*+"

_WHOLE_TEXT = re.compile(
    rf"{_CURRENCY}(?P<sign>[+-]?) ?{_CURRENCY}"
    r"(?:(?:(?P<whole>[0-9]++) )?(?P<numerator>[0-9]++) ?/ ?(?P<denominator>[0-9]++)"
    rf"|(?P<mantissa>{_DECIMAL})(?:{_EXPONENT})?+|10\^\{{?(?P<power>[+-]?[0-9]++)\}}?){_UNIT}"
)
# Excludes the 2 of cm2 or x^2, and a minus between two terms.
_IN_TEXT = re.compile(
    r"(?:(?<![0-9A-Za-z)\]}])[+-][$¥€£]?)?(?<![0-9A-Za-z^])(?<!\^\{)"
    r"(?:(?:[0-9]++ ?)?\\[dt]?frac\{[+-]?[0-9]++\}\{[0-9]++\}|[0-9]++/[0-9]++(?!\.[0-9])"
    rf"|(?:{_DECIMAL})(?:{_EXPONENT})?+)"
)
_LATEX_RATIO = re.compile(r"\\frac\{([+-]?[0-9]+)\}\{([0-9]+)\}")
_LATEX_MATHS = re.compile(r"\\[()\[\]]")
_EQUATION = re.compile(r"^.*[=≈]|^[^0-9:]*:", re.DOTALL)
# Exactly the output of `str` for a Fraction. Fraction itself would accept 1_000 and fail on 1/0.
_RATIONAL = re.compile(r"-?[0-9]{1,400}(?:/[1-9][0-9]{0,399})?")
_DECORATION = " \t*_`'\"$"


def parse_truth(stored: str) -> Truth:
    """Return the exact answer for its stored form `str(truth)`: a rational number, or a text."""
    return Fraction(stored) if _RATIONAL.fullmatch(stored) else stored


def parse_number(text: str) -> Fraction | None:
    r"""Return the exact value of a text, or None if the text is not a single number.

    Accepted are signs, decimals, thousands commas, full-width digits, `1.2E+34`, `1.2×10^34`, `2/5`, `2 1/2` and
    `\frac{2}{5}`. Text up to the last `=`, a currency sign and a unit are ignored. A percent sign is a unit, so `60%`
    is 60, because the contest's percent answers are plain numbers. A word that changes the value (`5 million`, `5 万`)
    is not a unit, and the result is None. `万元` is the contest's unit of sales. The result is also None for more than
    400 characters or an exponent beyond ±400, which limits memory and time.
    """
    number = _parse(text)
    return None if number is None else number.value


def find_final_answer(output: str) -> tuple[str, Source] | None:
    r"""Return the answer of an output and its source, or None if the output has no answer.

    The answer is the text after the last `####` on that line. Otherwise it is the content of the last `\boxed{}`.
    Otherwise it is the last number, which is a guess and recorded as such. `output` must not include the prompt,
    because an empty completion would then be graded on a number of the question.
    """
    _, marker, after = output.rpartition(ANSWER_MARKER)
    marked = after.split("\n", 1)[0].strip() if marker else ""
    if marked:
        return marked, "marker"
    in_box = (find_boxed(output) or "").strip()
    if in_box:
        return in_box, "boxed"
    numbers = [match[0] for match in _IN_TEXT.finditer(_to_ascii(output))]
    return (numbers[-1], "last_number") if numbers else None


def headline_tolerance(truth: Fraction) -> Fraction:
    """Return the largest allowed error under the headline policy: two decimals or four significant digits."""
    return max(Fraction(1, 200), abs(truth) / 10_000)


@dataclass(frozen=True, slots=True)
class Graded:
    """A graded output: the answer as written, its value if it is a number, its source, and a verdict per policy."""

    answer: str | None
    value: Fraction | None
    source: Source | None
    verdicts: dict[Policy, bool]

    @property
    def correct(self) -> bool:
        """The headline verdict."""
        return self.verdicts[HEADLINE]


def grade(output: str, truth: Truth, kind: str | None = None) -> Graded:
    """Return the verdicts on an output under all policies.

    An output without an answer is wrong under all of them. So is 4/10 for a problem of the kind `LOWEST_TERMS`.

    - `2d4s`: |answer − truth| ≤ max(0.005, |truth| / 10,000)
    - `exact`: equal values, so 2.50 is 5/2
    - `rounded_as_given`: the answer is the truth rounded to the last place of the answer. Ties may round away from
      zero or to even. `0.51` is right for 20/39, `1.2E+34` for 1.17E+34. The answer needs a nonzero digit, because
      `0` would otherwise be right for 0.3. An answer written as a fraction must be exact.
    - `relative_1pct`: |answer − truth| ≤ |truth| / 100
    - `isclose_1e-2`: |answer − truth| ≤ 0.01 + |truth| / 100,000, as in `numpy.isclose(answer, truth, atol=1e-2)`;
      with this policy a team reproduced the organizers' baseline of 20 %

    If the truth is a text (a root, a tuple), all policies have the same verdict: whether the normalized texts are
    equal. If such an output has no marked or boxed answer, the whole output is the answer.
    """
    final = _find_answer(output, truth)
    if final is None:
        return Graded(None, None, None, dict.fromkeys(POLICIES, False))
    answer, source = final
    number = _parse(answer)
    value = None if number is None else number.value
    if isinstance(truth, str):
        is_equal = len(answer) <= MAXIMUM_CHARACTERS and normalize_answer(answer) == truth
        return Graded(answer, value, source, dict.fromkeys(POLICIES, is_equal))
    if number is None or (kind == LOWEST_TERMS and not number.is_reduced):
        return Graded(answer, value, source, dict.fromkeys(POLICIES, False))
    return Graded(answer, value, source, _verdicts(number, truth))


def _find_answer(output: str, truth: Truth) -> tuple[str, Source] | None:
    final = find_final_answer(output)
    if isinstance(truth, str) and (final is None or final[1] == "last_number"):
        return (output.strip(), "whole") if output.strip() else None
    return final


@dataclass(frozen=True, slots=True)
class _Number:
    """A number as written.

    `last_place` is the value of one unit in the last place, or None for a fraction. `is_reduced` is false for fractions
    such as 4/10.
    """

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


def _to_ascii(text: str) -> str:
    """Convert full-width digits, signs and points to ASCII, and superscripts to `^` and digits."""
    raised = _SUPERSCRIPT.sub(lambda match: "^" + match[0].translate(_RAISED), text)
    return raised.translate(_PLAIN)


def _parse(text: str) -> _Number | None:
    """Return the number that the text is, or None."""
    if len(text) > MAXIMUM_CHARACTERS:
        return None
    text = _EQUATION.sub("", _LATEX_MATHS.sub("", _to_ascii(text)))
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
    return _make_decimal(sign, match["mantissa"] or "1", match["exponent"] or match["power"] or "0")


def _make_decimal(sign: int, mantissa: str, exponent: str) -> _Number | None:
    """Return sign · mantissa · 10^exponent, or None if the exponent exceeds its limit."""
    power = int(exponent)
    if abs(power) > MAXIMUM_EXPONENT:
        return None
    whole, _, decimals = mantissa.replace(",", "").partition(".")
    last_place = Fraction(10) ** (power - len(decimals))
    return _Number(sign * int(whole + decimals) * last_place, last_place)
