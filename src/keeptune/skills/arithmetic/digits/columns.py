"""Column addition and subtraction, digit by digit, with named columns.

7860.75 + 12.05 in six columns:
    a70b80c61d02e70f55                each column: its name and both digits
    f5+5=10+0=10e7+0=07+1=08…         from the right: the two-digit sum, then that sum plus the carry
    0a7b8c7d2.e8f0                    the result from its first digit: the carry of the first column, then each column

In a difference, the two digits are the borrow (1 or 0) and the remaining digit: f5-7=18-0=18. If the first column
borrows, the result is negative. It is then listed a second time, as its absolute value.

Both operands of a step are next to its sign, and the result follows `=`. A small model learns such steps from a tenth
of the examples that it needs if it must look up the operands elsewhere (results/LOG.md).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from keeptune.skills.arithmetic.digits.numeral import Numeral, names, pair_digits

Operation = Literal["+", "-"]


class Total(NamedTuple):
    """Result of a column calculation: the lines, the digits of the absolute value, and whether it is negative."""

    lines: list[str]
    digits: str
    is_negative: bool


def add_columns(left: str, right: str, operation: Operation, decimals: int = 0) -> Total:
    """Add or subtract two numbers of equal length; the last `decimals` digits follow the point."""
    line, digits, carry = column_pass(left, right, operation)
    labels = list(names(len(left)))
    if operation == "+":
        digits, labels = f"{carry}{digits}", ["", *labels]
    lines = [pair_digits(left, right), line, Numeral(digits, len(digits) - decimals).list_digits(labels)]
    is_negative = operation == "-" and carry == 1
    if is_negative:
        digits = str(10 ** len(digits) - int(digits)).zfill(len(digits))
        lines.append(Numeral(digits, len(digits) - decimals).list_digits(labels))
    return Total(lines, digits, is_negative)


def column_pass(left: str, right: str, operation: Operation) -> tuple[str, str, int]:
    """Run through two numbers of equal length from the right.

    Returns the line, the digits of the result, and the carry or borrow of the first column.
    """
    line, digits, carry = "", "", 0
    for name, a, b in reversed(list(zip(names(len(left)), left, right, strict=True))):
        column_carry, digit = _combine_digits(int(a), int(b), operation)
        after = digit + carry if operation == "+" else digit - carry
        next_carry = column_carry + int(not 0 <= after <= 9)
        line += f"{name}{a}{operation}{b}={column_carry}{digit}{operation}{carry}={next_carry}{after % 10}"
        digits, carry = f"{after % 10}{digits}", next_carry
    return line, digits, carry


def _combine_digits(left: int, right: int, operation: Operation) -> tuple[int, int]:
    if operation == "+":
        return divmod(left + right, 10)
    return int(left < right), (left - right) % 10
