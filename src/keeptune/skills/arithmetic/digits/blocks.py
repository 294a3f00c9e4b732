"""Verification of digit-by-digit sums, products and quotients against whole numbers.

The procedures work on single digits and never use a whole number. Here each line must have the result that whole
numbers give, and every small statement in it must be true. A method returns whether its line is right.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from keeptune.skills.arithmetic.digits.numeral import PLAIN_PLACES, names

_DIGIT = re.compile(r"(?P<name>[a-z])(?P<digit>[0-9])\.?")
_RESULT = re.compile(r"(?P<carry>[0-9]?)\.?(?P<cells>[a-z].*)")
_PAIR_CELL = re.compile(r"(?P<name>[a-z])(?P<left>[0-9])(?P<right>[0-9])")
_COLUMN_CELL = re.compile(
    r"(?P<name>[a-z])(?P<left>[0-9])(?P<sign>[-+])(?P<right>[0-9])=(?P<column_carry>[0-9])(?P<between>[0-9])"
    r"(?P=sign)(?P<carry>[0-9])=(?P<next>[0-9])(?P<digit>[0-9])"
)
_PRODUCT_CELL = re.compile(
    r"(?P<name>[a-z])(?P<factor_digit>[0-9])(?P<product>[0-9]{2})\+(?P<carry>[0-9])=(?P<carried>[0-9]{2})"
    r"\+(?P<before>[0-9])=(?P<total>[0-9]{2})"
)
_SUBTRACTION_CELL = re.compile(
    r"(?P<name>[a-z])(?P<divisor_digit>[0-9])(?P<product>[0-9]{2})\+(?P<borrow>[0-9])=(?P<taken>[0-9]{2})"
    r",(?P<before>[0-9])-(?P<last>[0-9])=(?P<short>[0-9])(?P<digit>[0-9])"
)

_PRODUCT_WITH_POINT = re.compile(r"(?P<listed>[0-9].*)=(?P<left>-?[0-9]+)(?:E(?P<exponent>-?[0-9]+))?")

Cell = dict[str, str]
"""The parts of a line that belong to one digit, by the group names of its pattern."""


def parse_digits(line: str) -> list[Cell] | None:
    """Return the cells of a listing such as `a4b2.c5`, or None if the line is anything else."""
    return _parse_cells(_DIGIT, line)


def parse_result(line: str) -> tuple[str, str] | None:
    """Return the names and the digits of a result such as `1a4b2.c5`, or None.

    The leading carry has no name and is the first digit.
    """
    match = _RESULT.fullmatch(line)
    cells = parse_digits(match["cells"]) if match else None
    return (join_cells(cells, "name"), match["carry"] + join_cells(cells, "digit")) if match and cells else None


def find_point(listed: str) -> int | None:
    """Return the number of digits before the point; None without a point, -1 with more than one."""
    if listed.count(".") > 1:
        return -1
    before, point, _ = listed.partition(".")
    return sum(map(str.isdigit, before)) if point else None


def retry_prefix(digit: str, by: int) -> str:
    """Return the required beginning of the next line after a digit that is off by `by`."""
    return f"{digit}{by:+d}={int(digit) + by}:" if by else ""


def parse_pairs(line: str) -> list[Cell] | None:
    """Return the cells of a pair listing such as `a42b25`, or None."""
    return _parse_cells(_PAIR_CELL, line)


def _parse_cells(pattern: re.Pattern[str], line: str) -> list[Cell] | None:
    matches = list(pattern.finditer(line))
    is_whole = matches and "".join(match[0] for match in matches) == line
    return [match.groupdict() for match in matches] if is_whole else None


def join_cells(cells: list[Cell], key: str) -> str:
    """Concatenate one part of all cells, such as their digits or names."""
    return "".join(cell[key] for cell in cells)


def _digit_of(number: int, place: int) -> int:
    """Return the digit in the place 10^place."""
    return number // _power_of_ten(place) % 10


def _power_of_ten(exponent: int) -> int:
    power: int = 10**exponent
    return power


@dataclass(slots=True)
class ColumnPass:
    """Two numbers of equal length, added or subtracted from the right."""

    names: str
    left: int
    right: int
    sign: int = 0
    digits: str = ""
    carry: int = 0
    is_listed: bool = False

    def line(self, line: str) -> bool:
        """Check the line with all columns from the right and their carries."""
        cells = _parse_cells(_COLUMN_CELL, line)
        if cells is None or join_cells(cells[::-1], "name") != self.names:
            return False
        sign, carry = cells[0]["sign"], 0
        self.sign = 1 if sign == "+" else -1
        for place, cell in enumerate(cells):
            column_carry, between, following, digit = (
                int(cell[key]) for key in ("column_carry", "between", "next", "digit")
            )
            a, b = _digit_of(self.left, place), _digit_of(self.right, place)
            if (cell["left"], cell["sign"], cell["right"], cell["carry"]) != (str(a), sign, str(b), str(carry)):
                return False
            if a + self.sign * b != between + self.sign * 10 * column_carry:
                return False
            if a + self.sign * (b + carry) != digit + self.sign * 10 * following:
                return False
            carry = following
        self.digits, self.carry = join_cells(cells[::-1], "digit"), carry
        return int(self.digits) + self.sign * carry * _power_of_ten(len(cells)) == self.left + self.sign * self.right

    def listing(self, line: str) -> bool:
        """Check the listing of the result; a negative result is listed again as its absolute value."""
        listing = parse_result(line)
        if not self.digits or listing is None or listing[0] != self.names:
            return False
        if not self.is_listed:
            self.is_listed = True
            return listing[1] == self.result
        before, self.digits = self.digits, listing[1]
        was_negative, self.carry = self.is_negative, 0
        return was_negative and int(self.digits) + int(before) == _power_of_ten(len(before))

    @property
    def is_negative(self) -> bool:
        """Whether the result is negative and not yet listed as its absolute value."""
        return self.sign < 0 and self.carry > 0

    @property
    def result(self) -> str:
        return f"{self.carry}{self.digits}" if self.sign > 0 else self.digits


@dataclass(slots=True)
class Product:
    """A product with one line per digit of the right factor, from its last digit."""

    names: str
    left: str
    right_names: str
    right: str
    value: int = 0
    width: int = 0
    points: tuple[int | None, int | None] = (None, None)
    lines: int = 0
    done: str = ""
    place: str = ""
    is_repeated: bool = False
    places_left: int | None = None

    def line(self, line: str) -> bool:
        """Check the line of one right digit: its product with the left factor, plus the previous line."""
        place = len(self.right) - 1 - self.lines
        if place < 0 or not line.startswith(self.right_names[place] + self.right[place]):
            return False
        factor = int(self.right[place])
        cells = _parse_cells(_PRODUCT_CELL if factor else _DIGIT, line[2:])
        if cells is None or join_cells(cells[::-1], "name") != self.names[: len(cells)]:
            return False
        if self.lines and len(cells) == self.width:
            self.value, self.done = self.value // 10, f"{self.value % 10}{self.done}"
        before, used = self.value, self.left[: len(cells)]
        self.value, self.width, self.lines = before + factor * int(used), len(cells), self.lines + 1
        if before >= _power_of_ten(len(cells)):
            return False
        if factor == 0:
            return join_cells(cells[::-1], "digit") == str(before).zfill(len(cells))
        return self._are_cells_right(cells, used, factor, before)

    def _are_cells_right(self, cells: list[Cell], used: str, factor: int, before: int) -> bool:
        carry, kept_digits = 0, ""
        for place, cell in enumerate(cells):
            factor_digit, product, carried, total = (
                int(cell[key]) for key in ("factor_digit", "product", "carried", "total")
            )
            if factor_digit != int(used[-1 - place]) or product != factor_digit * factor or int(cell["carry"]) != carry:
                return False
            if carried != product + carry or int(cell["before"]) != _digit_of(before, place):
                return False
            if total != carried + int(cell["before"]):
                return False
            carry, kept_digits = total // 10, f"{total % 10}{kept_digits}"
        return int(f"{carry}{kept_digits}") == self.value

    def state_position(self, left: int, right: int, mark: str) -> bool:
        """Check the position of the point, from the places of both factors and the name of the digit before the point.

        The mark is `.` before all digits and `E` far outside them.
        """
        places = left + right
        self.place = f"{places}{mark}"
        factors = ((left, self.points[0], self.left), (right, self.points[1], self.right))
        if not all(_matches_listing(count, point, len(digits)) for count, point, digits in factors):
            return False
        if places <= -PLAIN_PLACES or places > max(len(self.left) + 1, PLAIN_PLACES):
            return mark == "E"
        return mark == (names(places - 1)[-1] if places > 1 else ".")

    def repeat_position(self) -> bool:
        """Check the repeated position of the point, which must follow all lines."""
        self.is_repeated = self.lines == len(self.right)
        return self.is_repeated

    def listing(self, line: str) -> bool:
        """Check the listing of the product: the digits of the last line, then the final digits of earlier lines."""
        if self.lines != len(self.right):
            return False
        if not self.place:
            return parse_result(line) == (self.names + self.right_names[1:][: len(self.done)], self.result)
        match = _PRODUCT_WITH_POINT.fullmatch(line)
        place, self.place = self.place, ""
        return match is not None and self.is_repeated and self._is_point_right(match, place)

    def _is_point_right(self, match: re.Match[str], place: str) -> bool:
        """Check the zeros up to the point, the position of the point, and the number of places without a carry of 0."""
        places, listed, is_far = int(place[:-1]), match["listed"], place.endswith("E")
        width = len(self.result) if is_far else max(len(self.result), places)
        left = self.places_left = places - self.result.startswith("0")
        return (
            parse_result(listed) == (names(width - 1), self.result.ljust(width, "0"))
            and find_point(listed) == (places if 0 < places <= width else None)
            and match["left"] == str(left)
            and match["exponent"] == (str(left - 1) if is_far else None)
        )

    @property
    def result(self) -> str:
        return str(self.value).zfill(self.width + 1) + self.done


def _matches_listing(places: int, point: int | None, width: int) -> bool:
    """Whether a listing of `width` digits with this point (or none) can be a number with `places` places."""
    return places == point if point is not None else not 0 < places < width


@dataclass(slots=True)
class Quotient:
    """A quotient with one line per digit; dividend and divisor have the same length."""

    names: str
    rest: int
    divisor: str
    width: int
    before: int = 0
    quotient_digits: list[int] = field(default_factory=list)

    @classmethod
    def from_cells(cls, cells: list[Cell]) -> Quotient:
        """Return the quotient of the two numbers in a pair listing."""
        return cls(join_cells(cells, "name"), int(join_cells(cells, "left")), join_cells(cells, "right"), len(cells))

    def line(self, first_three: str, first_two: str, digit: int, text: str) -> bool:
        """Check a line that subtracts the digit times the divisor, after a shift by one place.

        The trial must use the first digits of the remainder and of the divisor. Its digit may be off by one.
        """
        cells = _parse_cells(_SUBTRACTION_CELL if digit else _DIGIT, text)
        if self.rest < 0 or cells is None or len(cells) > self.width:
            return False
        if join_cells(cells[::-1], "name") != self.names[: len(cells)]:
            return False
        if not self.quotient_digits and len(cells) < self.width:
            return False
        if self.quotient_digits:
            self.rest = self.rest * 10 // _power_of_ten(self.width - len(cells))
        before, used = self.rest, self.divisor[: len(cells)]
        self.rest, self.width = before - digit * int(used), len(cells)
        self.before = before // _power_of_ten(self.width)
        self.quotient_digits.append(digit)
        if first_three != f"{str(before).zfill(self.width + 1)}0"[:3] or first_two != f"{self.divisor}0"[:2]:
            return False
        if digit == 0:
            return join_cells(cells[::-1], "digit") == str(before).zfill(self.width)
        return self._are_cells_right(cells, used, digit, before)

    def _are_cells_right(self, cells: list[Cell], used: str, digit: int, before: int) -> bool:
        borrow, digits_left = 0, ""
        for place, cell in enumerate(cells):
            divisor_digit, product, taken = (int(cell[key]) for key in ("divisor_digit", "product", "taken"))
            left_here, short, after = (int(cell[key]) for key in ("before", "short", "digit"))
            if (
                divisor_digit != int(used[-1 - place])
                or product != divisor_digit * digit
                or int(cell["borrow"]) != borrow
            ):
                return False
            if taken != product + borrow or left_here != _digit_of(before, place) or int(cell["last"]) != taken % 10:
                return False
            if left_here - taken % 10 != after - 10 * short:
                return False
            borrow, digits_left = taken // 10 + short, f"{after}{digits_left}"
        scale = _power_of_ten(self.width)
        return self.rest == int(digits_left) + (before // scale - borrow) * scale

    def verdict(self, first_two: str) -> str:
        """Return the required end of a line: the first column, then the remainder and the divisor, or `-`."""
        if self.rest < 0:
            return f"{self.column()}-"
        sign = "<" if self.rest < int(self.divisor[: self.width]) else ">"
        return self.column() + f"{str(self.rest).zfill(self.width + 1)}0"[:3] + f",{first_two}{sign}"

    def column(self) -> str:
        """Return the column before all others; the line of a 0 has none."""
        over = self.rest // _power_of_ten(self.width)
        return f"{self.before}-{self.before - over}=" if self.quotient_digits[-1] else ""

    def correct(self, digit: int, operation: str, text: str) -> bool:
        """Check a correction line, which adds the divisor back or subtracts it once more."""
        sign = 1 if operation == "+" else -1
        if not self.quotient_digits or digit != self.quotient_digits[-1] - sign or (self.rest < 0) != (sign > 0):
            return False
        top, columns_value = divmod(self.rest, _power_of_ten(self.width))
        columns = ColumnPass(self.names[: self.width], columns_value, int(self.divisor[: self.width]))
        if not columns.line(text) or columns.sign != sign:
            return False
        self.rest, self.quotient_digits[-1] = self.rest + sign * int(self.divisor[: self.width]), digit
        return self.rest == int(columns.digits) + (top + sign * columns.carry) * _power_of_ten(self.width)

    @property
    def result(self) -> str:
        return "".join(map(str, self.quotient_digits))
