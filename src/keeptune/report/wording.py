"""What the names in a run's files mean, in words, and the order in which kinds are told of."""

from __future__ import annotations

from dataclasses import dataclass

from keeptune.report.facts import Facts
from keeptune.report.shapes import BeforeAfter, Retained


@dataclass(frozen=True, slots=True)
class Wording:
    """A verdict as a reader meets it."""

    word: str
    sentence: str


VERDICTS = {
    "pass": Wording("Passed", "It kept what it knew."),
    "fail": Wording("Failed", "It lost too much of what it knew."),
    "undecided": Wording("Undecided", "There is no proof that it kept what it knew, and none that it did not."),
}

POLICIES = {
    "2d4s": "two decimals or four significant digits: off by at most 0.005 or a ten-thousandth, whichever is more",
    "exact": "the same value, digit for digit",
    "rounded_as_given": "the exact value, correctly rounded to the last digit given",
    "relative_1pct": "off by at most 1 %",
    "isclose_1e-2": "off by at most 0.01 plus a hundred-thousandth",
}

SOURCES = {
    "marker": "after the final-answer marker ####",
    "boxed": "in a \\boxed{}",
    "last_number": "the last number, for want of a stated answer",
    "none": "no answer at all",
}


def kind_order(found: Facts) -> list[str]:
    """The scored kinds, the best learnt first."""
    scored = found.result.skill.tuned.by_kind
    return sorted(scored, key=lambda kind: (-scored[kind].accuracy, kind))


def reading_metrics(retained: Retained) -> list[tuple[str, BeforeAfter]]:
    """The reading scores by each metric, with its name; the metrics are never mixed."""
    return [(retained.metric, retained), ("contest", retained.contest_metric)]
