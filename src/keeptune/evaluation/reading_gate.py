"""Verdict on the reading score alone, and on tasks of lm-evaluation-harness: the policy `gate: contest` of a recipe.

The verdict rests on 95 % intervals and not on points. A pass is therefore a proof, and a small test set is undecided
instead of passing by chance. The verdict over all abilities of the retention suite is in gate.py. Runs store the
reasons written here and `verify` compares them, so their wording must not change.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, exp, isfinite

from keeptune.evaluation.gate import MINIMUM_BASE_TOTAL, MINIMUM_QUESTIONS, Verdict
from keeptune.evaluation.statistics import Ratio

_CLUELESS_NATS = 5.0
"""A base with more loss per token of the reference answers cannot read. Words by their frequency alone have 7 to 9."""


@dataclass(frozen=True, slots=True)
class ReadingVerdict:
    """The verdict, the share of the base's score that must be kept, and the reason.

    `more_questions` estimates how many further questions would decide an undecided verdict; None if none would.
    """

    verdict: Verdict
    threshold: float
    reason: str
    more_questions: int | None = None


def judge_reading(
    f1: Ratio,
    em: Ratio,
    threshold: float,
    *,
    base_f1_total: float,
    base_em_total: float,
    questions: int,
    likelihood: Ratio | None = None,
    base_answer_nats: float = 0.0,
) -> ReadingVerdict:
    """Pass if all lower bounds reach the threshold, fail if an upper bound is below it, else undecided.

    A measure whose base total is below MINIMUM_BASE_TOTAL proves neither a loss nor its absence. The likelihood of the
    reference answers then replaces it, if the base finds them likelier than a model without any knowledge of language
    would. Without a likelihood, the gate can fail on the other measure but never pass. Fewer than MINIMUM_QUESTIONS
    questions decide nothing.

    Args:
        f1: tuned over base.
        em: tuned over base.
        threshold: the share of the base's score that must be kept.
        base_f1_total: the base's F1, from 0 to 1 per question, summed over all questions.
        base_em_total: the same for EM.
        questions: number of questions.
        likelihood: ratio of the probabilities of the reference answers' tokens, tuned over base; None if not measured.
        base_answer_nats: the base's loss on the reference answers, in nats per token.
    """
    if questions < MINIMUM_QUESTIONS:
        missing = MINIMUM_QUESTIONS - questions
        reason = f"{questions} reading questions decide nothing; a verdict needs at least {MINIMUM_QUESTIONS}."
        return ReadingVerdict("undecided", threshold, reason, missing)
    totals = {"F1": base_f1_total, "EM": base_em_total}
    meaningless = [name for name in totals if not totals[name] >= MINIMUM_BASE_TOTAL]
    ratios = {name: ratio for name, ratio in (("F1", f1), ("EM", em)) if name not in meaningless}
    scores = " and ".join(f"{name} amounts to {totals[name]:.1f} right answers" for name in meaningless)
    few = f"The base's {scores}, fewer than {MINIMUM_BASE_TOTAL:.0f}, so a ratio to it is meaningless"
    if meaningless and likelihood and base_answer_nats > _CLUELESS_NATS:
        reason = (
            f"{few}. It gives a token of the reference answers a probability of {exp(-base_answer_nats):.2%}, so it "
            "has no ability that could be lost."
        )
        return ReadingVerdict("undecided", threshold, reason)
    if meaningless and likelihood:
        ratios["likelihood of the reference answers"] = likelihood
    if meaningless and not likelihood and not any(ratio.high95 < threshold for ratio in ratios.values()):
        reason = f"{few}, and the likelihood of the reference answers was not measured."
        return ReadingVerdict("undecided", threshold, reason)
    prefix = f"{few}; the likelihood of the reference answers decides instead. " if meaningless and likelihood else ""
    return _judge_ratios(ratios, threshold, questions, prefix)


@dataclass(frozen=True, slots=True)
class TaskScore:
    """A task of the harness: its ratio (tuned over base), the base's summed score, and the number of questions."""

    name: str
    ratio: Ratio
    base_total: float
    questions: int


def combine_with_tasks(reading: ReadingVerdict, tasks: Sequence[TaskScore]) -> ReadingVerdict:
    """The worst verdict over reading and all tasks, with the reasons of all that have it."""
    verdicts = [reading]
    for task in tasks:
        if task.base_total < MINIMUM_BASE_TOTAL:
            few = f"The base's {task.name} amounts to {task.base_total:.1f} right answers, too few for a ratio to it."
            verdicts.append(ReadingVerdict("undecided", reading.threshold, few))
        else:
            verdicts.append(_judge_ratios({task.name: task.ratio}, reading.threshold, task.questions, ""))
    worst = max((part.verdict for part in verdicts), key=("pass", "undecided", "fail").index)
    deciding = [part for part in verdicts if part.verdict == worst]
    more = [part.more_questions for part in deciding if part.more_questions is not None]
    more_questions = max(more) if len(more) == len(deciding) else None
    return ReadingVerdict(worst, reading.threshold, " ".join(part.reason for part in deciding), more_questions)


def _judge_ratios(ratios: Mapping[str, Ratio], threshold: float, questions: int, prefix: str) -> ReadingVerdict:
    """The verdict on meaningful ratios by name. The reason begins with `prefix`."""
    required = f"the gate asks for {threshold:.1%}"
    lost = [name for name in ratios if ratios[name].high95 < threshold]
    unproven = [name for name in ratios if not ratios[name].low95 >= threshold]
    if lost:
        losses = " and ".join(f"{name} at most {ratios[name].high95:.1%}" for name in lost)
        reason = f"{prefix}Kept of the base's score: {losses} (95 % interval); {required}."
        return ReadingVerdict("fail", threshold, reason)
    if unproven:
        doubts = " and ".join(f"{name} {ratios[name].low95:.1%} to {ratios[name].high95:.1%}" for name in unproven)
        more = _more_questions(ratios.values(), threshold, questions)
        need = "no number of questions would decide" if more is None else f"about {more:,} more questions would decide"
        reason = f"{prefix}Kept of the base's score: {doubts} (95 % interval); {required}. "
        return ReadingVerdict("undecided", threshold, f"{reason}If it goes on like this, {need}.", more)
    bounds = " and ".join(f"{name} at least {ratio.low95:.1%}" for name, ratio in ratios.items())
    return ReadingVerdict("pass", threshold, f"{prefix}Kept of the base's score: {bounds} (95 % interval); {required}.")


def _more_questions(ratios: Collection[Ratio], threshold: float, questions: int) -> int | None:
    """Number of further questions that would move an interval off the threshold if the points stay where they are.

    A half-width is proportional to 1 / √n, so n · ((half-width / distance)² − 1) questions are missing.
    One measure below the threshold is enough to fail, and all must be above it to pass. None if a measure is on the
    threshold or is not a number, because then no number of questions would decide.
    """
    below = [(ratio.high95 - ratio.point) / (threshold - ratio.point) for ratio in ratios if ratio.point < threshold]
    above = [(ratio.point - ratio.low95) / (ratio.point - threshold) for ratio in ratios if ratio.point > threshold]
    widest = min(below) if below else max(above) if len(above) == len(ratios) else float("inf")
    return max(1, ceil(questions * (widest**2 - 1))) if isfinite(widest) else None
