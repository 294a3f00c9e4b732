"""The retention gate: whether a tuned model can be said to have kept its base's reading ability.

The verdict rests on the interval and not on the point, so a pass is a proof at 95 % and a small test set ends
undecided, not in a lucky pass.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isfinite

from keeptune.evaluation.gate import MINIMUM_BASE_TOTAL, Verdict
from keeptune.evaluation.statistics import Ratio


@dataclass(frozen=True, slots=True)
class Gate:
    """The verdict, the share of the base's score that had to be kept, and one sentence that says why.

    `more_questions` is about how many further ones would decide what is undecided; None where none would.
    """

    verdict: Verdict
    threshold: float
    reason: str
    more_questions: int | None = None


def verdict(
    f1: Ratio,
    em: Ratio,
    threshold: float,
    *,
    base_f1_total: float,
    base_em_total: float,
    questions: int,
    likelihood: Ratio | None = None,
) -> Gate:
    """Pass if all lower bounds reach the threshold, fail if any upper bound is below it, else undecided.

    `base_f1_total` and `base_em_total` are the base's scores summed over all questions, each from 0 to 1: how many
    right answers they amount to. A measure below MINIMUM_BASE_TOTAL proves nothing, neither a loss nor that nothing
    was lost; `likelihood`, tuned over base, of the reference answers' tokens then takes its place. Where that is not
    known, the gate can fail on the other measure but never pass.
    """
    totals = {"F1": base_f1_total, "EM": base_em_total}
    meaningless = [name for name in totals if not totals[name] >= MINIMUM_BASE_TOTAL]
    ratios = {name: ratio for name, ratio in (("F1", f1), ("EM", em)) if name not in meaningless}
    scores = " and ".join(f"{name} amounts to {totals[name]:.1f} right answers" for name in meaningless)
    few = f"The base's {scores}, fewer than {MINIMUM_BASE_TOTAL:.0f}, so a ratio to it is meaningless"
    if meaningless and likelihood:
        ratios["likelihood of the reference answers"] = likelihood
    if meaningless and not likelihood and not any(ratio.high95 < threshold for ratio in ratios.values()):
        return Gate("undecided", threshold, f"{few}, and the likelihood of the reference answers was not measured.")
    told = f"{few}; the likelihood of the reference answers decides instead. " if meaningless and likelihood else ""
    return _decided(ratios, threshold, questions, told)


@dataclass(frozen=True, slots=True)
class Task:
    """A further ability: tuned over base, the base's score summed over all questions, and how many these are."""

    name: str
    ratio: Ratio
    base_total: float
    questions: int


def with_tasks(gate: Gate, tasks: Sequence[Task]) -> Gate:
    """The gate where these abilities have to be kept, too: the worst verdict of all, and why, of each that has it."""
    gates = [gate]
    for task in tasks:
        if task.base_total < MINIMUM_BASE_TOTAL:
            few = f"The base's {task.name} amounts to {task.base_total:.1f} right answers, too few for a ratio to it."
            gates.append(Gate("undecided", gate.threshold, few))
        else:
            gates.append(_decided({task.name: task.ratio}, gate.threshold, task.questions, ""))
    worst = max((own.verdict for own in gates), key=("pass", "undecided", "fail").index)
    those = [own for own in gates if own.verdict == worst]
    more = [own.more_questions for own in those if own.more_questions is not None]
    needed = max(more) if len(more) == len(those) else None
    return Gate(worst, gate.threshold, " ".join(own.reason for own in those), needed)


def _decided(ratios: Mapping[str, Ratio], threshold: float, questions: int, told: str) -> Gate:
    """The verdict on abilities that a ratio means something for; `told` stands before the reason."""
    asked = f"the gate asks for {threshold:.1%}"
    lost = [name for name in ratios if ratios[name].high95 < threshold]
    unproven = [name for name in ratios if not ratios[name].low95 >= threshold]
    if lost:
        losses = " and ".join(f"{name} at most {ratios[name].high95:.1%}" for name in lost)
        return Gate("fail", threshold, f"{told}Kept of the base's score: {losses} (95 % interval); {asked}.")
    if unproven:
        doubts = " and ".join(f"{name} {ratios[name].low95:.1%} to {ratios[name].high95:.1%}" for name in unproven)
        more = _more_questions(ratios.values(), threshold, questions)
        need = "no number of questions would decide" if more is None else f"about {more:,} more questions would decide"
        return Gate(
            "undecided",
            threshold,
            f"{told}Kept of the base's score: {doubts} (95 % interval); {asked}. If it goes on like this, {need}.",
            more,
        )
    kept = " and ".join(f"{name} at least {ratio.low95:.1%}" for name, ratio in ratios.items())
    return Gate("pass", threshold, f"{told}Kept of the base's score: {kept} (95 % interval); {asked}.")


def _more_questions(ratios: Collection[Ratio], threshold: float, questions: int) -> int | None:
    """How many questions beyond these would move an interval off the threshold, if they turn out as these did.

    An interval narrows with the root of their number. One measure that is below the threshold is enough to fail, and to
    pass takes both; where a measure stands on the threshold, or is no number, none would decide: None.
    """
    below = [(ratio.high95 - ratio.point) / (threshold - ratio.point) for ratio in ratios if ratio.point < threshold]
    above = [(ratio.point - ratio.low95) / (ratio.point - threshold) for ratio in ratios if ratio.point > threshold]
    widest = min(below) if below else max(above) if len(above) == len(ratios) else float("inf")
    return max(1, ceil(questions * (widest**2 - 1))) if isfinite(widest) else None
