"""Verification of digit-by-digit solutions, independent of the code that rendered them.

Every line must be true (blocks.py, root_check.py). The operands of a sum, product or quotient must be in the problem or
in an earlier line. The signs must be those of the problem, and the answer must have the digits of the last result.
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
    ColumnPass,
    Product,
    Quotient,
    find_point,
    join_cells,
    parse_digits,
    parse_pairs,
    parse_result,
    retry_prefix,
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

MAX_LINE_CHARACTERS = 1_000
"""Limit of a line in characters; a mean of ten numbers takes 300. Python rejects longer integers."""


def find_error(solution: str, problem: str, truth: Fraction) -> str | None:
    """Return the first wrong line or why the final answer is wrong; None if the solution is right."""
    *lines, last = solution.split("\n")
    if not last.startswith(f"{ANSWER_MARKER} "):
        return f"last line {last!r}: expected `{ANSWER_MARKER} answer`"
    checker = _LineChecker(problem)
    for line in lines:
        if not checker.is_right(line):
            return f"line {line!r}: not true after the lines before it"
    if not grade(last, truth).correct:
        return f"answer {last!r}: expected {truth}"
    answer = last.removeprefix(f"{ANSWER_MARKER} ")
    if lines and not checker.ends_with(answer.lstrip("-")):
        return f"answer {last!r}: differs from the result of the steps"
    return None


class _LineChecker:
    """Checks the lines of one solution in order, and stores their results."""

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
        self.columns: ColumnPass | None = None
        self.left = ""  # the first factor of a product, until the second one is listed
        self.left_point: int | None = None
        self.product: Product | None = None
        self.quotient: Quotient | None = None

    def is_right(self, line: str) -> bool:
        """Whether a line is right after the lines before it."""
        if len(line) > MAX_LINE_CHARACTERS:
            return False
        if (cells := parse_pairs(line)) and cells[0]["name"] == "a":
            return self._start_pair(cells)
        if self.columns is not None and not self.columns.digits and line[:1] == self.columns.names[-1]:
            return self._store_result(self.columns.line(line), self.columns)
        if self.columns is not None and self._expects_listing(self.columns) and parse_result(line):
            return self._store_result(self.columns.listing(line), self.columns)
        if self.product is not None and line[:1].isalpha() and line[0] in self.product.right_names:
            is_right = self.product.line(line)
            return is_right if self.product.place else self._store_result(is_right, self.product)
        if self.product is not None and line == self.product.place:
            return self.product.repeat_position()
        if self.product is not None and line[:1].isdigit() and parse_result(line.partition("=")[0]):
            return self._store_result(self.product.listing(line), self.product)
        if self.root is not None and not self.root.is_complete and (match := _TRIAL.fullmatch(line)):
            return match[1] is None and self.root.trial(*match.groups()[1:])
        if self.root is not None and self.root.retry and line.startswith(self.root.retry):
            return self.root.repeat_trial(line)
        if self.retry and line.startswith(self.retry):
            match = _SHORT_DIVISION.fullmatch(line.removeprefix(self.retry))
            return match is not None and self._check_short_division(match)
        if self.quotient is not None and (match := _TRIAL.fullmatch(line)):
            return self._check_trial(self.quotient, *match.groups(default=""))
        if self.quotient is not None and (match := _CORRECTED.fullmatch(line)):
            return self._store_result(self.quotient.correct(int(match[1]), match[2], match[3]), self.quotient)
        if cells := parse_digits(line):
            return self._start_factor(cells, find_point(line))
        return self._check_statement(line)

    def ends_with(self, answer: str) -> bool:
        """Whether an answer has the digits of the last result and, for a product, its point."""
        if _stripped(answer.partition("E")[0]) != _stripped(self.result):
            return False
        places = self.product.places_left if self.product is not None else None
        return places is None or Decimal(answer).is_zero() or Decimal(answer).adjusted() == places - 1

    @staticmethod
    def _expects_listing(columns: ColumnPass) -> bool:
        """Whether the next line can be the listing of a column result; otherwise it is a factor."""
        return bool(columns.digits) and (not columns.is_listed or columns.is_negative)

    def _start_pair(self, cells: list[Cell]) -> bool:
        """Start a sum or a quotient with its pair listing."""
        left, right = join_cells(cells, "left"), join_cells(cells, "right")
        if self.root is not None:
            self.quotient = Quotient.from_cells(cells)
            return self.root.is_complete and (int(left), int(right)) == (self.root.rest, 2 * int(self.root.digits))
        self.columns, self.quotient = (
            ColumnPass(join_cells(cells, "name"), int(left), int(right)),
            Quotient.from_cells(cells),
        )
        return self._are_known(left, right)

    def _start_factor(self, cells: list[Cell], point: int | None) -> bool:
        """Start the first or the second factor, depending on the names in its listing. No column pass may be open."""
        if self.columns is not None and not self.columns.digits:
            return False
        cell_names, digits = join_cells(cells, "name"), join_cells(cells, "digit")
        if cell_names == names(len(digits)) and (self.product is None or not self.product.place):
            self.left, self.left_point, self.product = digits, point, None
        elif self.left and cell_names == far_names(len(digits)):
            self.product = Product(
                names(len(self.left)), self.left, cell_names, digits, points=(self.left_point, point)
            )
            self.left = ""
        else:
            return False
        return self._are_known(digits)

    def _check_trial(
        self, block: Quotient, so_far: str, first_three: str, first_two: str, digit: str, cells: str
    ) -> bool:
        """Check the digits so far and the next digit of a quotient."""
        follows = _significant(so_far) == _significant(block.result)
        if not (verdict := _VERDICT.search(cells)):
            return False
        is_right = block.line(first_three, first_two, int(digit), cells[: verdict.start()])
        return self._store_result(follows and is_right and verdict[1] == block.verdict(first_two), block)

    def _store_result(self, is_right: bool, block: ColumnPass | Product | Quotient) -> bool:
        """Store the result of a block of lines, so that later lines may use it."""
        if not is_right:
            return False
        self.result = block.result
        self.known.add(_stripped(block.result))
        return True

    def _check_statement(self, line: str) -> bool:
        if match := _SIGNS.fullmatch(line):
            is_same_sign = (match[1] == match[2]) != self.is_equation
            return [match[1], match[2]] == self.signs and (match[3] == "+") == is_same_sign
        if match := _POWER_SIGNS.fullmatch(line):
            negative = match[1] == "-" and int(match[2]) % 2 == 1
            self.result = "1" if int(match[2]) == 0 else self.first
            return [match[1]] == self.signs[:1] and match[2] == self.last and (match[3] == "-") == negative
        if match := _MONOMIAL.fullmatch(line):
            return [match[2], match[1], match[3]] == self.numbers
        if match := _EARLIER.fullmatch(line):
            return self._check_exponent_plan(match[1], match[2] or "", match[3].split(","))
        if match := _REACHED.fullmatch(line):
            return self._check_exponent_step(match[1].split(","), *map(int, match.groups()[1:]))
        if match := _FIRST_SQUARE.fullmatch(line):
            return self._start_root(*match.groups()) and self._is_true_equation(line)
        if self.product is not None and (match := _PLACE.fullmatch(line)):
            left, right = int(match[1]), int(match[2])
            is_right = left + right == int(match[6]) and _adds_digits(left, right, *match.groups()[2:5])
            return is_right and self.product.state_position(left, right, match[7])
        if self.root is not None and _DOUBLED.fullmatch(line):
            return self.root.compare(line)
        if self.root is not None and (match := _ROOT_SUM.fullmatch(line)):
            follows = _stripped(match[1]) == _stripped(self.root.digits) and match[2] == self.result
            self.result = match[3]
            return follows and self._is_true_equation(line)
        if ":" in line:
            return self._check_running_sum(line)
        so_far, _, division = line.rpartition(" ")
        if self.count and not self.retry and (match := _SHORT_DIVISION.fullmatch(division)):
            return _significant(so_far) == _significant(self.result) and self._check_short_division(match)
        if match := _RESTATED.fullmatch(line):
            return self._check_restated_number(match[1], int(match[2] or 0))
        return self._is_true_equation(line)

    def _start_root(self, pair: str, first: str, rest: str) -> bool:
        """Check the first digit of a root, and the remainder of the first digit pair."""
        whole = self.to_divide.partition(".")[0]
        self.root = Root(first, int(rest + whole[2:]), self.decimals)
        return len(whole) == 4 and whole.startswith(pair)

    def _check_exponent_step(self, exponents: list[str], before: int, added: int, total: int) -> bool:
        """Check the remaining exponents; the first one is the previous one doubled, or one more."""
        follows = [str(before), *exponents] == self.exponents and before == self.reached
        self.exponents, self.reached = exponents, total
        return follows and str(total) == exponents[0] and total == before + added and added in (1, before)

    def _is_true_equation(self, line: str) -> bool:
        """Whether an equation is true. No rendered line has brackets or exponents of four digits."""
        if "(" in line or _HUGE.search(line):
            return False
        try:
            is_false = is_false_statement(line)
        except (ValueError, ZeroDivisionError):
            return False
        self.known.add(_stripped(line.rpartition("=")[2].lstrip("-")))
        return not is_false

    def _check_short_division(self, match: re.Match[str]) -> bool:
        """Check one digit of the sum divided by the count: the previous remainder and the next digit of the sum.

        If the new remainder is negative or too large, the next line must try the adjacent digit.
        """
        if not self._is_true_equation(match[1]):
            return False
        number, digit, divisor = int(match[2]), match[3], int(match[4])
        left = number - int(digit) * divisor
        if divisor != self.count or number != 10 * self.rest + int(self.to_divide[:1] or 0):
            return False
        if self.retry and not self.retry.endswith(f"={digit}:"):
            return False
        fits = 0 <= left < self.count
        self.retry = "" if fits else retry_prefix(digit, -1 if left < 0 else 1)
        if (match[5], match[6]) != ((None, None) if left < 0 else (str(left), "<" if fits else ">")):
            return False
        if fits:
            self.result, self.rest, self.to_divide = f"{self.result}{digit}", left, self.to_divide[1:]
        return True

    def _check_exponent_plan(self, exponent: str, work: str, exponents: list[str]) -> bool:
        """Check a planned exponent: an odd exponent minus one, or half of an even one.

        Exponents with two or more digits are halved digit by digit.
        """
        earlier, *later = exponents
        follows = later == (self.exponents or [self.last]) and exponent == later[0] != "1"
        self.exponents = exponents
        if int(exponent) % 2:
            return follows and work == "-1" and int(earlier) == int(exponent) - 1
        is_worked = self._halves_digits(exponent, work[1:]) if len(exponent) > 1 else not work
        return follows and is_worked and 2 * int(earlier) == int(exponent)

    @staticmethod
    def _halves_digits(number: str, steps: str) -> bool:
        """Check that each step halves a digit together with the previous remainder."""
        rest = 0
        for digit, step in zip_longest(number, steps.split(",")):
            if digit is None or (match := _HALVED.fullmatch(step or "")) is None:
                return False
            halved, half, left = map(int, match.groups())
            if halved != 10 * rest + int(digit) or halved != 2 * half + left:
                return False
            rest = left
        return True

    def _check_restated_number(self, number: str, exponent: int) -> bool:
        """Check a restated number: an earlier result, or a number of the problem shifted by pairs of digits."""
        self.decimals = number.partition(".")[2]
        self.result, self.to_divide = "", number
        is_shifted = not exponent or Fraction(number) * Fraction(100) ** exponent == Fraction(self.first)
        return is_shifted and _stripped(number) in self.known

    def _check_running_sum(self, line: str) -> bool:
        """Check the list of all numbers with the running sums of tens and ones."""
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
        """Whether these are the digits, or the leading digits, of known numbers."""
        return all(any(number.startswith(one.strip("0")) for number in self.known) for one in digits)


def _adds_digits(left: int, right: int, ones: str | None, tens: str | None, joined_sum: str | None) -> bool:
    """Whether ones and tens are added and joined if a number has tens: `7+5=12`, `40+0=40` and `40+12` for 47+5."""
    if abs(left) < 10 and abs(right) < 10:
        return ones is None
    last = [int(math.fmod(number, 10)) for number in (left, right)]
    first = [left - last[0], right - last[1]]
    expected = [f"{one}+{other}={one + other}" for one, other in (last, first)]
    return [ones, tens, joined_sum] == [*expected, f"{sum(first)}{sum(last):+d}"]


def _signs(problem: str) -> list[str]:
    """Return the signs of the first two numbers; a minus before a space inverts the second."""
    signs = ["-" if sign else "+" for sign in re.findall(r"(-?)[0-9]+(?:\.[0-9]+)?", problem)][:2]
    if re.search(r"[0-9] - ", problem):
        signs[1] = "+" if signs[1] == "-" else "-"
    return signs


def _significant(number: str) -> str:
    """Return the digits of a number without leading zeros."""
    return number.replace(".", "").lstrip("0")


def _stripped(number: str) -> str:
    """Return the digits of a number without its point and without leading and trailing zeros."""
    return number.replace(".", "").strip("0")
