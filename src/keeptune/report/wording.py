"""What the names in a run's files mean, in words, and the order in which kinds are told of."""

from __future__ import annotations

from dataclasses import dataclass

from keeptune.report import text
from keeptune.report.facts import Facts
from keeptune.report.shapes import BeforeAfter, Reading, Retained


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
    "whole": "all of the text, for want of a stated answer",
    "none": "no answer at all",
}


def kind_order(found: Facts) -> list[str]:
    """The scored kinds, the best learnt first."""
    scored = found.result.skill.tuned.by_kind
    return sorted(scored, key=lambda kind: (-scored[kind].accuracy, kind))


def reading_metrics(retained: Retained) -> list[tuple[str, BeforeAfter]]:
    """The reading scores by each metric and prompt, with their names; they are never mixed."""
    asked: list[Reading] = [retained, *([retained.other_prompt] if retained.other_prompt else [])]
    return [
        pair
        for own in asked
        for pair in (
            (f"{retained.metric}, {own.prompt} prompt", own),
            (f"contest, {own.prompt} prompt", own.contest_metric),
        )
    ]


def tasks(retained: Retained) -> list[list[str]]:
    """The tasks of the harness: name and metric, questions, base, tuned, what was kept with its interval."""
    return [
        [
            f"{name}, {own.metric}",
            text.count(own.n),
            text.decimal(own.base),
            text.decimal(own.tuned),
            f"{text.percent(own.ratio.point)} ({text.ratio_interval(own.ratio)})",
        ]
        for name, own in retained.tasks.items()
    ]


TASKS = ["task of lm-evaluation-harness", "questions", "base", "tuned", "kept, 95 %"]
"""The head of that table."""


def predictions(retained: Retained) -> list[list[str]]:
    """How well and how differently tokens are predicted: measure, base, tuned, change with its interval, tokens."""
    rows = []
    base, tuned = retained.base.answer_nll, retained.tuned.answer_nll
    if base is not None and tuned is not None:
        rows.append(["loss on the reference answers", _nats(base), _nats(tuned), f"{tuned - base:+.3f}", text.NONE])
    if loss := retained.token_loss:
        change = loss.difference
        shown = f"{change.point:+.3f} ({change.low95:+.3f} to {change.high95:+.3f})"
        rows.append(["loss on general text", _nats(loss.base), _nats(loss.tuned), shown, text.count(loss.tokens)])
    for what, words in (("general", "on general text"), ("skill", "on the skill’s prompts")):
        if moved := (retained.kl or {}).get(what):
            shown = f"{_nats(moved.low95)} to {_nats(moved.high95)}"
            rows.append([f"KL from the base {words}", "0", _nats(moved.point), shown, text.count(moved.tokens)])
    return rows


PREDICTIONS = ["nats a token", "base", "tuned", "change, 95 %", "tokens"]
"""The head of that table."""


def _nats(value: float) -> str:
    return text.decimal(value, 3)
