"""Sums, products and quotients worked digit by digit, read back as whole numbers.

The writer goes from digit to digit and never sees a whole number; here a line must come to what whole numbers come to,
and every small statement in it must hold by itself. A method returns whether its line holds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from keeptune.skills.arithmetic.digits.numeral import PLAIN_PLACES, names

_DIGIT = re.compile(r"(?P<name>[a-z])(?P<digit>[0-9])\.?")
_RESULT = re.compile(r"(?P<carry>[0-9]?)\.?(?P<cells>[a-z].*)")
_PAIR = re.compile(r"(?P<name>[a-z])(?P<left>[0-9])(?P<right>[0-9])")
_PASS = re.compile(
    r"(?P<name>[a-z])(?P<left>[0-9])(?P<sign>[-+])(?P<right>[0-9])=(?P<own>[0-9])(?P<between>[0-9])"
    r"(?P=sign)(?P<carry>[0-9])=(?P<next>[0-9])(?P<digit>[0-9])"
)
_FACTOR = re.compile(
    r"(?P<name>[a-z])(?P<own>[0-9])(?P<product>[0-9]{2})\+(?P<carry>[0-9])=(?P<carried>[0-9]{2})"
    r"\+(?P<before>[0-9])=(?P<total>[0-9]{2})"
)
_TAKEN = re.compile(
    r"(?P<name>[a-z])(?P<own>[0-9])(?P<product>[0-9]{2})\+(?P<borrow>[0-9])=(?P<taken>[0-9]{2})"
    r",(?P<before>[0-9])-(?P<last>[0-9])=(?P<short>[0-9])(?P<digit>[0-9])"
)

_PLACED = re.compile(r"(?P<listed>[0-9].*)=(?P<left>-?[0-9]+)(?:E(?P<exponent>-?[0-9]+))?")

Cell = dict[str, str]
"""What a line states of one digit, by the names in its pattern."""


def digits(line: str) -> list[Cell] | None:
    """The cells `a4b2.c5`, or None when the line is anything else."""
    return _cells(_DIGIT, line)


def result(line: str) -> tuple[str, str] | None:
    """The names and the digits of `1a4b2.c5`, a digit without name in front among the digits, or None."""
    match = _RESULT.fullmatch(line)
    found = digits(match["cells"]) if match else None
    return (joined(found, "name"), match["carry"] + joined(found, "digit")) if match and found else None


def point_of(listed: str) -> int | None:
    """How many digits stand before the only point; None without one, -1 with more."""
    if listed.count(".") > 1:
        return -1
    before, point, _ = listed.partition(".")
    return sum(map(str.isdigit, before)) if point else None


def retried(digit: str, by: int) -> str:
    """How the next line must begin, where a digit was one off."""
    return f"{digit}{by:+d}={int(digit) + by}:" if by else ""


def pairs(line: str) -> list[Cell] | None:
    """The cells `a42b25` of two numbers under each other, or None."""
    return _cells(_PAIR, line)


def _cells(pattern: re.Pattern[str], line: str) -> list[Cell] | None:
    matches = list(pattern.finditer(line))
    is_whole = matches and "".join(match[0] for match in matches) == line
    return [match.groupdict() for match in matches] if is_whole else None


def joined(cells: list[Cell], key: str) -> str:
    """The digits or names of all cells in a row."""
    return "".join(cell[key] for cell in cells)


def _digit_of(number: int, place: int) -> int:
    """The digit that stands for 10^place."""
    return number // _ten_to(place) % 10


def _ten_to(exponent: int) -> int:
    power: int = 10**exponent
    return power


@dataclass(slots=True)
class Pass:
    """Two numbers under each other, added or subtracted from the right."""

    names: str
    left: int
    right: int
    sign: int = 0
    digits: str = ""
    carry: int = 0
    is_listed: bool = False

    def line(self, line: str) -> bool:
        """All columns from the right, with their carries."""
        found = _cells(_PASS, line)
        if found is None or joined(found[::-1], "name") != self.names:
            return False
        sign, carry = found[0]["sign"], 0
        self.sign = 1 if sign == "+" else -1
        for place, cell in enumerate(found):
            own, between, following, digit = (int(cell[key]) for key in ("own", "between", "next", "digit"))
            a, b = _digit_of(self.left, place), _digit_of(self.right, place)
            if (cell["left"], cell["sign"], cell["right"], cell["carry"]) != (str(a), sign, str(b), str(carry)):
                return False
            if a + self.sign * b != between + self.sign * 10 * own:
                return False
            if a + self.sign * (b + carry) != digit + self.sign * 10 * following:
                return False
            carry = following
        self.digits, self.carry = joined(found[::-1], "digit"), carry
        return int(self.digits) + self.sign * carry * _ten_to(len(found)) == self.left + self.sign * self.right

    def listing(self, line: str) -> bool:
        """The result from its first digit; the second time, what it is below zero."""
        found = result(line)
        if not self.digits or found is None or found[0] != self.names:
            return False
        if not self.is_listed:
            self.is_listed = True
            return found[1] == self.result
        before, self.digits = self.digits, found[1]
        below_zero, self.carry = self.is_below_zero, 0
        return below_zero and int(self.digits) + int(before) == _ten_to(len(before))

    @property
    def is_below_zero(self) -> bool:
        """Whether what is listed has still to be listed as what it is below zero."""
        return self.sign < 0 and self.carry > 0

    @property
    def result(self) -> str:
        return f"{self.carry}{self.digits}" if self.sign > 0 else self.digits


@dataclass(slots=True)
class Product:
    """A left number times a right one, a digit of the right one a line, from its end."""

    names: str
    left: str
    right_names: str
    right: str
    kept: int = 0
    width: int = 0
    points: tuple[int | None, int | None] = (None, None)
    lines: int = 0
    done: str = ""
    place: str = ""
    is_repeated: bool = False
    places_left: int | None = None

    def line(self, line: str) -> bool:
        """What the line before left here, and a digit of the right number times the left one or its first digits."""
        place = len(self.right) - 1 - self.lines
        if place < 0 or not line.startswith(self.right_names[place] + self.right[place]):
            return False
        factor = int(self.right[place])
        found = _cells(_FACTOR if factor else _DIGIT, line[2:])
        if found is None or joined(found[::-1], "name") != self.names[: len(found)]:
            return False
        if self.lines and len(found) == self.width:
            self.kept, self.done = self.kept // 10, f"{self.kept % 10}{self.done}"
        before, used = self.kept, self.left[: len(found)]
        self.kept, self.width, self.lines = before + factor * int(used), len(found), self.lines + 1
        if before >= _ten_to(len(found)):
            return False
        if factor == 0:
            return joined(found[::-1], "digit") == str(before).zfill(len(found))
        return self._cells_hold(found, used, factor, before)

    def _cells_hold(self, found: list[Cell], used: str, factor: int, before: int) -> bool:
        carry, digits_kept = 0, ""
        for place, cell in enumerate(found):
            own, product, carried, total = (int(cell[key]) for key in ("own", "product", "carried", "total"))
            if own != int(used[-1 - place]) or product != own * factor or int(cell["carry"]) != carry:
                return False
            if carried != product + carry or int(cell["before"]) != _digit_of(before, place):
                return False
            if total != carried + int(cell["before"]):
                return False
            carry, digits_kept = total // 10, f"{total % 10}{digits_kept}"
        return int(f"{carry}{digits_kept}") == self.kept

    def place_stated(self, left: int, right: int, mark: str) -> bool:
        """Places before the point of both factors, and the digit that their product's point will stand behind; `.` and
        `E` before and far behind them all."""
        places = left + right
        self.place = f"{places}{mark}"
        if not _suits(left, self.points[0], len(self.left)) or not _suits(right, self.points[1], len(self.right)):
            return False
        if places <= -PLAIN_PLACES or places > max(len(self.left) + 1, PLAIN_PLACES):
            return mark == "E"
        return mark == (names(places - 1)[-1] if places > 1 else ".")

    def place_repeated(self) -> bool:
        """What was said of the point, once more: it has to stand behind all lines."""
        self.is_repeated = self.lines == len(self.right)
        return self.is_repeated

    def listing(self, line: str) -> bool:
        """The product from its first digit: what the last line left, and behind it what earlier lines ended with."""
        if self.lines != len(self.right):
            return False
        if not self.place:
            return result(line) == (self.names + self.right_names[1:][: len(self.done)], self.result)
        match = _PLACED.fullmatch(line)
        place, self.place = self.place, ""
        return match is not None and self.is_repeated and self._point_holds(match, place)

    def _point_holds(self, match: re.Match[str], place: str) -> bool:
        """Zeros as far as the point, that behind as many digits as it says, and the places that a carry of 0 leaves."""
        places, listed, is_far = int(place[:-1]), match["listed"], place.endswith("E")
        width = len(self.result) if is_far else max(len(self.result), places)
        left = self.places_left = places - self.result.startswith("0")
        return (
            result(listed) == (names(width - 1), self.result.ljust(width, "0"))
            and point_of(listed) == (places if 0 < places <= width else None)
            and match["left"] == str(left)
            and match["exponent"] == (str(left - 1) if is_far else None)
        )

    @property
    def result(self) -> str:
        return str(self.kept).zfill(self.width + 1) + self.done


def _suits(places: int, point: int | None, width: int) -> bool:
    """Whether a listing with its point there, or with none, can be of a number with so many places."""
    return places == point if point is not None else not 0 < places < width


@dataclass(slots=True)
class Quotient:
    """A dividend over a divisor of as many digits, a digit of the quotient a line."""

    names: str
    rest: int
    divisor: str
    width: int
    before: int = 0
    found: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, cells: list[Cell]) -> Quotient:
        """The two numbers under each other."""
        return cls(joined(cells, "name"), int(joined(cells, "left")), joined(cells, "right"), len(cells))

    def line(self, first_three: str, first_two: str, digit: int, text: str) -> bool:
        """What was left, seen from one place further right, less the digit times the divisor or its first digits.

        The numbers of the trial must be the first digits of both; the digit may be one off.
        """
        found = _cells(_TAKEN if digit else _DIGIT, text)
        if self.rest < 0 or found is None or len(found) > self.width:
            return False
        if joined(found[::-1], "name") != self.names[: len(found)]:
            return False
        if not self.found and len(found) < self.width:
            return False
        if self.found:
            self.rest = self.rest * 10 // _ten_to(self.width - len(found))
        before, used = self.rest, self.divisor[: len(found)]
        self.rest, self.width = before - digit * int(used), len(found)
        self.before = before // _ten_to(self.width)
        self.found.append(digit)
        if first_three != f"{str(before).zfill(self.width + 1)}0"[:3] or first_two != f"{self.divisor}0"[:2]:
            return False
        if digit == 0:
            return joined(found[::-1], "digit") == str(before).zfill(self.width)
        return self._cells_hold(found, used, digit, before)

    def _cells_hold(self, found: list[Cell], used: str, digit: int, before: int) -> bool:
        borrow, digits_left = 0, ""
        for place, cell in enumerate(found):
            own, product, taken = (int(cell[key]) for key in ("own", "product", "taken"))
            left_here, short, after = (int(cell[key]) for key in ("before", "short", "digit"))
            if own != int(used[-1 - place]) or product != own * digit or int(cell["borrow"]) != borrow:
                return False
            if taken != product + borrow or left_here != _digit_of(before, place) or int(cell["last"]) != taken % 10:
                return False
            if left_here - taken % 10 != after - 10 * short:
                return False
            borrow, digits_left = taken // 10 + short, f"{after}{digits_left}"
        return self.rest == int(digits_left) + (before // _ten_to(self.width) - borrow) * _ten_to(self.width)

    def verdict(self, first_two: str) -> str:
        """How a line has to end: the column before the first one, and what is left beside the divisor, or `-`."""
        if self.rest < 0:
            return f"{self.column()}-"
        sign = "<" if self.rest < int(self.divisor[: self.width]) else ">"
        return self.column() + f"{str(self.rest).zfill(self.width + 1)}0"[:3] + f",{first_two}{sign}"

    def column(self) -> str:
        """That column; the line of a 0 does not have it."""
        over = self.rest // _ten_to(self.width)
        return f"{self.before}-{self.before - over}=" if self.found[-1] else ""

    def corrected(self, digit: int, operation: str, text: str) -> bool:
        """The divisor put back, because one too many was taken off, or taken off once more."""
        sign = 1 if operation == "+" else -1
        if not self.found or digit != self.found[-1] - sign or (self.rest < 0) != (sign > 0):
            return False
        top, own = divmod(self.rest, _ten_to(self.width))
        columns = Pass(self.names[: self.width], own, int(self.divisor[: self.width]))
        if not columns.line(text) or columns.sign != sign:
            return False
        self.rest, self.found[-1] = self.rest + sign * int(self.divisor[: self.width]), digit
        return self.rest == int(columns.digits) + (top + sign * columns.carry) * _ten_to(self.width)

    @property
    def result(self) -> str:
        return "".join(map(str, self.found))
