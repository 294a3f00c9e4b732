"""The report's wording: verdicts, names of policies and sources, and the rows of the reading and prediction tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from keeptune.config.ability_names import ABILITY_NAMES, TASK_PREFIX
from keeptune.evaluation.gate import DECIDING
from keeptune.report import text
from keeptune.report.finished_run import Facts
from keeptune.run_files.result import Result, Skill
from keeptune.run_files.retention import BeforeAfter, Divergence, Policy, Reading, Retained


@dataclass(frozen=True, slots=True)
class Wording:
    """A verdict in words: one word, one sentence, and what it does not cover."""

    word: str
    sentence: str
    scope: str


WORDS = {"pass": "Passed", "fail": "Failed", "undecided": "Undecided"}

VERDICTS: dict[Policy, dict[str, str]] = {
    "suite": {
        "pass": "Every ability that was measured, that the base has and that training did not practise is retained.",
        "fail": "It lost abilities that the base had.",
        "undecided": "The evidence does not decide yet.",
    },
    "contest": {
        "pass": "the base's score is retained.",
        "fail": "too much of the base's score is lost.",
        "undecided": "the evidence does not decide yet.",
    },
}
"""By policy. A sentence of the contest's policy follows what it was judged by."""

COUNTED_PASS = "Every ability that the recipe counts is retained."
"""The sentence of a pass where the recipe leaves measured abilities out of the verdict."""

POLICIES = {
    "2d4s": "two decimals or four significant digits: error at most 0.005 or 0.01 %, whichever is larger",
    "exact": "the same value, digit for digit",
    "rounded_as_given": "the exact value, correctly rounded to the last stated digit",
    "relative_1pct": "error at most 1 %",
    "isclose_1e-2": "error at most 0.01 plus 0.001 %",
}

SOURCES = {
    "marker": "after the final-answer marker ####",
    "boxed": "in a \\boxed{}",
    "last_number": "the last number, without a stated answer",
    "whole": "the whole text, without a stated answer",
    "none": "no answer",
}


def verdict_wording(result: Result) -> Wording:
    """The verdict of a run in words."""
    gate = result.gate
    sentence = VERDICTS[gate.policy][gate.verdict]
    if gate.policy == "contest":
        tasks = len(result.retained.tasks)
        harness = f"{tasks} {'task' if tasks == 1 else 'tasks'} of lm-evaluation-harness"
        basis = f"reading and {harness}" if tasks else "reading alone"
        sentence = f"Judged by {basis} (contest rule): {sentence}"
    elif gate.verdict == "pass" and _uncounted(result):
        sentence = COUNTED_PASS
    return Wording(WORDS[gate.verdict], sentence, " ".join(_scope(result)))


def skill_label(skill: Skill) -> str:
    """What the accuracy of the skill is: a share of right answers, or the mean of a grader's scores from 0 to 1."""
    return "Mean score on the test questions" if skill.mcnemar_p is None else "Test questions answered correctly"


def unmeasured(result: Result) -> str:
    """What the run did not measure, as one sentence."""
    measured = list(result.abilities) or ["reading", *(f"{TASK_PREFIX}{name}" for name in result.retained.tasks)]
    known = {*measured, *(["reading-en"] if not result.abilities else [])}
    missing = [name for name in ABILITY_NAMES if name not in known]
    if missing:
        return f"Not measured: {_listed(missing)} of the retention suite, and abilities outside it."
    return f"Nothing outside these abilities was measured: {_listed(measured)}."


def retained_count(result: Result) -> tuple[str, str]:
    """The number of counted abilities that are retained, and a note on the other abilities."""
    counted = Counter(ability.status for ability in result.abilities.values() if ability.counted)
    others = Counter(ability.status for ability in result.abilities.values() if not ability.counted)
    open_count = sum(others.pop(status, 0) for status in DECIDING)
    inside = [f"{counted[status]} {status}" for status in ("lost", "undecided") if counted[status]]
    outside = [f"{number} {status}" for status, number in others.items()]
    outside += [f"{open_count} by the recipe"] if open_count else []
    notes = [f"counted: {_listed(inside)}" if inside else "", f"not counted: {_listed(outside)}" if outside else ""]
    return f"{counted['retained']} of {counted.total()}", "; ".join(filter(None, notes))


def kind_order(finished: Facts) -> list[str]:
    """The scored kinds, the most accurate first."""
    scored = finished.result.skill.tuned.by_kind
    return sorted(scored, key=lambda kind: (-scored[kind].accuracy, kind))


def reading_metrics(retained: Retained) -> list[tuple[str, BeforeAfter]]:
    """The reading scores by metric and prompt, with their names. The two metrics are never mixed."""
    prompts: list[Reading] = [retained, *([retained.other_prompt] if retained.other_prompt else [])]
    return [
        pair
        for reading in prompts
        for pair in (
            (f"{retained.metric}, {reading.prompt} prompt", reading),
            (f"contest, {reading.prompt} prompt", reading.contest_metric),
        )
    ]


def tasks(retained: Retained) -> list[list[str]]:
    """The rows of lm-evaluation-harness tasks: name and metric, n, base, tuned, tuned / base with interval."""
    return [
        [
            f"{name}, {task.metric}",
            text.count(task.n),
            text.decimal(task.base),
            text.decimal(task.tuned),
            f"{text.percent(task.ratio.point)} ({text.ratio_interval(task.ratio)})",
        ]
        for name, task in retained.tasks.items()
    ]


TASKS = ["task of lm-evaluation-harness", "n", "base", "tuned", "tuned / base, 95 %"]
"""The head of that table."""


def predictions(retained: Retained) -> list[list[str]]:
    """The rows of losses and divergences: measure, base, tuned, change with interval, tokens."""
    rows = []
    base, tuned = retained.base.answer_nll, retained.tuned.answer_nll
    if base is not None and tuned is not None:
        rows.append(["loss on the reference answers", _nats(base), _nats(tuned), f"{tuned - base:+.3f}", text.NONE])
    if loss := retained.token_loss:
        change = loss.difference
        shown = f"{change.point:+.3f} ({change.low95:+.3f} to {change.high95:+.3f})"
        rows.append(["loss on general text", _nats(loss.base), _nats(loss.tuned), shown, text.count(loss.tokens)])
    for what, words in (("general", "general text"), ("skill", "the skill’s prompts")):
        if divergence := (retained.kl or {}).get(what):
            rows.append(_divergence_row(words, divergence))
    for what, modes in (retained.kl_on_answers or {}).items():
        for mode, divergence in modes.items():
            if divergence:
                rows.append(_divergence_row(f"{mode} answers to {what} prompts", divergence))
    return rows


PREDICTIONS = ["nats per token", "base", "tuned", "change, 95 %", "tokens"]
"""The head of that table."""


def _divergence_row(where: str, divergence: Divergence) -> list[str]:
    interval = f"{_nats(divergence.low95)} to {_nats(divergence.high95)}"
    return [f"KL from the base on {where}", "0", _nats(divergence.point), interval, text.count(divergence.tokens)]


def _nats(value: float) -> str:
    return text.decimal(value, 3)


def _uncounted(result: Result) -> list[str]:
    """Abilities that could decide and that the recipe does not count, with their status."""
    return [
        f"{name} ({ability.status})"
        for name, ability in result.abilities.items()
        if ability.status in DECIDING and not ability.counted
    ]


def _scope(result: Result) -> Iterable[str]:
    """Yields sentences on what the verdict does not cover, and on what is unchanged by construction."""
    if unchanged := result.unchanged:
        yield (
            f"By construction, the model is unchanged without its invocation {unchanged.invocation!r} (checked bit for "
            f"bit on {unchanged.prompts} prompts of the suite)."
        )
    if result.gate.policy == "suite":
        if uncounted := _uncounted(result):
            yield f"Measured but not counted: {_listed(uncounted)}."
    elif lost := [name for name, ability in result.abilities.items() if ability.status == "lost"]:
        yield f"The rule of the retention suite, which does not decide this verdict, finds lost: {_listed(lost)}."
    yield unmeasured(result)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
