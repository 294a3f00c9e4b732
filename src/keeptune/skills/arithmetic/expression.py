"""Exact evaluation of arithmetic expressions.

Evaluation takes up to two thirds of the time needed to render and verify a solution. Values are therefore pairs of
integers (numerator, denominator) that are never reduced. They are only compared, by cross-multiplication.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction

Ratio = tuple[int, int]
"""A numerator and a nonzero denominator, not reduced; the denominator may be negative."""

TWO_NUMBERS = re.compile(r"[0-9.] +[0-9.]")
"""Two numbers with only spaces between them. Callers that remove spaces must reject such text."""

_TOKEN = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:E[+-][0-9]+)?|[-+*/()]")
_NUMBER = re.compile(r"([0-9]+)(?:\.([0-9]+))?(?:E([+-][0-9]+))?")
_INTEGER_SUM = re.compile(r"[0-9]+(?:\*[0-9]+)?(?:\+[0-9]+(?:\*[0-9]+)?)*")


def evaluate(expression: str) -> Fraction:
    """Return the exact value of an expression with + - * / and brackets.

    Raises:
        ValueError: If the text is anything else.
        ZeroDivisionError: If it divides by zero.
    """
    return Fraction(*ratio(expression))


def ratio(expression: str) -> Ratio:
    """Return the same value without reducing it to lowest terms; raises the same errors as `evaluate`."""
    if _INTEGER_SUM.fullmatch(expression):
        return _evaluate_integer_sum(expression), 1
    tokens = _TOKEN.findall(expression)
    if "".join(tokens) != expression or not tokens:
        raise ValueError(f"{expression!r} is not an arithmetic expression")
    return _evaluate_sum(iter(tokens), bracketed=False)


def same(left: Ratio, right: Ratio) -> bool:
    """Whether two ratios are the same number."""
    return left[0] * right[1] == right[0] * left[1]


def _evaluate_integer_sum(expression: str) -> int:
    """Return the value of a sum of integers and two-factor products, the most common form of a step."""
    total = 0
    for term in expression.split("+"):
        left, times, right = term.partition("*")
        total += int(left) * int(right) if times else int(left)
    return total


def _evaluate_sum(tokens: Iterator[str], bracketed: bool) -> Ratio:
    """Return the value of the tokens up to the end, or up to the closing bracket."""
    total, total_bottom = 0, 1
    term, term_bottom = _evaluate_operand(tokens)
    for token in tokens:
        if token == "*":
            factor, factor_bottom = _evaluate_operand(tokens)
            term, term_bottom = term * factor, term_bottom * factor_bottom
        elif token == "/":
            factor, factor_bottom = _evaluate_operand(tokens)
            if not factor:
                raise ZeroDivisionError("division by zero")
            term, term_bottom = term * factor_bottom, term_bottom * factor
        elif token == "+" or token == "-":
            total, total_bottom = total * term_bottom + term * total_bottom, total_bottom * term_bottom
            term, term_bottom = _evaluate_operand(tokens)
            if token == "-":
                term = -term
        elif token == ")" and bracketed:
            bracketed = False
            break
        else:
            raise ValueError(f"unexpected {token!r}")
    if bracketed:
        raise ValueError("a bracket is not closed")
    return total * term_bottom + term * total_bottom, total_bottom * term_bottom


def _evaluate_operand(tokens: Iterator[str]) -> Ratio:
    """Return the value of the next number or bracket, with the minus signs before it."""
    token, sign = next(tokens, ""), 1
    while token == "-":
        token, sign = next(tokens, ""), -sign
    if token.isdecimal():
        return sign * int(token), 1
    if token == "(":
        value, bottom = _evaluate_sum(tokens, bracketed=True)
        return sign * value, bottom
    match = _NUMBER.fullmatch(token)
    if match is None:
        raise ValueError(f"expected a number, got {token!r}" if token else "the expression is incomplete")
    whole, decimals, exponent = match.groups(default="")
    digits, power = sign * int(whole + decimals), int(exponent or 0) - len(decimals)
    return (digits * 10**power, 1) if power >= 0 else (digits, 10**-power)
