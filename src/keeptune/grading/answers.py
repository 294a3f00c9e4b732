"""What graders and skills share: the type of an exact answer, and the marker that precedes a final answer."""

from __future__ import annotations

from fractions import Fraction

ANSWER_MARKER = "####"
"""What stands before the final answer on the last line of every written solution (the GSM8K convention)."""

Truth = Fraction | str
"""The exact answer: a rational number, or a normalised symbolic text where the answer is not a number."""
