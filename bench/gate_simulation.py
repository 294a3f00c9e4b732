"""Error rates, power and coverage of the retention verdict, measured on simulated pairs with planted effects.

    python bench/gate_simulation.py [--pairs N] [--changed SHARE]

A simulated pair has the scores of a base and a tuned model on eight abilities, with the sizes of the retention suite.
The true ratio (or loss difference) of each ability is known, so the script counts how often `judge` is wrong.

Model of an answer: a latent normal value, the sum of a passage effect, a question effect and answer noise. Thresholds
turn it into a score. The tuned model repeats the base's noise, except on a random share of the questions where it draws
new noise; this share makes `--changed` of the scores differ when nothing is lost. A planted loss lowers all latent
values of the tuned model by a constant. The constant is exact: it solves for the expected score. No model is needed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import ceil, log, sqrt
from statistics import NormalDist, fmean
from typing import Any, Literal

import numpy as np
from common import write_result

from keeptune.evaluation.gate import AbilityScores, GateResult, Kind, Limits, Measurement, judge
from keeptune.score.statistics import FloatArray, wilson

Effect = Literal["none", "at limit", "20 points"]

LOOKS = 5
RESAMPLES = 1000
LIMITS = Limits()
PASSAGE_VARIANCE, QUESTION_VARIANCE = 0.2, 0.3
"""Shares of the latent variance; the rest is answer noise."""
CHANGE_CONCENTRATION = 10.0
"""A passage's share of redrawn answers is Beta-distributed with this concentration, so that changes cluster."""
REDRAWN_PASSAGE_VARIANCE = 0.1
"""Share of the variance of redrawn noise that a passage shares."""
LOSS_SD, BASE_LOSS, BASE_LOSS_SD, TEXT_TOKENS = 0.05, 3.0, 0.5, (60, 141)
_NORMAL = NormalDist()


@dataclass(frozen=True)
class SimulatedAbility:
    """Size and scores of one ability. `survival[k]` is the probability that the base scores at least (k + 1) / K."""

    name: str
    clusters: int
    cluster_size: int
    survival: tuple[float, ...] = ()
    chance: float = 0.0
    kind: Kind = "score"

    @property
    def questions(self) -> int:
        return self.clusters * self.cluster_size

    @property
    def thresholds(self) -> FloatArray:
        """Latent values from which on the score is 1/K, 2/K … 1."""
        return np.array([-_NORMAL.inv_cdf(share) for share in self.survival])

    def mean(self, shift: float = 0.0) -> float:
        """The expected score when all latent values are lower by `shift`."""
        return fmean(_NORMAL.cdf(-(threshold + shift)) for threshold in self.thresholds.tolist())

    def shift(self, effect: Effect) -> float:
        """The constant that plants this effect: latent units for scores, nats per token for losses."""
        if effect == "none":
            return 0.0
        limit = LIMITS.of(self.name, self.kind)
        if self.kind == "loss":
            return limit if effect == "at limit" else 2 * limit
        target = self.mean() * limit if effect == "at limit" else self.mean() - 0.2
        low, high = 0.0, 10.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if self.mean(middle) > target else (low, middle)
        return low

    def redrawn(self, changed: float) -> float:
        """The share of answers with new noise that makes `changed` of the scores differ when nothing is lost."""
        common = PASSAGE_VARIANCE + QUESTION_VARIANCE
        values = np.linspace(-6, 6, 601)
        weights = np.exp(-0.5 * values**2)
        differs = []
        for value in (values * sqrt(common)).tolist():
            above = [_NORMAL.cdf((value - threshold) / sqrt(1 - common)) for threshold in self.thresholds.tolist()]
            grades = -np.diff([1.0, *above, 0.0])
            differs.append(1 - float((grades**2).sum()))
        share = changed / float(np.average(differs, weights=weights))
        if share >= 1:
            raise SystemExit(f"--changed {changed} is more than the answer noise of {self.name} can change")
        return share


ABILITIES = (
    SimulatedAbility("knowledge", 110, 4, (0.78,), 0.25),
    SimulatedAbility("commonsense", 80, 4, (0.66,), 0.25),
    SimulatedAbility("grammar", 876, 1, (0.72,), 0.5),
    SimulatedAbility("instructions", 210, 1, (0.60, 0.30)),
    SimulatedAbility("reading-en", 50, 5, tuple(np.linspace(0.64, 0.30, 10).tolist())),
    SimulatedAbility("refusal", 105, 1, (0.80,), 0.5),
    SimulatedAbility("long-context", 20, 6, (0.50,), 1 / 6),
    SimulatedAbility("general-text", 64, 1, chance=log(50_000), kind="loss"),
)
SCORE_ABILITIES = tuple(ability.name for ability in ABILITIES if ability.kind == "score")
ALL = tuple(ability.name for ability in ABILITIES)
WEAK_BASE = (replace(ABILITIES[0], survival=(0.34,)), *ABILITIES[1:])
"""As `ABILITIES`, with a base whose knowledge is little above chance."""


class Simulator:
    """Draws the scores of both models; the constants of each ability are computed once."""

    def __init__(self, abilities: Sequence[SimulatedAbility], changed: float) -> None:
        self.abilities = abilities
        self._redrawn = {own.name: own.redrawn(changed) if changed else 0.0 for own in abilities if own.survival}
        self._shifts: dict[tuple[str, Effect], float] = {}

    def draw(self, effects: Mapping[str, Effect], generator: np.random.Generator) -> list[AbilityScores]:
        """All abilities of one pair; abilities without an entry in `effects` do not change in expectation."""
        return [self._ability(ability, effects.get(ability.name, "none"), generator) for ability in self.abilities]

    def _ability(self, ability: SimulatedAbility, effect: Effect, generator: np.random.Generator) -> AbilityScores:
        key = (ability.name, effect)
        shift = self._shifts.setdefault(key, ability.shift(effect)) if key not in self._shifts else self._shifts[key]
        clusters = np.repeat(np.arange(ability.clusters), ability.cluster_size)
        weights = np.ones(ability.questions)
        if ability.kind == "loss":
            weights = generator.integers(*TEXT_TOKENS, size=ability.questions).astype(np.float64)
            base = generator.normal(BASE_LOSS, BASE_LOSS_SD, ability.questions) * weights
            tuned = base + generator.normal(shift, LOSS_SD, ability.questions) * weights
        else:
            base, tuned = self._scores(ability, shift, clusters, generator)
        questions = ability.questions
        measurement = Measurement(
            "value", ability.kind, base, tuned, clusters.tolist(), weights, ability.chance, questions
        )
        return AbilityScores(ability.name, (measurement,))

    def _scores(
        self, ability: SimulatedAbility, shift: float, clusters: Any, generator: np.random.Generator
    ) -> tuple[FloatArray, FloatArray]:
        normal, passages, questions = generator.standard_normal, ability.clusters, ability.questions
        common = sqrt(PASSAGE_VARIANCE) * normal(passages)[clusters] + sqrt(QUESTION_VARIANCE) * normal(questions)
        noise_sd = sqrt(1 - PASSAGE_VARIANCE - QUESTION_VARIANCE)
        base = common + noise_sd * normal(questions)
        tuned = base.copy()
        if share := self._redrawn[ability.name]:
            concentration = CHANGE_CONCENTRATION
            shares = generator.beta(share * concentration, (1 - share) * concentration, passages)
            new = sqrt(REDRAWN_PASSAGE_VARIANCE) * normal(passages)[clusters]
            new += sqrt(1 - REDRAWN_PASSAGE_VARIANCE) * normal(questions)
            tuned = np.where(generator.random(questions) < shares[clusters], common + noise_sd * new, base)
        thresholds = ability.thresholds
        levels = len(thresholds)
        return np.searchsorted(thresholds, base) / levels, np.searchsorted(thresholds, tuned - shift) / levels


@dataclass(frozen=True)
class Goal:
    """A figure of a scenario and the bound that it should keep."""

    figure: str
    at_most: float | None = None
    at_least: float | None = None


@dataclass(frozen=True)
class Scenario:
    """What is planted in pair number i (`effects`), which ability is the target, and what should come out."""

    name: str
    looks: int
    effects: Callable[[int], Mapping[str, Effect]]
    target: Callable[[int], str | None]
    goals: tuple[Goal, ...]
    abilities: tuple[SimulatedAbility, ...] = ABILITIES


def score_target(pair: int) -> str:
    """The abilities that are scores, in turn."""
    return SCORE_ABILITIES[pair % len(SCORE_ABILITIES)]


def any_target(pair: int) -> str:
    """All abilities in turn."""
    return ALL[pair % len(ALL)]


def scenarios() -> list[Scenario]:
    """All scenarios, each evaluated on all questions at once and in LOOKS looks."""
    made = []
    for looks, mode in ((1, ""), (LOOKS, ", sequential")):
        saved = (Goal("mean_share_saved", at_least=0.4),) if looks > 1 else ()
        made += [
            Scenario(
                f"1 no change{mode}", looks, lambda _: {}, lambda _: None, (Goal("any_lost", at_most=0.05), *saved)
            ),
            Scenario(
                f"2 all at the limit{mode}",
                looks,
                lambda _: dict.fromkeys(ALL, "at limit"),
                lambda _: None,
                (Goal("pass", at_most=0.05), Goal("any_lost", at_most=0.05)),
            ),
            Scenario(
                f"3 one loses 20 points{mode}",
                looks,
                lambda pair: {score_target(pair): "20 points"},
                score_target,
                (Goal("target_lost", at_least=0.9), Goal("pass", at_most=0.05)),
            ),
            Scenario(
                f"4 one at the limit{mode}",
                looks,
                lambda pair: {any_target(pair): "at limit"},
                any_target,
                (Goal("pass", at_most=0.05),),
            ),
            Scenario(f"7 weak base{mode}", looks, lambda _: {}, lambda _: "knowledge", (), WEAK_BASE),
        ]
    return sorted(made, key=lambda scenario: scenario.looks)


@dataclass(frozen=True)
class Outcome:
    """The verdict on one simulated pair and the number of questions that it took per ability."""

    result: GateResult
    target: str | None
    questions: dict[str, int]


def first_looks(scores: AbilityScores, ability: SimulatedAbility, looks: int) -> AbilityScores:
    """The scores on the clusters of the first `looks` looks. Clusters are independent draws: their order is random."""
    measurement = scores.measurements[0]
    end = min(ability.clusters, ceil(ability.clusters / LOOKS) * looks) * ability.cluster_size
    part = replace(
        measurement,
        base=measurement.base[:end],
        tuned=measurement.tuned[:end],
        clusters=measurement.clusters[:end],
        weights=measurement.weights[:end],
        asked=end,
    )
    return replace(scores, measurements=(part,))


def judge_sequentially(
    scores: Sequence[AbilityScores], abilities: Sequence[SimulatedAbility], seed: int
) -> tuple[GateResult, dict[str, int]]:
    """The verdict and the questions per ability, by the rules of keeptune.evaluation.retention.evaluate_sequentially.

    After each look, only counted abilities that are undecided get further questions. A failed verdict ends the run.
    """
    growing, seen = {own.name for own in abilities}, dict.fromkeys((own.name for own in abilities), 0)
    result: GateResult | None = None
    data: list[AbilityScores] = []
    for look in range(1, LOOKS + 1):
        seen.update(dict.fromkeys(growing, look))
        data = [first_looks(own, size, seen[own.name]) for own, size in zip(scores, abilities, strict=True)]
        result = judge(data, LIMITS, resamples=RESAMPLES, seed=seed, looks=LOOKS)
        growing &= {own.name for own in result.abilities if own.status == "undecided" and own.counted}
        if result.verdict == "fail" or not growing:
            break
    assert result is not None
    return result, {own.name: len(own.measurements[0].base) for own in data}


def simulate(scenario: Scenario, number: int, pairs: int, changed: float) -> list[Outcome]:
    """The outcomes of `pairs` pairs; pair i of scenario `number` has its own seed."""
    simulator, outcomes = Simulator(scenario.abilities, changed), []
    for pair in range(pairs):
        scores = simulator.draw(scenario.effects(pair), np.random.default_rng([number, pair]))
        if scenario.looks == 1:
            result = judge(scores, LIMITS, resamples=RESAMPLES, seed=pair)
            questions = {own.name: own.questions for own in scenario.abilities}
        else:
            result, questions = judge_sequentially(scores, scenario.abilities, pair)
        outcomes.append(Outcome(result, scenario.target(pair), questions))
    return outcomes


def share(hits: Iterable[bool]) -> dict[str, float]:
    """A share with its 95 % interval (Wilson) and the number of trials."""
    values = [bool(hit) for hit in hits]
    low, high = wilson(sum(values), len(values))
    return {"share": sum(values) / max(1, len(values)), "low95": low, "high95": high, "n": len(values)}


def summary(scenario: Scenario, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """All figures of a scenario, with `goals` as true or false."""
    total = sum(own.questions for own in scenario.abilities)
    figures: dict[str, Any] = {
        verdict: share(outcome.result.verdict == verdict for outcome in outcomes)
        for verdict in ("pass", "fail", "undecided")
    }
    figures["any_lost"] = share(any(own.status == "lost" for own in one.result.abilities) for one in outcomes)
    figures["abilities"] = {}
    for place, ability in enumerate(scenario.abilities):
        chosen = [one for one in outcomes if one.target in (None, ability.name)]
        statuses = Counter(one.result.abilities[place].status for one in chosen)
        figures["abilities"][ability.name] = {
            "pairs": len(chosen),
            "status": {status: share(status == own for own in statuses.elements()) for status in statuses},
            "mean_share_of_questions": fmean(one.questions[ability.name] for one in outcomes) / ability.questions,
        }
    if any(one.target for one in outcomes):
        statuses_of_target = [
            next(own.status for own in one.result.abilities if own.name == one.target) for one in outcomes
        ]
        figures["target_lost"] = share(status == "lost" for status in statuses_of_target)
        figures["target_retained"] = share(status == "retained" for status in statuses_of_target)
        figures["target_nothing_to_lose"] = share(status == "nothing to lose" for status in statuses_of_target)
    saved = [1 - sum(one.questions.values()) / total for one in outcomes]
    spread = 1.96 * float(np.std(saved)) / sqrt(len(saved))
    figures["mean_share_saved"] = {
        "share": fmean(saved),
        "low95": fmean(saved) - spread,
        "high95": fmean(saved) + spread,
    }
    figures["goals"] = [_checked(goal, figures) for goal in scenario.goals]
    return figures


def _checked(goal: Goal, figures: Mapping[str, Any]) -> dict[str, Any]:
    value = figures[goal.figure]["share"]
    met = value <= goal.at_most if goal.at_most is not None else value >= (goal.at_least or 0.0)
    return {**asdict(goal), "value": value, "met": met}


def coverage(outcomes: Sequence[Outcome], abilities: Sequence[SimulatedAbility]) -> dict[str, Any]:
    """The shares of 95 % intervals that hold the truth when nothing changed, and of those too high and too low."""
    rows = {}
    for place, ability in enumerate(abilities):
        truth = 1.0 if ability.kind == "score" else 0.0
        measures = [one.result.abilities[place].headline for one in outcomes]
        measures = [own for own in measures if own.status != "nothing to lose"]
        rows[ability.name] = {
            "covered": share(own.low95 <= truth <= own.high95 for own in measures),
            "too_high": share(truth < own.low95 for own in measures),
            "too_low": share(own.high95 < truth for own in measures),
            "mean_width": fmean(own.high95 - own.low95 for own in measures),
        }
    return rows


def smallest_sizes(pairs: int) -> list[dict[str, Any]]:
    """False decisions on one ability that stands exactly at the threshold, by size and share of changed answers."""
    rows = []
    for questions in (30, 50, 105, 210, 440):
        for changed in (0.0, 0.1):
            ability = SimulatedAbility("small", questions, 1, (0.5,))
            simulator = Simulator((ability,), changed)
            statuses = []
            for pair in range(pairs):
                scores = simulator.draw({"small": "at limit"}, np.random.default_rng([99, questions, pair]))
                statuses.append(judge(scores, LIMITS, resamples=RESAMPLES, seed=pair).abilities[0].status)
            retained, lost = (share(status == own for own in statuses) for status in ("retained", "lost"))
            rows.append({"questions": questions, "changed": changed, "retained": retained, "lost": lost})
    return rows


def shown(figure: Mapping[str, float]) -> str:
    """A share with its interval."""
    return f"{figure['share']:6.1%} ({figure['low95']:.1%} to {figure['high95']:.1%})"


def print_scenario(name: str, figures: Mapping[str, Any]) -> None:
    """Verdicts, statuses per ability and goals of one scenario."""
    print(f"\n{name} ({figures['pass']['n']} pairs, {figures['seconds']:.0f} s)")
    for figure in ("pass", "fail", "undecided", "any_lost", "target_lost", "target_retained", "mean_share_saved"):
        if figure in figures:
            print(f"  {figure:18} {shown(figures[figure])}")
    for ability, row in figures["abilities"].items():
        if row["pairs"]:
            statuses = "  ".join(f"{status} {shown(value)}" for status, value in sorted(row["status"].items()))
            print(f"    {ability:14} {row['mean_share_of_questions']:4.0%} of questions  {statuses}")
    for goal in figures["goals"]:
        bound = f"<= {goal['at_most']:.0%}" if goal["at_most"] is not None else f">= {goal['at_least']:.0%}"
        print(
            f"  goal: {goal['figure']} {bound}: {goal['value']:.1%}, {'met' if goal['met'] else 'NOT MET'}", flush=True
        )


def assumptions(changed: float) -> dict[str, Any]:
    """The constants of the simulation, for the result file."""
    return {
        "changed_when_nothing_is_lost": changed,
        "latent_variance": {"passage": PASSAGE_VARIANCE, "question": QUESTION_VARIANCE},
        "change_concentration": CHANGE_CONCENTRATION,
        "redrawn_passage_variance": REDRAWN_PASSAGE_VARIANCE,
        "loss": {"sd_of_change": LOSS_SD, "base": BASE_LOSS, "base_sd": BASE_LOSS_SD, "tokens": TEXT_TOKENS},
        "threshold": LIMITS.threshold,
        "margin": LIMITS.margin,
        "looks": LOOKS,
        "abilities": [
            {**asdict(own), "questions": own.questions, "base_score": own.mean() if own.survival else None}
            for own in ABILITIES
        ],
    }


def main() -> None:
    """Runs all scenarios, prints their figures and writes results/gate_simulation.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=2000, help="simulated pairs per scenario")
    parser.add_argument("--changed", type=float, default=0.10, help="share of changed answers when nothing is lost")
    options = parser.parse_args()
    started, results = time.perf_counter(), {}
    coverage_rows: dict[str, Any] = {}
    for number, scenario in enumerate(scenarios()):
        scenario_started = time.perf_counter()
        outcomes = simulate(scenario, number, options.pairs, options.changed)
        figures = {**summary(scenario, outcomes), "seconds": time.perf_counter() - scenario_started}
        results[scenario.name] = figures
        print_scenario(scenario.name, figures)
        if number == 0:
            coverage_rows = coverage(outcomes, ABILITIES)
    print("\n6 coverage of the 95 % intervals in scenario 1")
    for ability, row in coverage_rows.items():
        shares = "  ".join(f"{name} {shown(row[name])}" for name in ("covered", "too_high", "too_low"))
        print(f"    {ability:14} {shares}  mean width {row['mean_width']:.3f}")
    print("\n8 one ability at the threshold, base 0.5: false decisions by size (nominal 2.5 % each)")
    sizes = smallest_sizes(options.pairs)
    for row in sizes:
        print(
            f"    {row['questions']:4} questions, {row['changed']:.0%} changed  "
            f"retained {shown(row['retained'])}  lost {shown(row['lost'])}"
        )
    figures = {
        "command": " ".join(["python", *sys.argv]),
        "pairs": options.pairs,
        "resamples": RESAMPLES,
        "assumptions": assumptions(options.changed),
        "scenarios": results,
        "coverage": coverage_rows,
        "smallest_sizes": sizes,
        "seconds": time.perf_counter() - started,
    }
    write_result("gate_simulation", figures)


if __name__ == "__main__":
    main()
