"""Sums, products and quotients worked digit by digit, read back as whole numbers.

The writer goes from digit to digit and never sees a whole number; here a line must come to what whole numbers come to,
and every small statement in it must hold by itself. A method returns whether its line holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Cell:
    """What a line states of one digit: the digit's name and the digits written behind it."""

    name: str
    digits: str

    def numbers(self, *widths: int) -> list[int]:
        """The digits as numbers of so many digits each."""
        found, start = [], 0
        for width in widths:
            found.append(int(self.digits[start : start + width]))
            start += width
        return found


def cells(line: str) -> list[Cell]:
    """The cells of a line that consists of nothing else, all of one length."""
    width = next((place for place, character in enumerate(line) if place and character.isalpha()), len(line))
    return [Cell(line[start], line[start + 1 : start + width]) for start in range(0, len(line), width)]


def names_of(found: list[Cell]) -> str:
    return "".join(cell.name for cell in found)


def _written_out(found: list[Cell], factor: int) -> bool:
    """Whether the cells are as long as they are for this factor: for 0 they only repeat what stands there."""
    return len(found[0].digits) == (8 if factor else 1)


def digit_of(number: int, place: int) -> int:
    """The digit that stands for 10^place."""
    return number // 10**place % 10


@dataclass(slots=True)
class Sum:
    """Two numbers under each other, added or subtracted."""

    names: str
    left: str
    right: str
    sign: int
    digits: str = ""
    carry: int = 0

    @classmethod
    def of(cls, line: str) -> Sum | None:
        """The numbers of a line of columns, or None when a column is wrong."""
        values = [cell.numbers(1, 1, 1, 1) for cell in cells(line)]
        added = all(a + b == 10 * carry + digit for a, b, carry, digit in values)
        if not added and any(a - b != digit - 10 * carry for a, b, carry, digit in values):
            return None
        left, right = ("".join(str(value[i]) for value in values) for i in (0, 1))
        return cls(names_of(cells(line)), left, right, 1 if added else -1)

    def carried(self, line: str) -> bool:
        """The columns once more with their carries, from the right."""
        found = cells(line)[::-1]
        self.digits, self.carry = "".join(cell.digits[1] for cell in found), int(found[0].digits[0])
        left, right = int(self.left), int(self.right)
        for place, cell in enumerate(reversed(found), start=1):
            lower = left % 10**place + self.sign * (right % 10**place)
            if int(cell.digits[0]) != abs(lower // 10**place):
                return False
        total = int(self.digits) + self.sign * self.carry * 10 ** len(found)
        return names_of(found) == self.names and total == left + self.sign * right

    def complement(self, line: str) -> bool:
        """What is missing to the next power of ten, from the right."""
        found = cells(line)[::-1]
        digits, before = "".join(cell.digits for cell in found), self.digits
        self.digits = digits
        negative = self.sign < 0 and self.carry == 1 and names_of(found) == self.names
        return negative and int(digits) + int(before) == 10 ** len(before)

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
    lines: int = 0
    done: str = ""

    def line(self, name: str, factor: int, text: str) -> bool:
        """What the line before left here, and the factor times the left number or its first digits."""
        found = cells(text)[::-1]
        width, place = len(found), len(self.right) - 1 - self.lines
        if place < 0 or (name, str(factor)) != (self.right_names[place], self.right[place]):
            return False
        if self.lines and width == self.width:
            self.kept, self.done = self.kept // 10, f"{self.kept % 10}{self.done}"
        before, used = self.kept, self.left[:width]
        self.kept, self.width, self.lines = before + factor * int(used), width, self.lines + 1
        if names_of(found) != self.names[:width] or before >= 10**width or not _written_out(found, factor):
            return False
        if factor == 0:
            return "".join(cell.digits for cell in found) == str(before).zfill(width)
        return self._cells_hold(found, used, factor, before) and self._comes_to(found)

    def _cells_hold(self, found: list[Cell], used: str, factor: int, before: int) -> bool:
        carry = 0
        for place, cell in enumerate(reversed(found)):
            digit, product, carried, left_here, total = cell.numbers(1, 2, 2, 1, 2)
            if digit != int(used[-1 - place]) or left_here != digit_of(before, place):
                return False
            if product != digit * factor or carried != product + carry or total != carried + left_here:
                return False
            carry = total // 10
        return True

    def _comes_to(self, found: list[Cell]) -> bool:
        stated = found[0].digits[-2] + "".join(cell.digits[-1] for cell in found)
        return int(stated) == self.kept

    @property
    def result(self) -> str:
        return str(self.kept).zfill(self.width + 1) + self.done


@dataclass(slots=True)
class Quotient:
    """A dividend over a divisor of as many digits, a digit of the quotient a line."""

    names: str
    rest: int
    divisor: str
    width: int
    digits: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, line: str) -> Quotient:
        """The numbers of a line of pairs of digits."""
        found = cells(line)
        dividend, divisor = ("".join(cell.digits[i] for cell in found) for i in (0, 1))
        return cls(names_of(found), int(dividend), divisor, len(found))

    def line(self, digit: int, text: str) -> bool:
        """What was left, seen from one place further right, less the digit times the divisor or its first digits."""
        found = cells(text)[::-1]
        width = len(found)
        if self.rest < 0 or names_of(found) != self.names[: self.width][:width] or not _written_out(found, digit):
            return False
        if self.digits:
            self.rest = self.rest * 10 // 10 ** (self.width - width)
        before, used = self.rest, self.divisor[:width]
        self.rest, self.width = before - digit * int(used), width
        self.digits.append(digit)
        if digit == 0:
            return "".join(cell.digits for cell in found) == str(before).zfill(width)
        borrow = 0
        for place, cell in enumerate(reversed(found)):
            own, product, taken, left_here, next_borrow, after = cell.numbers(1, 2, 2, 1, 1, 1)
            if own != int(used[-1 - place]) or left_here != digit_of(before, place) or product != own * digit:
                return False
            if taken != product + borrow or left_here - taken != after - 10 * next_borrow:
                return False
            borrow = next_borrow
        stated = int("".join(cell.digits[-1] for cell in found))
        return self.rest == stated + (before // 10**width - borrow) * 10**width

    def put_back(self, digit: int, text: str) -> bool:
        """One too many was taken: what is left, and the divisor once more."""
        found = cells(text)[::-1]
        before, used = self.rest, self.divisor[: self.width]
        if before >= 0 or not self.digits or digit != self.digits[-1] - 1:
            return False
        if names_of(found) != self.names[: self.width]:
            return False
        self.rest, self.digits[-1] = before + int(used), digit
        carry = 0
        for place, cell in enumerate(reversed(found)):
            left_here, own, total, carried = cell.numbers(1, 1, 2, 2)
            if left_here != digit_of(before, place) or own != int(used[-1 - place]):
                return False
            if total != left_here + own or carried != total + carry:
                return False
            carry = carried // 10
        stated = int("".join(cell.digits[-1] for cell in found))
        return self.rest == stated + (before // 10**self.width + carry) * 10**self.width

    @property
    def result(self) -> str:
        return "".join(map(str, self.digits))
