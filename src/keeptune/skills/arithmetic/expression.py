"""The exact value of a written expression.

Two thirds of the time that it takes to write and prove a solution went into this, so a value is a pair of integers,
numerator and denominator, that nobody reduces: only comparisons follow, and they multiply crosswise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction

Ratio = tuple[int, int]
"""A numerator and a denominator other than zero, not in lowest terms; the denominator may be negative."""

TWO_NUMBERS = re.compile(r"[0-9.] +[0-9.]")
"""Two numbers side by side: whoever takes the spaces out of an expression must not make one of them."""

_TOKEN = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:E[+-][0-9]+)?|[-+*/()]")
_NUMBER = re.compile(r"([0-9]+)(?:\.([0-9]+))?(?:E([+-][0-9]+))?")
_WHOLE_SUM = re.compile(r"[0-9]+(?:\*[0-9]+)?(?:\+[0-9]+(?:\*[0-9]+)?)*")


def evaluate(expression: str) -> Fraction:
    """The exact value of numbers with + - * / and brackets.

    errors: ValueError when it is anything else; ZeroDivisionError.
    """
    return Fraction(*ratio(expression))


def ratio(expression: str) -> Ratio:
    """The same value without the cost of its lowest terms. errors: as `evaluate`."""
    if _WHOLE_SUM.fullmatch(expression):
        return _whole_sum(expression), 1
    tokens = _TOKEN.findall(expression)
    if "".join(tokens) != expression or not tokens:
        raise ValueError(f"{expression!r} is not arithmetic")
    return _sum(iter(tokens), bracketed=False)


def same(left: Ratio, right: Ratio) -> bool:
    """Whether two ratios are one number."""
    return left[0] * right[1] == right[0] * left[1]


def _whole_sum(expression: str) -> int:
    """A sum of integers and products of two integers, which most lines of long arithmetic are."""
    total = 0
    for term in expression.split("+"):
        left, times, right = term.partition("*")
        total += int(left) * int(right) if times else int(left)
    return total


def _sum(tokens: Iterator[str], bracketed: bool) -> Ratio:
    """The value of the tokens up to the end, or up to the bracket that closes."""
    total, total_below = 0, 1
    term, term_below = _atom(tokens)
    for token in tokens:
        if token == "*":
            factor, below = _atom(tokens)
            term, term_below = term * factor, term_below * below
        elif token == "/":
            factor, below = _atom(tokens)
            if not factor:
                raise ZeroDivisionError("a division by zero")
            term, term_below = term * below, term_below * factor
        elif token == "+" or token == "-":
            total, total_below = total * term_below + term * total_below, total_below * term_below
            term, term_below = _atom(tokens)
            if token == "-":
                term = -term
        elif token == ")" and bracketed:
            bracketed = False
            break
        else:
            raise ValueError(f"{token!r} is left over")
    if bracketed:
        raise ValueError("a bracket is not closed")
    return total * term_below + term * total_below, total_below * term_below


def _atom(tokens: Iterator[str]) -> Ratio:
    """The number, or the bracket, that the next tokens are, with the minus signs before it."""
    token, sign = next(tokens, ""), 1
    while token == "-":
        token, sign = next(tokens, ""), -sign
    if token.isdecimal():
        return sign * int(token), 1
    if token == "(":
        value, below = _sum(tokens, bracketed=True)
        return sign * value, below
    match = _NUMBER.fullmatch(token)
    if match is None:
        raise ValueError(f"{token!r} stands where a number should" if token else "it ends in the middle")
    whole, decimals, exponent = match.groups(default="")
    digits, power = sign * int(whole + decimals), int(exponent or 0) - len(decimals)
    return (digits * 10**power, 1) if power >= 0 else (digits, 10**-power)
