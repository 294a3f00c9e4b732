r"""Stated answers of free-text problems: boxed (MATH) or after `####` (GSM8K).

Such an answer cannot be computed from the problem, so the stated answer is the truth. The last number of a solution is
no substitute: in a third of the contest's English rows it differs from the answer.
Formats: Hendrycks et al. 2021, "Measuring Mathematical Problem Solving With the MATH Dataset"; Cobbe et al. 2021,
"Training Verifiers to Solve Math Word Problems".
"""

from __future__ import annotations

import re
from fractions import Fraction

from keeptune.grading.answers import ANSWER_MARKER, Truth

_BOX = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])\s*")
_UNBRACED = re.compile(r"[^\s$]+")
_MARKED = re.compile(rf"^{ANSWER_MARKER}[ \t]*(\S.*)$", re.MULTILINE)

_THOUSANDS_BREAK = re.compile(r"(?<=[0-9])(?:\\,|\{,\})(?=[0-9]{3}(?![0-9]))")
_MARKUP = re.compile(r"\\(?:left|right|displaystyle)(?![a-zA-Z])|(?<!\\)\\!|\\?\$")
_SPACE = re.compile(r"(?<!\\)\\[,;: ]|~|\s+")
_TEXT = r"\\(?:text|textrm|textbf|textit|mbox|mathrm|mathbf)"
# A unit is dropped. A word that changes the value ("5 million") is not.
_MAGNITUDE = r"(?!\s*(?:dozen|hundred|thousand|million|billion|trillion))"
_UNIT = re.compile(rf"(?<=[^\s/])(?:[\s/]*{_TEXT}\{{{_MAGNITUDE}[^{{}}]*\}}(?:\^(?:[0-9]|\{{[0-9]\}}))?)+$")
_WRAPPED = re.compile(rf"{_TEXT}\{{([^{{}}]*)\}}")
_DEGREES_OR_PERCENT = re.compile(r" ?(?:\^ ?(?:\\circ|\{ ?\\circ ?\})|°|\\?%)")
_NAME = re.compile(r"^[a-zA-Z] ?=(?=[^=]*$)")
_SIZED_FRACTION = re.compile(r"\\[dtc]frac(?![a-zA-Z])")
_TOKEN = r"([0-9a-zA-Z]|\\pi(?![a-zA-Z]))"
_GROUP = r"\{(?:[^{}]|\{[^{}]*\})*\}"
_BARE_ROOT = re.compile(rf"\\sqrt ?{_TOKEN}")
_BARE_NUMERATOR = re.compile(rf"\\frac ?{_TOKEN}")
_BARE_DENOMINATOR = re.compile(rf"(\\frac ?{_GROUP}) ?{_TOKEN}")
_SHORT_SCRIPT = re.compile(r"([_^])\{([0-9a-zA-Z])\}")
_GROUPED_NUMBER = re.compile(r"[+-]? ?[1-9][0-9]{0,2}(?:,[0-9]{3})+(?:\.[0-9]+)?")
_NEEDLESS_SPACE = re.compile(r"(?<![0-9]) | (?![0-9])")

# No number of an answer is longer. The limit guards against hostile rows with a million digits.
_DIGITS = r"[0-9]{1,64}"
_DECIMAL = re.compile(rf"[+-]?(?:{_DIGITS}(?:\.[0-9]{{0,64}})?|\.{_DIGITS})")
_RATIO = re.compile(rf"([+-]?{_DIGITS})/({_DIGITS})")
_LATEX_RATIO = re.compile(rf"([+-]?)\\frac\{{([+-]?{_DIGITS})\}}\{{([+-]?{_DIGITS})\}}")
_MIXED = re.compile(rf"([+-]?)({_DIGITS})\\frac\{{({_DIGITS})\}}\{{({_DIGITS})\}}")


def parse_stated_truth(solution: str) -> Truth | None:
    r"""Return the stated answer of a solution: a number if possible, otherwise a normalized text.

    The answer is the last `\boxed{...}`, or the last line `#### ...` if nothing is boxed, or None without either.
    """
    answer = find_boxed(solution)
    if answer is None:
        answer = find_marked(solution)
    if answer is None:
        return None
    text = normalize_answer(answer)
    value = parse_normalized_number(text)
    return value if value is not None else text or None


def format_answer_line(solution: str) -> str:
    """Return the line `#### answer` with the answer as the solution spells it."""
    answer = find_boxed(solution) or find_marked(solution) or solution
    return f"{ANSWER_MARKER} {' '.join(answer.split())}"


def find_boxed(solution: str) -> str | None:
    r"""Return the content of the last `\boxed` or `\fbox`; None if there is none or its braces are not closed."""
    boxes = list(_BOX.finditer(solution))
    if not boxes:
        return None
    start = boxes[-1].end()
    if not solution.startswith("{", start):
        unbraced = _UNBRACED.match(solution, start)
        return None if unbraced is None else unbraced[0].rstrip(".,;")
    end = closing_brace(solution, start)
    return None if end is None else solution[start + 1 : end]


def closing_brace(text: str, start: int) -> int | None:
    """Return the position of the brace that closes the one at `start`, or None."""
    depth = 0
    for brace in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, start):
        if brace[0] == "{":
            depth += 1
        elif brace[0] == "}":
            depth -= 1
            if depth == 0:
                return brace.start()
    return None


def find_marked(solution: str) -> str | None:
    """Return the text after `####` on the last line that begins with it, or None."""
    answers: list[str] = _MARKED.findall(solution)
    return answers[-1].rstrip() if answers else None


def normalize_answer(answer: str) -> str:
    r"""Normalize an answer to one spelling per LaTeX construct: `\dfrac12` becomes `\frac{1}{2}`.

    This removes sizes, spaces, dollar signs, degrees, percent signs, a trailing unit, the name in `x = 5`, the commas
    within a large number, and the full stop. The result is for comparison, not for display.
    """
    answer = _THOUSANDS_BREAK.sub(",", answer)
    answer = _SPACE.sub(" ", _MARKUP.sub("", answer))
    answer = " ".join(answer.split()).rstrip(". ")
    answer = _WRAPPED.sub(r"\1", _UNIT.sub("", answer)).strip()
    answer = _NAME.sub("", _DEGREES_OR_PERCENT.sub("", answer))
    answer = _BARE_ROOT.sub(r"\\sqrt{\1}", _SIZED_FRACTION.sub(r"\\frac", answer))
    answer = _BARE_DENOMINATOR.sub(r"\1{\2}", _BARE_NUMERATOR.sub(r"\\frac{\1}", answer))
    answer = _SHORT_SCRIPT.sub(r"\1\2", answer).strip()
    if _GROUPED_NUMBER.fullmatch(answer):
        answer = answer.replace(",", "")
    # A space between two digits separates two numbers, so it stays.
    return _NEEDLESS_SPACE.sub("", " ".join(answer.split()))


def parse_normalized_number(text: str) -> Fraction | None:
    r"""Return the value of a normalized answer, or None: `-3`, `2.50`, `3/4`, `\frac{-3}{4}`, `2\frac{1}{2}`."""
    if _DECIMAL.fullmatch(text):
        return Fraction(text)
    sign, whole, numerator, denominator = "", "0", "", "0"
    if match := _RATIO.fullmatch(text):
        numerator, denominator = match.groups()
    elif match := _LATEX_RATIO.fullmatch(text):
        sign, numerator, denominator = match.groups()
    elif match := _MIXED.fullmatch(text):
        sign, whole, numerator, denominator = match.groups()
    if int(denominator) == 0:
        return None
    value = int(whole) + Fraction(int(numerator), int(denominator))
    return -value if sign == "-" else value
