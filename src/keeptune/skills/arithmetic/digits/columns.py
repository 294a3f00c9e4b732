"""Sums and differences digit by digit, in columns with names.

7860.75 + 12.05 in six columns:
    a70b80c61d02e70f55                each column: its name and both digits
    f5+5=10+0=10e7+0=07+1=08…         from the right: their sum in two digits, and that with the carry before it
    0a7b8c7d2.e8f0                    the result from its first digit: what the first column carries, then each column
A difference has, in place of a sum, 1 if the column has to borrow and the digit that is left: f5-7=18-0=18. One that
had to borrow before its first column is listed once more, as what it is below zero.

Every number of a step stands beside the sign it is joined by, and the result behind `=`: a small model learns such
steps from a tenth of the examples that it needs where it has to look the numbers up while it adds (results/LOG.md).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from keeptune.skills.arithmetic.digits.numeral import Numeral, names, under_each_other

Operation = Literal["+", "-"]


class Total(NamedTuple):
    """What columns come to: the lines written, the digits of the result without its sign, and if it is below zero."""

    lines: list[str]
    digits: str
    is_negative: bool


def combined(left: str, right: str, operation: Operation, decimals: int = 0) -> Total:
    """Two numbers of equally many digits, added or subtracted; the last so many digits stand behind the point."""
    line, digits, carry = passed(left, right, operation)
    labels = list(names(len(left)))
    if operation == "+":
        digits, labels = f"{carry}{digits}", ["", *labels]
    lines = [under_each_other(left, right), line, Numeral(digits, len(digits) - decimals).listed(labels)]
    is_negative = operation == "-" and carry == 1
    if is_negative:
        digits = str(10 ** len(digits) - int(digits)).zfill(len(digits))
        lines.append(Numeral(digits, len(digits) - decimals).listed(labels))
    return Total(lines, digits, is_negative)


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


def _column(left: int, right: int, operation: Operation) -> tuple[int, int]:
    if operation == "+":
        return divmod(left + right, 10)
    return int(left < right), (left - right) % 10
