"""Type of exact answers and the marker before a final answer, shared by graders and skills."""

from __future__ import annotations

from fractions import Fraction

ANSWER_MARKER = "####"
"""Precedes the final answer on the last line of every rendered solution (the GSM8K convention)."""

Truth = Fraction | str
"""An exact answer: a rational number, or a normalized text if the answer is not a number."""
