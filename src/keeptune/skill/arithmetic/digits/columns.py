"""Sums and differences digit by digit, in columns with names.

7860.75 + 12.05 in six columns:
    a7007b8008c6107d0202e7007f5510    each column: its name, both digits, their sum in two digits
    f10e08d02c07b08a07                from the right: the column's sum with the carry of the one before it
A difference has, in place of a sum, 1 if the column has to borrow and the digit that is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from keeptune.skill.arithmetic.digits.numeral import names

Operation = Literal["+", "-"]


class Column(NamedTuple):
    """The result of one column before a carry comes in: a carry or borrow of its own, and a digit."""

    name: str
    carry: int
    digit: int


class Total(NamedTuple):
    """What columns come to: the lines written, the result's digits, and what the first column carries or borrows."""

    lines: list[str]
    digits: str
    carry: int


def combined(left: str, right: str, operation: Operation) -> Total:
    """Two numbers of equally many digits, added or subtracted."""
    columns, line = [], ""
    for name, a, b in zip(names(len(left)), left, right, strict=True):
        carry, digit = _column(int(a), int(b), operation)
        columns.append(Column(name, carry, digit))
        line += f"{name}{a}{b}{carry}{digit}"
    carried, digits, carry = _carried(columns, operation)
    return Total([line, carried], digits, carry)


def complement(digits: str) -> tuple[str, str]:
    """The line that takes a number from the next power of ten, from the right, and the digits that are left.

    A difference that had to borrow before its first column is this much below zero.
    """
    line, result, passing = "", "", True
    for name, digit in reversed(list(zip(names(len(digits)), digits, strict=True))):
        left = (10 - int(digit)) % 10 if passing else 9 - int(digit)
        passing = passing and digit == "0"
        line += f"{name}{left}"
        result = f"{left}{result}"
    return line, result


def _column(left: int, right: int, operation: Operation) -> tuple[int, int]:
    if operation == "+":
        return divmod(left + right, 10)
    return int(left < right), (left - right) % 10


def _carried(columns: Sequence[Column], operation: Operation) -> tuple[str, str, int]:
    line, digits, carry = "", "", 0
    for name, own, digit in reversed(columns):
        after = digit + carry if operation == "+" else digit - carry
        carry = own + int(not 0 <= after <= 9)
        line += f"{name}{carry}{after % 10}"
        digits = f"{after % 10}{digits}"
    return line, digits, carry
