"""Sums and differences digit by digit, in columns with names.

7860.75 + 12.05 in six columns:
    a70b80c61d02e70f55                each column: its name and both digits
    f5+5=10+0=10e7+0=07+1=08…         from the right: their sum in two digits, and that with the carry before it
A difference has, in place of a sum, 1 if the column has to borrow and the digit that is left: f5-7=18-0=18.

Every number of a step stands beside the sign it is joined by, and the result behind `=`: a small model learns such
steps from a tenth of the examples that it needs where it has to look the numbers up while it adds (results/LOG.md).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from keeptune.skill.arithmetic.digits.numeral import names, under_each_other

Operation = Literal["+", "-"]


class Total(NamedTuple):
    """What columns come to: the lines written, the result's digits, and what the first column carries or borrows."""

    lines: list[str]
    digits: str
    carry: int


def combined(left: str, right: str, operation: Operation) -> Total:
    """Two numbers of equally many digits, added or subtracted."""
    line, digits, carry = passed(left, right, operation)
    return Total([under_each_other(left, right), line], digits, carry)


def passed(left: str, right: str, operation: Operation) -> tuple[str, str, int]:
    """One pass from the right through two numbers of equally many digits: its line, the digits of the result, and
    what the first column carries or borrows."""
    line, digits, carry = "", "", 0
    for name, a, b in reversed(list(zip(names(len(left)), left, right, strict=True))):
        own, digit = _column(int(a), int(b), operation)
        after = digit + carry if operation == "+" else digit - carry
        passed_on = own + int(not 0 <= after <= 9)
        line += f"{name}{a}{operation}{b}={own}{digit}{operation}{carry}={passed_on}{after % 10}"
        digits, carry = f"{after % 10}{digits}", passed_on
    return line, digits, carry


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
