"""Error rates, power and coverage of the retention verdict, measured on simulated pairs with planted effects.

    python bench/gate_simulation.py [--pairs N] [--changed SHARE] [--resamples N]

A simulated pair has the scores of a base and a tuned model on eight abilities, with the sizes of the retention suite.
The true ratio (or loss difference) of each ability is known, so the script counts how often `judge` is wrong.

Each answer has a latent normal value: the sum of a passage effect, a question effect and answer noise. Thresholds turn
it into a score. The tuned model repeats the base's noise, except on a random share of the questions where it draws new
noise; that share makes `--changed` of the scores differ when nothing is lost. A planted loss lowers all latent values
of the tuned model by a constant, which is solved for the expected score.

Where options are scored by likelihood, the deciding measure is the probability of the right option: a logistic function
of the latent value above the threshold, whose slope gives the mean that SmolLM2-135M has. Accuracy is the second look.
There the answer noise of every question moves a little, instead of that of a few entirely, so that the same share of
choices differs. In one scenario the tuned model's latent values are also multiplied: it becomes surer of what it
chooses and gains probability, while its accuracy falls to the limit. The script needs no model.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from math import ceil, log, sqrt
from statistics import NormalDist, fmean
from typing import Any, Literal

import numpy as np
from common import write_result
from numpy.typing import NDArray

from keeptune.evaluation.gate import AbilityScores, GateResult, Kind, Limits, Measurement, judge
from keeptune.evaluation.statistics import FloatArray, wilson

Effect = Literal["none", "at limit", "accuracy at limit", "20 points"]

LOOKS = 5
LIMITS = Limits()
CHANGED = 0.10
PASSAGE_VARIANCE, QUESTION_VARIANCE = 0.2, 0.3
"""Shares of the latent variance; the rest is answer noise."""
CHANGE_CONCENTRATION = 10.0
"""A passage's share of redrawn answers is Beta-distributed with this concentration, so that changes cluster."""
REDRAWN_PASSAGE_VARIANCE = 0.1
"""Share of the variance of redrawn noise that all questions on a passage have in common."""
LOSS_SD, BASE_LOSS, BASE_LOSS_SD, TEXT_TOKENS = 0.05, 3.0, 0.5, (60, 141)
"""Nats per token, and the range of tokens per text."""
_NORMAL = NormalDist()
GRID: FloatArray = np.linspace(-6, 6, 601)
DENSITY: FloatArray = np.exp(-0.5 * GRID**2)
"""Values of a standard normal variable and their relative weights, for expectations."""

SURER = 1.6
"""What the latent values of a model that became surer are multiplied by."""


@dataclass(frozen=True)
class SimulatedAbility:
    """Size and scores of one ability. `survival[k]` is the probability that the base scores at least (k + 1) / K.
    With a `slope`, probabilities decide (nats per unit of the latent value)."""

    name: str
    clusters: int
    cluster_size: int
    survival: tuple[float, ...] = ()
    chance: float = 0.0
    kind: Kind = "score"
    slope: float | None = None

    @property
    def questions(self) -> int:
        return self.clusters * self.cluster_size

    @property
    def thresholds(self) -> list[float]:
        """Latent values from which on the score is 1/K, 2/K … 1."""
        return [-_NORMAL.inv_cdf(share) for share in self.survival]

    def mean(self, shift: float = 0.0) -> float:
        """The expected score when all latent values are lower by `shift`."""
        return fmean(_NORMAL.cdf(-(threshold + shift)) for threshold in self.thresholds)

    def probability(self, latent: FloatArray, surer: float = 1.0) -> FloatArray:
        """The probability of the right option, by latent value."""
        assert self.slope is not None
        nats = self.slope * surer * (latent - self.thresholds[0])
        return np.asarray(1 / (1 + np.exp(-nats)))

    def deciding_mean(self, shift: float = 0.0) -> float:
        """The expected value of the measure that decides, when all latent values are lower by `shift`."""
        if self.slope is None:
            return self.mean(shift)
        return float(np.average(self.probability(GRID - shift), weights=DENSITY))


KNOWLEDGE = SimulatedAbility("knowledge", 55, 4, (0.78,), 0.25, slope=0.9)
ABILITIES = (
    KNOWLEDGE,
    SimulatedAbility("commonsense", 41, 4, (0.66,), 0.25, slope=1.0),
    SimulatedAbility("grammar", 365, 1, (0.82,), 0.5, slope=2.7),
    SimulatedAbility("instructions", 210, 1, (0.60, 0.30)),
    SimulatedAbility("reading-en", 25, 6, tuple(np.linspace(0.64, 0.30, 10).tolist())),
    SimulatedAbility("refusal", 105, 1, (0.80,), 0.5, slope=1.5),
    SimulatedAbility("long-context", 22, 6, (0.85,), 0.1),
    SimulatedAbility("general-text", 32, 1, chance=log(50_000), kind="loss"),
)
WEAK_BASE = (replace(KNOWLEDGE, survival=(0.34,)), *ABILITIES[1:])
"""As `ABILITIES`, with a base whose knowledge is little above chance."""
NAMES = tuple(ability.name for ability in ABILITIES)
CHOICE_NAMES = tuple(ability.name for ability in ABILITIES if ability.slope is not None)
SCORE_NAMES = tuple(ability.name for ability in ABILITIES if ability.kind == "score")


@cache
def planted_shift(ability: SimulatedAbility, effect: Effect) -> float:
    """The constant that plants this effect: latent units for scores, nats per token for losses."""
    if effect == "none":
        return 0.0
    limit = LIMITS.limit_for(ability.name, ability.kind)
    if ability.kind == "loss":
        return limit
    mean = ability.deciding_mean if effect == "at limit" else ability.mean
    target = mean() - 0.2 if effect == "20 points" else mean() * limit
    low, high = 0.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if mean(middle) > target else (low, middle)
    return low


@cache
def redrawn_share(ability: SimulatedAbility, changed: float) -> float:
    """The share of answers with new noise that makes `changed` of the scores differ when nothing is lost."""
    common = PASSAGE_VARIANCE + QUESTION_VARIANCE
    differs = []
    for value in (GRID * sqrt(common)).tolist():
        above = [_NORMAL.cdf((value - threshold) / sqrt(1 - common)) for threshold in ability.thresholds]
        differs.append(1 - float((np.diff([1.0, *above, 0.0]) ** 2).sum()))
    share = changed / float(np.average(differs, weights=DENSITY))
    if share >= 1:
        raise SystemExit(f"--changed {changed}: the answer noise of {ability.name} cannot change so many scores")
    return share


@cache
def kept_noise(ability: SimulatedAbility, changed: float) -> float:
    """The correlation of base's and tuned's answer noise that makes `changed` of the choices differ when nothing is
    lost and every question moves."""
    common = PASSAGE_VARIANCE + QUESTION_VARIANCE
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        shared = common + (1 - common) * middle
        above = [
            _NORMAL.cdf((value - ability.thresholds[0]) / sqrt(1 - shared + 1e-12))
            for value in (GRID * sqrt(shared)).tolist()
        ]
        differs = float(np.average([2 * own * (1 - own) for own in above], weights=DENSITY))
        low, high = (middle, high) if differs > changed else (low, middle)
    return low


def draw_pair(
    abilities: Sequence[SimulatedAbility],
    effects: Mapping[str, Effect],
    changed: float,
    generator: np.random.Generator,
    surer: str | None = None,
) -> list[AbilityScores]:
    """The scores of one simulated pair; abilities without an entry in `effects` do not change in expectation. `surer`
    names the ability on which the tuned model became surer."""
    pair = []
    for ability in abilities:
        shift, questions = planted_shift(ability, effects.get(ability.name, "none")), ability.questions
        clusters, weights = np.repeat(np.arange(ability.clusters), ability.cluster_size), np.ones(questions)
        if ability.kind == "loss":
            weights = generator.integers(*TEXT_TOKENS, size=questions).astype(np.float64)
            base = generator.normal(BASE_LOSS, BASE_LOSS_SD, questions) * weights
            tuned = base + generator.normal(shift, LOSS_SD, questions) * weights
        elif ability.slope is not None:
            pair.append(draw_choices(ability, shift, changed, generator, SURER if surer == ability.name else 1.0))
            continue
        else:
            base, tuned = draw_scores(ability, shift, clusters, changed, generator)
        places = clusters.tolist()
        values = Measurement("value", ability.kind, base, tuned, places, weights, ability.chance, questions)
        pair.append(AbilityScores(ability.name, (values,)))
    return pair


def draw_choices(
    ability: SimulatedAbility, shift: float, changed: float, generator: np.random.Generator, surer: float
) -> AbilityScores:
    """Probabilities and choices of one ability whose options are scored by likelihood."""
    normal, questions = generator.standard_normal, ability.questions
    clusters = np.repeat(np.arange(ability.clusters), ability.cluster_size)
    common = sqrt(PASSAGE_VARIANCE) * normal(ability.clusters)[clusters] + sqrt(QUESTION_VARIANCE) * normal(questions)
    noise_sd = sqrt(1 - PASSAGE_VARIANCE - QUESTION_VARIANCE)
    noise, kept = normal(questions), kept_noise(ability, changed) if changed else 1.0
    base = common + noise_sd * noise
    tuned = common + noise_sd * (kept * noise + sqrt(1 - kept**2) * normal(questions)) - shift
    values = {
        "probability": (ability.probability(base), ability.probability(tuned, surer)),
        "accuracy": tuple((latent > ability.thresholds[0]).astype(np.float64) for latent in (base, tuned)),
    }
    places, weights = clusters.tolist(), np.ones(questions)
    measures = [
        Measurement(name, "score", *pair, places, weights, ability.chance, questions, name == "probability")
        for name, pair in values.items()
    ]
    return AbilityScores(ability.name, measures)


def draw_scores(
    ability: SimulatedAbility, shift: float, clusters: NDArray[np.int_], changed: float, generator: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Base and tuned scores of one ability."""
    normal, passages, questions = generator.standard_normal, ability.clusters, ability.questions
    common = sqrt(PASSAGE_VARIANCE) * normal(passages)[clusters] + sqrt(QUESTION_VARIANCE) * normal(questions)
    noise_sd = sqrt(1 - PASSAGE_VARIANCE - QUESTION_VARIANCE)
    base = tuned = common + noise_sd * normal(questions)
    if changed:
        share = redrawn_share(ability, changed)
        shares = generator.beta(share * CHANGE_CONCENTRATION, (1 - share) * CHANGE_CONCENTRATION, passages)
        noise = sqrt(REDRAWN_PASSAGE_VARIANCE) * normal(passages)[clusters]
        noise += sqrt(1 - REDRAWN_PASSAGE_VARIANCE) * normal(questions)
        tuned = np.where(generator.random(questions) < shares[clusters], common + noise_sd * noise, base)
    thresholds = ability.thresholds
    before, after = (np.searchsorted(thresholds, latent) / len(thresholds) for latent in (base, tuned - shift))
    return before, after


@dataclass(frozen=True)
class Scenario:
    """One planted effect, on the abilities of `targets` in turn or on all, and goals: figures with their bounds.

    `changed` is the share of changed scores when nothing is lost; None takes it from the command line.
    """

    name: str
    effect: Effect
    targets: tuple[str, ...] = ()
    at_most: Mapping[str, float] = field(default_factory=dict)
    at_least: Mapping[str, float] = field(default_factory=dict)
    abilities: tuple[SimulatedAbility, ...] = ABILITIES
    changed: float | None = None
    looks: int = 1
    surer: bool = False

    def target(self, pair: int) -> str | None:
        """The only ability with the effect in pair number `pair`; None where all have it."""
        return self.targets[pair % len(self.targets)] if self.targets else None


SCENARIOS = (
    Scenario("1 no change", "none", at_most={"any_lost": 0.05}),
    Scenario("2 all at the limit", "at limit", at_most={"pass": 0.05}),
    Scenario("2b every accuracy at the limit", "accuracy at limit", at_most={"pass": 0.05, "any_lost": 0.05}),
    Scenario("3 one loses 20 points", "20 points", SCORE_NAMES, {"pass": 0.05}, {"target_lost": 0.9}),
    Scenario("4 one at the limit", "at limit", NAMES, {"pass": 0.05}),
    Scenario("7 no change, weak base", "none", ("knowledge",), abilities=WEAK_BASE),
    Scenario("8 all at the limit, no other changes", "at limit", changed=0.0),
    Scenario("4b one at the limit, all else identical", "at limit", NAMES, {"pass": 0.05}, changed=0.0),
    Scenario("4c the accuracy of one at the limit", "accuracy at limit", CHOICE_NAMES),
    Scenario("5 one surer, its accuracy at the limit", "accuracy at limit", CHOICE_NAMES, changed=0.02, surer=True),
)


def sequential(scenario: Scenario) -> Scenario:
    """The scenario with LOOKS looks, and the goal for the share of questions saved where nothing changed."""
    goal = {"mean_share_saved": 0.4} if scenario.name == "1 no change" else scenario.at_least
    return replace(scenario, name=f"{scenario.name}, sequential", looks=LOOKS, at_least=goal)


@dataclass(frozen=True)
class Outcome:
    """The verdict on one simulated pair and the number of questions evaluated per ability."""

    result: GateResult
    target: str | None
    questions: dict[str, int]

    def status(self, ability: str | None) -> str:
        return next(result.status for result in self.result.abilities if result.name == ability)


def first_looks(scores: AbilityScores, ability: SimulatedAbility, looks: int) -> AbilityScores:
    """The scores on the clusters of the first `looks` looks. Clusters are independent draws: their order is random."""
    end = min(ability.clusters, ceil(ability.clusters / LOOKS) * looks) * ability.cluster_size
    parts = []
    for full in scores.measurements:
        base, tuned, weights, clusters = full.base[:end], full.tuned[:end], full.weights[:end], full.clusters[:end]
        parts.append(replace(full, base=base, tuned=tuned, weights=weights, clusters=clusters, question_count=end))
    return replace(scores, measurements=parts)


def judge_sequentially(
    scores: Sequence[AbilityScores], abilities: Sequence[SimulatedAbility], resamples: int, seed: int
) -> tuple[GateResult, dict[str, int]]:
    """The verdict and the questions per ability, by the rules of `evaluate_suite_sequentially`.

    After each look, only abilities without a decision get further questions. A failed verdict ends the run.
    """
    looks_of = dict.fromkeys((ability.name for ability in abilities), 0)
    growing = set(looks_of)
    for look in range(1, LOOKS + 1):
        looks_of.update(dict.fromkeys(growing, look))
        parts = [first_looks(part, size, looks_of[size.name]) for part, size in zip(scores, abilities, strict=True)]
        result = judge(parts, LIMITS, resamples=resamples, seed=seed, looks=LOOKS)
        growing &= {part.name for part in result.abilities if part.status in ("undecided", "nothing to lose")}
        if result.verdict == "fail" or not growing:
            break
    return result, {part.name: len(part.measurements[0].base) for part in parts}


def simulate(scenario: Scenario, number: int, options: argparse.Namespace) -> list[Outcome]:
    """The outcomes of all pairs. Pair i of scenario `number` has its own seed."""
    outcomes = []
    changed = options.changed if scenario.changed is None else scenario.changed
    for pair in range(options.pairs):
        generator = np.random.default_rng([number, pair])
        target = scenario.target(pair)
        effects = dict.fromkeys(NAMES if target is None else (target,), scenario.effect)
        surer = target if scenario.surer else None
        scores = draw_pair(scenario.abilities, effects, changed, generator, surer)
        if scenario.looks == 1:
            result = judge(scores, LIMITS, resamples=options.resamples, seed=pair)
            questions = {ability.name: ability.questions for ability in scenario.abilities}
        else:
            result, questions = judge_sequentially(scores, scenario.abilities, options.resamples, pair)
        outcomes.append(Outcome(result, target, questions))
    return outcomes


def share_of(hits: Iterable[bool]) -> dict[str, float]:
    """A share with its 95 % interval (Wilson) and the number of trials."""
    values = list(hits)
    low, high = wilson(sum(values), len(values))
    return {"share": sum(values) / max(1, len(values)), "low95": low, "high95": high, "n": len(values)}


def summarize(scenario: Scenario, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """All figures of a scenario, each goal with whether it is met."""
    figures: dict[str, Any] = {
        verdict: share_of(outcome.result.verdict == verdict for outcome in outcomes)
        for verdict in ("pass", "fail", "undecided")
    }
    any_lost = ("lost" in {ability.status for ability in outcome.result.abilities} for outcome in outcomes)
    figures["any_lost"] = share_of(any_lost)
    if outcomes[0].target:
        statuses = [outcome.status(outcome.target) for outcome in outcomes]
        for status in ("lost", "retained"):
            figures[f"target_{status}"] = share_of(value == status for value in statuses)
    total = sum(ability.questions for ability in scenario.abilities)
    saved = [1 - sum(outcome.questions.values()) / total for outcome in outcomes]
    error = 1.96 * float(np.std(saved)) / sqrt(len(saved))
    figures["mean_share_saved"] = {"share": fmean(saved), "low95": fmean(saved) - error, "high95": fmean(saved) + error}
    figures["abilities"] = {}
    for ability in scenario.abilities:
        chosen = [outcome for outcome in outcomes if outcome.target in (None, ability.name)]
        counts = Counter(outcome.status(ability.name) for outcome in chosen)
        mean_questions = fmean(outcome.questions[ability.name] for outcome in outcomes)
        figures["abilities"][ability.name] = {
            "pairs": len(chosen),
            "status": {status: share_of(status == value for value in counts.elements()) for status in sorted(counts)},
            "mean_share_of_questions": mean_questions / ability.questions,
        }
    figures["goals"] = [
        {"figure": figure, "bound": f"at most {bound:.0%}", "met": figures[figure]["share"] <= bound}
        for figure, bound in scenario.at_most.items()
    ] + [
        {"figure": figure, "bound": f"at least {bound:.0%}", "met": figures[figure]["share"] >= bound}
        for figure, bound in scenario.at_least.items()
    ]
    return figures


def coverage(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The shares of 95 % intervals that hold the truth when nothing changed, and of those too high and too low."""
    rows = {}
    for place, ability in enumerate(ABILITIES):
        truth = 1.0 if ability.kind == "score" else 0.0
        results = [outcome.result.abilities[place].headline for outcome in outcomes]
        rows[ability.name] = {
            "covered": share_of(result.low95 <= truth <= result.high95 for result in results),
            "too_high": share_of(truth < result.low95 for result in results),
            "too_low": share_of(result.high95 < truth for result in results),
            "mean_width": fmean(result.high95 - result.low95 for result in results),
        }
    return rows


def small_samples(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Wrong decisions on one ability exactly at the threshold (base 0.5), by size and share of other changes."""
    rows = []
    for questions in (30, 50, 105, 210, 440):
        ability = SimulatedAbility("small", questions, 1, (0.5,))
        for changed in (0.0, CHANGED):
            statuses = []
            for pair in range(options.pairs):
                generator = np.random.default_rng([99, questions, pair])
                scores = draw_pair([ability], {"small": "at limit"}, changed, generator)
                result = judge(scores, LIMITS, resamples=options.resamples, seed=pair)
                statuses.append(result.abilities[0].status)
            shares = {status: share_of(status == value for value in statuses) for status in ("retained", "lost")}
            rows.append({"questions": questions, "changed": changed, **shares})
    return rows


def as_text(figure: Mapping[str, float]) -> str:
    return f"{figure['share']:6.1%} ({figure['low95']:.1%} to {figure['high95']:.1%})"


def print_scenario(name: str, figures: Mapping[str, Any]) -> None:
    """Prints verdicts, goals and the statuses per ability of one scenario."""
    print(f"\n{name} ({figures['pass']['n']} pairs, {figures['seconds']:.0f} s)")
    for figure in ("pass", "fail", "undecided", "any_lost", "target_lost", "target_retained", "mean_share_saved"):
        if figure in figures:
            goals = [goal for goal in figures["goals"] if goal["figure"] == figure]
            notes = "".join(f"  goal: {goal['bound']}, {'met' if goal['met'] else 'NOT MET'}" for goal in goals)
            print(f"  {figure:18} {as_text(figures[figure])}{notes}")
    for ability, row in figures["abilities"].items():
        if row["pairs"]:
            statuses = "  ".join(f"{status} {as_text(value)}" for status, value in row["status"].items())
            print(f"    {ability:14} {row['mean_share_of_questions']:4.0%} of questions  {statuses}", flush=True)


def assumptions() -> dict[str, Any]:
    """The constants of the simulation, for the result file."""
    return {
        "latent_variance": {"passage": PASSAGE_VARIANCE, "question": QUESTION_VARIANCE},
        "changes": {"concentration": CHANGE_CONCENTRATION, "passage_variance": REDRAWN_PASSAGE_VARIANCE},
        "loss": {"sd_of_change": LOSS_SD, "base": BASE_LOSS, "base_sd": BASE_LOSS_SD, "tokens": TEXT_TOKENS},
        "limits": {"threshold": LIMITS.threshold, "margin": LIMITS.margin, "looks": LOOKS},
        "abilities": [{**asdict(ability), "questions": ability.questions} for ability in ABILITIES],
    }


def main() -> None:
    """Runs all scenarios, prints their figures and writes results/gate_simulation.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=2000, help="simulated pairs per scenario")
    parser.add_argument("--changed", type=float, default=CHANGED, help="share of changed scores when nothing is lost")
    parser.add_argument("--resamples", type=int, default=1000, help="bootstrap resamples; judge has 10,000 by default")
    options = parser.parse_args()
    started = time.perf_counter()
    results: dict[str, Any] = {}
    intervals: dict[str, Any] = {}
    for number, scenario in enumerate((*SCENARIOS, *map(sequential, SCENARIOS))):
        begun = time.perf_counter()
        outcomes = simulate(scenario, number, options)
        results[scenario.name] = {**summarize(scenario, outcomes), "seconds": time.perf_counter() - begun}
        print_scenario(scenario.name, results[scenario.name])
        intervals = intervals or coverage(outcomes)
    print("\n6 coverage of the 95 % intervals in scenario 1")
    for name, row in intervals.items():
        shares = "  ".join(f"{key} {as_text(row[key])}" for key in ("covered", "too_high", "too_low"))
        print(f"    {name:14} {shares}  mean width {row['mean_width']:.3f}")
    print("\n9 one ability at the threshold, base 0.5: wrong decisions by size (nominal 2.5 % each)")
    small = small_samples(options)
    for row in small:
        shares = "  ".join(f"{key} {as_text(row[key])}" for key in ("retained", "lost"))
        print(f"    {row['questions']:4} questions, {row['changed']:4.0%} other changes  {shares}")
    figures = {
        "command": " ".join(["python", *sys.argv]),
        **vars(options),
        "assumptions": assumptions(),
        "scenarios": results,
        "coverage": intervals,
        "small_samples": small,
        "seconds": time.perf_counter() - started,
    }
    write_result("gate_simulation", figures)


if __name__ == "__main__":
    main()
