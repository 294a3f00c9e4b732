"""Whether a solution worked digit by digit holds, judged without the code that wrote it.

Every line must be true (blocks.py, root_check.py). What a sum, product or quotient starts from stands in the problem or
is stated by an earlier line, signs are the problem's, and the answer has the digits that the lines end with.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from fractions import Fraction
from itertools import zip_longest

from keeptune.grading.answers import ANSWER_MARKER
from keeptune.grading.number import grade
from keeptune.skills.arithmetic.check import is_false_statement
from keeptune.skills.arithmetic.digits.blocks import (
    Cell,
    Pass,
    Product,
    Quotient,
    digits,
    joined,
    pairs,
    point_of,
    result,
    retried,
)
from keeptune.skills.arithmetic.digits.numeral import far_names, names
from keeptune.skills.arithmetic.digits.root_check import Root

_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_SIGNS = re.compile(r"([-+]) ([-+]) ([-+])")
_POWER_SIGNS = re.compile(r"([-+]) ([0-9]+) ([-+])")
_TRIAL = re.compile(r"(?:([0-9]+(?:\.[0-9]*)?) )?([0-9]{3})/([0-9]{2})=([0-9]):([a-z].*)")
_VERDICT = re.compile(r",((?:[0-9]-[0-9]=)?(?:[0-9]{3},[0-9]{2}[<>]|-))$")
_PLACE = re.compile(r"(-?[0-9]+)\+(-?[0-9]+)(?::([-+=0-9]+),([-+=0-9]+):(-?[0-9]+[-+][0-9]+))?=(-?[0-9]+)([a-z.E])")
_DOUBLED = re.compile(r"([0-9]+)\+\1=[0-9]+,[0-9]+:.*")
_CORRECTED = re.compile(r"([0-9])([-+])([a-z].*)")
_RUNNING_PART = re.compile(r"([0-9]+):([0-9]+):([0-9]+)\+([0-9]+)=([0-9]+),([0-9]+)\+([0-9])=([0-9]+)")
_FIRST_SQUARE = re.compile(r"([0-9]{2})-([1-9])\*\2=\1-[0-9]{2}=([0-9]{2})")
_ROOT_SUM = re.compile(r"([0-9]{2}\.[0-9])\+0\.([0-9]+)=([0-9.]+)")
_SHORT_DIVISION = re.compile(r"(([0-9]+)-([0-9])\*([0-9]+)=\2-[0-9]+)=(?:([0-9]+),\4([<>])|-)")
_HUGE = re.compile(r"E[-+]?[0-9]{4}")
_HALVED = re.compile(r"([0-9]+)-([0-9])\*2=([01])")
_EARLIER = re.compile(r"([0-9]+)(-1|:[-*=,0-9]+)?:([0-9]+(?:,[0-9]+)+)")
_MONOMIAL = re.compile(r"([0-9]+)\*([0-9]+\.[0-9]+)\^([0-9]+)")
_REACHED = re.compile(r"([0-9]+(?:,[0-9]+)*):([0-9]+)\+([0-9]+)=([0-9]+)")
_RESTATED = re.compile(r"([0-9]+(?:\.[0-9]+)?)(?:E([-+][0-9]))?")

LONGEST_LINE = 1_000
"""Characters; a mean of ten numbers takes 300. What is longer is no number that Python reads."""


def find_error(solution: str, problem: str, truth: Fraction) -> str | None:
    """The first line that does not hold, or why the final answer is wrong; None when all is right."""
    *lines, last = solution.split("\n")
    if not last.startswith(f"{ANSWER_MARKER} "):
        return f"the last line {last!r} is not `{ANSWER_MARKER} answer`"
    reader = _Reader(problem)
    for line in lines:
        if not reader.holds(line):
            return f"the line {line!r} does not hold"
    if not grade(last, truth).correct:
        return f"the answer {last!r} is not {truth}"
    answer = last.removeprefix(f"{ANSWER_MARKER} ")
    if lines and not reader.ends_with(answer.lstrip("-")):
        return f"the answer {last!r} is not what the steps end with"
    return None


class _Reader:
    """Reads the lines of one solution in their order, and remembers what they stated."""

    def __init__(self, problem: str) -> None:
        self.is_equation = "x" in problem
        self.numbers = _NUMBER.findall(problem)
        self.signs = _signs(problem)
        self.first, self.last, self.known = self.numbers[0], self.numbers[-1], set(map(_stripped, self.numbers))
        self.result, self.decimals = "", ""
        self.root: Root | None = None
        self.exponents: list[str] = []  # from the one reached so far to the last one
        self.reached = 1
        self.count, self.rest, self.to_divide, self.retry = 0, 0, "", ""
        self.columns: Pass | None = None
        self.left = ""  # the first factor of a product, until the second one is listed
        self.left_point: int | None = None
        self.product: Product | None = None
        self.quotient: Quotient | None = None

    def holds(self, line: str) -> bool:
        """Whether a line is true after those before it."""
        if len(line) > LONGEST_LINE:
            return False
        if (found := pairs(line)) and found[0]["name"] == "a":
            return self._paired(found)
        if self.columns is not None and not self.columns.digits and line[:1] == self.columns.names[-1]:
            return self._settled(self.columns.line(line), self.columns)
        if self.columns is not None and self._may_be_listed(self.columns) and result(line):
            return self._settled(self.columns.listing(line), self.columns)
        if self.product is not None and line[:1].isalpha() and line[0] in self.product.right_names:
            holds = self.product.line(line)
            return holds if self.product.place else self._settled(holds, self.product)
        if self.product is not None and line == self.product.place:
            return self.product.place_repeated()
        if self.product is not None and line[:1].isdigit() and result(line.partition("=")[0]):
            return self._settled(self.product.listing(line), self.product)
        if self.root is not None and not self.root.is_complete and (match := _TRIAL.fullmatch(line)):
            return match[1] is None and self.root.trial(*match.groups()[1:])
        if self.root is not None and self.root.retry and line.startswith(self.root.retry):
            return self.root.tried_again(line)
        if self.retry and line.startswith(self.retry):
            match = _SHORT_DIVISION.fullmatch(line.removeprefix(self.retry))
            return match is not None and self._divided(match)
        if self.quotient is not None and (match := _TRIAL.fullmatch(line)):
            return self._tried(self.quotient, *match.groups(default=""))
        if self.quotient is not None and (match := _CORRECTED.fullmatch(line)):
            return self._settled(self.quotient.corrected(int(match[1]), match[2], match[3]), self.quotient)
        if found := digits(line):
            return self._listed(found, point_of(line))
        return self._stated(line)

    def ends_with(self, answer: str) -> bool:
        """Whether an answer has the digits that the lines end with, and a product's point."""
        if _stripped(answer.partition("E")[0]) != _stripped(self.result):
            return False
        places = self.product.places_left if self.product is not None else None
        return places is None or Decimal(answer).is_zero() or Decimal(answer).adjusted() == places - 1

    @staticmethod
    def _may_be_listed(columns: Pass) -> bool:
        """Whether the next line can be what columns came to; otherwise it is a factor."""
        return bool(columns.digits) and (not columns.is_listed or columns.is_below_zero)

    def _paired(self, found: list[Cell]) -> bool:
        """Two numbers under each other, for a sum or a quotient."""
        left, right = joined(found, "left"), joined(found, "right")
        if self.root is not None:
            self.quotient = Quotient.of(found)
            return self.root.is_complete and (int(left), int(right)) == (self.root.rest, 2 * int(self.root.digits))
        self.columns, self.quotient = Pass(joined(found, "name"), int(left), int(right)), Quotient.of(found)
        return self._are_known(left, right)

    def _listed(self, found: list[Cell], point: int | None) -> bool:
        """The digits of a factor, by whose names it is the first or the second. What is before it must be finished."""
        if self.columns is not None and not self.columns.digits:
            return False
        found_names, own = joined(found, "name"), joined(found, "digit")
        if found_names == names(len(own)) and (self.product is None or not self.product.place):
            self.left, self.left_point, self.product = own, point, None
        elif self.left and found_names == far_names(len(own)):
            self.product = Product(names(len(self.left)), self.left, found_names, own, points=(self.left_point, point))
            self.left = ""
        else:
            return False
        return self._are_known(own)

    def _tried(self, block: Quotient, so_far: str, first_three: str, first_two: str, digit: str, cells: str) -> bool:
        """What has been found so far, and the next digit of a quotient."""
        follows = _significant(so_far) == _significant(block.result)
        if not (verdict := _VERDICT.search(cells)):
            return False
        holds = block.line(first_three, first_two, int(digit), cells[: verdict.start()])
        return self._settled(follows and holds and verdict[1] == block.verdict(first_two), block)

    def _settled(self, holds: bool, block: Pass | Product | Quotient) -> bool:
        """What a block of lines has come to so far may be used later."""
        if not holds:
            return False
        self.result = block.result
        self.known.add(_stripped(block.result))
        return True

    def _stated(self, line: str) -> bool:
        if match := _SIGNS.fullmatch(line):
            same = (match[1] == match[2]) != self.is_equation
            return [match[1], match[2]] == self.signs and (match[3] == "+") == same
        if match := _POWER_SIGNS.fullmatch(line):
            negative = match[1] == "-" and int(match[2]) % 2 == 1
            self.result = "1" if int(match[2]) == 0 else self.first
            return [match[1]] == self.signs[:1] and match[2] == self.last and (match[3] == "-") == negative
        if match := _MONOMIAL.fullmatch(line):
            return [match[2], match[1], match[3]] == self.numbers
        if match := _EARLIER.fullmatch(line):
            return self._planned(match[1], match[2] or "", match[3].split(","))
        if match := _REACHED.fullmatch(line):
            return self._raised(match[1].split(","), *map(int, match.groups()[1:]))
        if match := _FIRST_SQUARE.fullmatch(line):
            return self._rooted(*match.groups()) and self._statement(line)
        if self.product is not None and (match := _PLACE.fullmatch(line)):
            left, right = int(match[1]), int(match[2])
            holds = left + right == int(match[6]) and _adds_digits(left, right, *match.groups()[2:5])
            return holds and self.product.place_stated(left, right, match[7])
        if self.root is not None and _DOUBLED.fullmatch(line):
            return self.root.compared(line)
        if self.root is not None and (match := _ROOT_SUM.fullmatch(line)):
            follows = _stripped(match[1]) == _stripped(self.root.digits) and match[2] == self.result
            self.result = match[3]
            return follows and self._statement(line)
        if ":" in line:
            return self._running(line)
        so_far, _, division = line.rpartition(" ")
        if self.count and not self.retry and (match := _SHORT_DIVISION.fullmatch(division)):
            return _significant(so_far) == _significant(self.result) and self._divided(match)
        if match := _RESTATED.fullmatch(line):
            return self._restated(match[1], int(match[2] or 0))
        return self._statement(line)

    def _rooted(self, pair: str, first: str, rest: str) -> bool:
        """The first digit of a root, from the first pair of the number's digits, and what its square leaves of them."""
        whole = self.to_divide.partition(".")[0]
        self.root = Root(first, int(rest + whole[2:]), self.decimals)
        return len(whole) == 4 and whole.startswith(pair)

    def _raised(self, exponents: list[str], before: int, added: int, total: int) -> bool:
        """The exponents still to come, and how the first of them is made of the one before: doubled, or one more."""
        follows = [str(before), *exponents] == self.exponents and before == self.reached
        self.exponents, self.reached = exponents, total
        return follows and str(total) == exponents[0] and total == before + added and added in (1, before)

    def _statement(self, line: str) -> bool:
        """A statement of two sides. Brackets and exponents of thousands stand in no line that is written here."""
        if "(" in line or _HUGE.search(line):
            return False
        try:
            wrong = is_false_statement(line)
        except (ValueError, ZeroDivisionError):
            return False
        self.known.add(_stripped(line.rpartition("=")[2].lstrip("-")))
        return not wrong

    def _divided(self, match: re.Match[str]) -> bool:
        """A digit of a sum over how many numbers there were: what was left before, and the sum's next digit.

        It counts where what is left fits; else the next line has to try the digit beside it.
        """
        if not self._statement(match[1]):
            return False
        number, digit, divisor = int(match[2]), match[3], int(match[4])
        left = number - int(digit) * divisor
        if divisor != self.count or number != 10 * self.rest + int(self.to_divide[:1] or 0):
            return False
        if self.retry and not self.retry.endswith(f"={digit}:"):
            return False
        fits = 0 <= left < self.count
        self.retry = "" if fits else retried(digit, -1 if left < 0 else 1)
        if (match[5], match[6]) != ((None, None) if left < 0 else (str(left), "<" if fits else ">")):
            return False
        if fits:
            self.result, self.rest, self.to_divide = f"{self.result}{digit}", left, self.to_divide[1:]
        return True

    def _planned(self, exponent: str, work: str, exponents: list[str]) -> bool:
        """An exponent, and with those after it the one before: one less than an odd one, or half of an even one, which
        is found digit by digit where it has more than one."""
        earlier, *later = exponents
        follows = later == (self.exponents or [self.last]) and exponent == later[0] != "1"
        self.exponents = exponents
        if int(exponent) % 2:
            return follows and work == "-1" and int(earlier) == int(exponent) - 1
        is_worked = self._halves_digits(exponent, work[1:]) if len(exponent) > 1 else not work
        return follows and is_worked and 2 * int(earlier) == int(exponent)

    @staticmethod
    def _halves_digits(number: str, steps: str) -> bool:
        """Half of each digit with what the one before it left."""
        rest = 0
        for digit, step in zip_longest(number, steps.split(",")):
            if digit is None or (match := _HALVED.fullmatch(step or "")) is None:
                return False
            halved, half, left = map(int, match.groups())
            if halved != 10 * rest + int(digit) or halved != 2 * half + left:
                return False
            rest = left
        return True

    def _restated(self, number: str, exponent: int) -> bool:
        """A number of the problem, moved by pairs of digits where it says so, or what the lines before it came to."""
        self.decimals = number.partition(".")[2]
        self.result, self.to_divide = "", number
        is_moved = not exponent or Fraction(number) * Fraction(100) ** exponent == Fraction(self.first)
        return is_moved and _stripped(number) in self.known

    def _running(self, line: str) -> bool:
        """Every number of a list, with the tens and the ones added up so far."""
        tens = ones = 0
        for part in line.split(" "):
            match = _RUNNING_PART.fullmatch(part)
            if match is None or [match[2]] != self.numbers[self.count : self.count + 1]:
                return False
            count, value, *stated = map(int, match.groups())
            ten, one = divmod(value, 10)
            if (count, *stated) != (self.count + 1, tens, ten, tens + ten, ones, one, ones + one):
                return False
            tens, ones, self.count = tens + ten, ones + one, count
        self.known.add(_stripped(str(10 * tens + ones)))
        return self.count == len(self.numbers)

    def _are_known(self, *digits: str) -> bool:
        """Whether these are the digits, or the first ones, of known numbers."""
        return all(any(number.startswith(own.strip("0")) for number in self.known) for own in digits)


def _adds_digits(left: int, right: int, ones: str | None, tens: str | None, joined_sum: str | None) -> bool:
    """Whether ones and tens of two numbers are added, and both sums joined, where one of them has tens:
    `7+5=12`, `40+0=40` and `40+12` of 47+5."""
    if abs(left) < 10 and abs(right) < 10:
        return ones is None
    last = [int(math.fmod(number, 10)) for number in (left, right)]
    first = [left - last[0], right - last[1]]
    expected = [f"{one}+{other}={one + other}" for one, other in (last, first)]
    return [ones, tens, joined_sum] == [*expected, f"{sum(first)}{sum(last):+d}"]


def _signs(problem: str) -> list[str]:
    """The signs of the first two numbers, the second's as a sum has it; a minus before a space takes away."""
    signs = ["-" if sign else "+" for sign in re.findall(r"(-?)[0-9]+(?:\.[0-9]+)?", problem)][:2]
    if re.search(r"[0-9] - ", problem):
        signs[1] = "+" if signs[1] == "-" else "-"
    return signs


def _significant(number: str) -> str:
    """The digits of a number from the first that is not 0."""
    return number.replace(".", "").lstrip("0")


def _stripped(number: str) -> str:
    """The digits of a number without point, and without zeros that only say where the point is."""
    return number.replace(".", "").strip("0")
