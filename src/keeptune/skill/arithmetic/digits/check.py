"""Whether a solution worked digit by digit holds, judged without the code that wrote it.

Every line must be true (blocks.py), and no number may appear from nowhere: what a sum, product or quotient starts from
stands in the problem or is the result of an earlier line, and the answer has the digits that the lines end with.
"""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import pairwise

from keeptune.score.number import grade
from keeptune.skill.arithmetic.check import wrong_statement
from keeptune.skill.arithmetic.digits.blocks import Cell, Pass, Product, Quotient, digits, joined, pairs, result
from keeptune.skill.arithmetic.digits.numeral import PLAIN_PLACES, far_names, names
from keeptune.skill.base import ANSWER_MARKER

_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_SIGNS = re.compile(r"([-+]) ([-+]) ([-+])")
_POWER_SIGNS = re.compile(r"([-+]) ([0-9]+) ([-+])")
_TRIAL = re.compile(r"(?:([0-9]+(?:\.[0-9]*)?) )?([0-9]{3})/([0-9]{2})=([0-9]):([a-z].*)")
_VERDICT = re.compile(r",((?:[0-9]-[0-9]=)?(?:[0-9]{3},[0-9]{2}[<>]|-))$")
_PLACE = re.compile(r"(-?[0-9]+\+-?[0-9]+=(-?[0-9]+))([a-z.E])")
_PLACED = re.compile(r"((-?[0-9]+)[a-z.E])([0-9].*)=(-?[0-9]+)(?:E(-?[0-9]+))?")
_ROOT_VERDICT = re.compile(r",((?:[0-9]-[0-9]=)?(?:[0-9]{4,5}|-))((?:,[0-9]-1=[0-9])?)$")
_DOUBLED = re.compile(r"(([0-9]+)\+\2=0*([0-9]+)),([0-9]+)([<>])((?:,[0-9]\+1=[0-9])?)")
_CORRECTED = re.compile(r"([0-9])([-+])([a-z].*)")
_RUNNING_PART = re.compile(r"([0-9]+):([0-9]+):([0-9]+)\+([0-9]+)=([0-9]+),([0-9]+)\+([0-9])=([0-9]+)")
_FIRST_SQUARE = re.compile(r"([0-9]{2})-([1-9])\*\2=\1-[0-9]{2}=([0-9]{2})")
_ROOT_SUM = re.compile(r"([0-9]{2}\.[0-9])\+0\.([0-9]+)=([0-9.]+)")
_SHORT_DIVISION = re.compile(
    r"(?:([0-9]+(?:\.[0-9]*)?) )?(([0-9]+)-([0-9])\*([0-9]+)=\3-[0-9]+)=(?:([0-9]+),\5([<>])|-)((?:,[0-9][-+]1=[0-9])?)"
)
_HALVES = re.compile(r"[0-9]+(?::[0-9]+)+")
_REACHED = re.compile(r"([0-9]+):([0-9]+)\+([0-9]+)=([0-9]+)")
_RESTATED = re.compile(r"([0-9]+(?:\.[0-9]+)?)(?:E[-+][0-9]+)?")

ROOT_DIGITS = 3
"""Digits of a root that are found one by one."""


def fault(solution: str, problem: str, truth: Fraction) -> str | None:
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
    if lines and _stripped(answer.lstrip("-").partition("E")[0]) != _stripped(reader.result):
        return f"the answer {last!r} is not what the steps end with"
    return None


class _Reader:
    """Reads the lines of one solution in their order, and remembers what they stated."""

    def __init__(self, problem: str) -> None:
        self.is_equation = "x" in problem
        numbers = _NUMBER.findall(problem)
        self.first, self.last, self.known = numbers[0], numbers[-1], {_stripped(number) for number in numbers}
        self.result, self.decimals = "", ""
        self.root, self.root_left = "", 0
        self.tried, self.to_try = "", ""
        self.halves: list[int] = []
        self.reached = 1
        self.count, self.rest, self.to_divide = 0, 0, ""
        self.columns: Pass | None = None
        self.factors: list[tuple[str, str]] = []
        self.product: Product | None = None
        self.place = ""
        self.quotient: Quotient | None = None

    def holds(self, line: str) -> bool:
        """Whether a line is true after those before it."""
        if (found := pairs(line)) and found[0]["name"] == "a":
            return self._paired(found)
        if self.columns is not None and not self.columns.digits and line[:1] == self.columns.names[-1]:
            return self._settled(self.columns.line(line), self.columns)
        if self.columns is not None and self._may_be_listed(self.columns) and result(line):
            return self._settled(self.columns.listing(line), self.columns)
        if self.product is not None and line[:1].isalpha() and line[0] in self.product.right_names:
            holds = self.product.line(line)
            return holds if self.place else self._settled(holds, self.product)
        if (
            self.product is not None
            and self.place
            and line.startswith(self.place)
            and (match := _PLACED.fullmatch(line))
        ):
            holds, self.place = self._placed(self.product, *match.groups()), ""
            return self._settled(holds, self.product)
        if self.product is not None and not self.place and line[:1].isdigit() and result(line):
            return self._settled(self.product.listing(line), self.product)
        if self.quotient is not None and (match := _TRIAL.fullmatch(line)):
            return self._tried(self.quotient, *match.groups(default=""))
        if self.quotient is not None and (match := _CORRECTED.fullmatch(line)):
            return self._settled(self.quotient.corrected(int(match[1]), match[2], match[3]), self.quotient)
        if found := digits(line):
            return self._listed(found)
        return self._stated(line)

    @staticmethod
    def _may_be_listed(columns: Pass) -> bool:
        """Whether the next line can be what columns came to; otherwise it is a factor."""
        return bool(columns.digits) and (not columns.is_listed or columns.is_below_zero)

    def _paired(self, found: list[Cell]) -> bool:
        """Two numbers under each other, for a sum or a quotient."""
        left, right = joined(found, "left"), joined(found, "right")
        if self.root and self.quotient is not None:
            rest, self.quotient = self.quotient.rest, Quotient.of(found)
            return len(self.root) == ROOT_DIGITS and int(left) == rest and int(right) == 2 * int(self.root)
        self.columns, self.quotient = Pass(joined(found, "name"), int(left), int(right)), Quotient.of(found)
        return self._are_known(left, right)

    def _listed(self, found: list[Cell]) -> bool:
        """The digits of a factor, by whose names it is the first or the second. What is before it must be finished."""
        if self.columns is not None and not self.columns.digits:
            return False
        names, own = joined(found, "name"), joined(found, "digit")
        if names[0] == "a" and not self.place:
            self.factors, self.product = [(names, own)], None
        elif len(self.factors) == 1 and names == far_names(len(names)):
            self.factors.append((names, own))
            self.product = Product(*self.factors[0], *self.factors[1])
        else:
            return False
        return self._are_known(own)

    def _tried(self, block: Quotient, so_far: str, first_three: str, first_two: str, digit: str, cells: str) -> bool:
        """What has been found so far, and the next digit of a quotient; or a digit of a root."""
        if self.root and len(self.root) < ROOT_DIGITS:
            return not so_far and self._root_tried(first_three, first_two, digit, cells)
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
            return (match[3] == "+") == ((match[1] == match[2]) != self.is_equation)
        if match := _POWER_SIGNS.fullmatch(line):
            negative = match[1] == "-" and int(match[2]) % 2 == 1
            self.result = "1" if int(match[2]) == 0 else self.first
            return _stripped(match[2]) in self.known and (match[3] == "-") == negative
        if _HALVES.fullmatch(line):
            self.halves = [int(half) for half in line.split(":")]
            halved = all(one // 2 == other for one, other in pairwise(self.halves))
            return halved and self.halves[-1] == 1 and str(self.halves[0]) == self.last
        if match := _REACHED.fullmatch(line):
            return self._raised(*map(int, match.groups()))
        if match := _FIRST_SQUARE.fullmatch(line):
            return self._rooted(*match.groups()) and self._statement(line)
        if self.product is not None and (match := _PLACE.fullmatch(line)):
            self.place = match[2] + match[3]
            return self._statement(match[1]) and self.place == match[2] + _mark(
                int(match[2]), len(self.product.left) + 1
            )
        if self.quotient is not None and (match := _DOUBLED.fullmatch(line)):
            return self._statement(match[1]) and self._doubled(self.quotient, *match.groups()[1:])
        if self.root and (match := _ROOT_SUM.fullmatch(line)):
            follows = _stripped(match[1]) == _stripped(self.root) and match[2] == self.result
            self.result = match[3]
            return follows and self._statement(line)
        if ":" in line:
            return self._running(line)
        if match := _SHORT_DIVISION.fullmatch(line):
            follows = _significant(match[1] or "") == _significant(self.result)
            return follows and self._statement(match[2]) and self._short_division(*match.groups()[2:])
        if match := _RESTATED.fullmatch(line):
            return self._restated(match[1])
        return self._statement(line)

    def _rooted(self, pair: str, first: str, rest: str) -> bool:
        """The first digit of a root, from the first pair of the number's digits, and what its square leaves of them."""
        whole = self.to_divide.partition(".")[0]
        self._next_root_digit(first, int(rest + whole[2:] or 0))
        return len(whole) == 4 and whole.startswith(pair)

    def _next_root_digit(self, root: str, left: int) -> None:
        """The digits of a root so far; the next one, d, and twice those before it make what is taken off d times."""
        self.root, self.root_left, self.tried = root, left, ""
        twice = f"{2 * int(root):02d}"
        width = len(twice) + 1
        self.quotient = Quotient(names(width), left, twice, width)

    def _root_tried(self, first_three: str, first_two: str, digit: str, cells: str) -> bool:
        """A trial for a root's next digit, and what it leaves; one that is not below zero has to be compared next."""
        if self.tried or digit != (self.to_try or digit):
            return False
        self._next_root_digit(self.root, self.root_left)
        block, verdict = self.quotient, _ROOT_VERDICT.search(cells)
        if block is None or verdict is None:
            return False
        block.divisor += digit
        holds = block.line(first_three, first_two, int(digit), cells[: verdict.start()])
        self.tried = digit if block.rest >= 0 else ""
        left = "-" if block.rest < 0 else str(block.rest).zfill(block.width + 1)
        return (
            holds and verdict[1] == block.column() + left and self._next(digit, -1 if block.rest < 0 else 0, verdict[2])
        )

    def _doubled(self, block: Quotient, found: str, twice: str, rest: str, sign: str, end: str) -> bool:
        """Twice the digits of a root up to the tried one beside what that left, which must not be more."""
        if not self.tried or found != self.root + self.tried or int(rest) != block.rest:
            return False
        is_more = block.rest > int(twice)
        if (sign == ">") != is_more or not self._next(self.tried, int(is_more), end):
            return False
        self.tried = ""
        if sign == "<":
            self._next_root_digit(found, int(f"{block.rest}{self.decimals}"))
        if len(self.root) == ROOT_DIGITS:
            self.quotient = block
        return True

    def _raised(self, target: int, before: int, added: int, total: int) -> bool:
        """What the exponent comes to by the next product: a half of it doubled, or one more where it is odd."""
        if len(self.halves) < 2 or before != self.reached or total != before + added:
            return False
        *others, half = self.halves
        is_next = target == others[-1] and (added == before == half or (added == 1 and total == target))
        self.reached = total
        if total == target:
            self.halves = others
        return is_next

    def _statement(self, line: str) -> bool:
        """A statement of two sides."""
        try:
            wrong = wrong_statement(line)
        except (ValueError, ZeroDivisionError):
            return False
        self.known.add(_stripped(line.rpartition("=")[2].lstrip("-")))
        return not wrong

    def _placed(self, product: Product, place: str, places: str, listed: str, count: str, exponent: str | None) -> bool:
        """A product with its point, zeros up to it, and the places that it has without a carry of 0."""
        found, before_point = result(listed), int(places)
        if found is None or product.lines != len(product.right) or place != self.place:
            return False
        own, left = found[1], int(count)
        is_far = self.place.endswith("E")
        point = listed.find(".")
        width = len(product.result) if is_far else max(len(product.result), before_point)
        return (
            own == product.result.ljust(width, "0")
            and found[0] == names(width - 1)
            and (sum(map(str.isdigit, listed[:point])) == before_point if 0 < before_point <= width else point < 0)
            and left == before_point - own.startswith("0")
            and exponent == (str(left - 1) if is_far else None)
        )

    def _next(self, digit: str, by: int, end: str) -> bool:
        """Whether a trial that is one off ends with what must be tried next."""
        self.to_try = str(int(digit) + by) if by else ""
        return end == (f",{digit}{by:+d}={self.to_try}" if by else "")

    def _short_division(
        self, number: str, digit: str, divisor: str, rest: str | None, sign: str | None, end: str
    ) -> bool:
        """A digit of a sum over how many numbers there were: what was left before, and the sum's next digit.

        It counts where what is left fits; else it must say so, and another one is tried.
        """
        left = int(number) - int(digit) * int(divisor)
        if digit != (self.to_try or digit) or not self._next(digit, -1 if left < 0 else int(left >= self.count), end):
            return False
        if int(divisor) != self.count or int(number) != 10 * self.rest + int(self.to_divide[:1] or 0):
            return False
        if left < 0 or left >= self.count:
            return rest == (None if left < 0 else str(left)) and sign != "<"
        self.result, self.rest, self.to_divide = f"{self.result}{digit}", left, self.to_divide[1:]
        return rest == str(left) and sign == "<"

    def _restated(self, number: str) -> bool:
        """A number of the problem, or what the lines before it came to."""
        self.decimals = number.partition(".")[2]
        self.result, self.to_divide = "", number
        return self._are_known(number.replace(".", ""))

    def _running(self, line: str) -> bool:
        """Every number of a list, with the tens and the ones added up so far."""
        tens = ones = 0
        for part in line.split(" "):
            match = _RUNNING_PART.fullmatch(part)
            if match is None or _stripped(match[2]) not in self.known:
                return False
            count, value, *stated = map(int, match.groups())
            ten, one = divmod(value, 10)
            if (count, *stated) != (self.count + 1, tens, ten, tens + ten, ones, one, ones + one):
                return False
            tens, ones, self.count = tens + ten, ones + one, count
        self.known.add(_stripped(str(10 * tens + ones)))
        return True

    def _are_known(self, *digits: str) -> bool:
        """Whether these are the digits, or the first ones, of known numbers."""
        return all(any(number.startswith(own.strip("0")) for number in self.known) for own in digits)


def _mark(places: int, width: int) -> str:
    """The digit that a product's point stands behind, of so many digits; or `.` and `E` before and far behind them."""
    if places <= -PLAIN_PLACES or places > max(width, PLAIN_PLACES):
        return "E"
    return names(places - 1)[-1] if places > 1 else "."


def _significant(number: str) -> str:
    """The digits of a number from the first that is not 0."""
    return number.replace(".", "").lstrip("0")


def _stripped(number: str) -> str:
    """The digits of a number without point, and without zeros that only say where the point is."""
    return number.replace(".", "").strip("0")
