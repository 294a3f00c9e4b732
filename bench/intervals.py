"""Whether the 95 % intervals hold what they promise, and how long the gate's bootstrap takes.

    python bench/intervals.py

Scores are drawn from a law whose ratio of tuned to base is known: F1-like and right-or-wrong ones, passage by passage.
The interval should hold that ratio in 95 of 100 sets. With it stands what plain percentiles, without the correction for
few passages, would give on the same sets. No model is needed.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from common import write_result
from numpy.typing import NDArray

from keeptune.evaluation.statistics import FloatArray, paired_ratio

SETS = 2000
RESAMPLES = 1000
LAWS = ("f1", "em")
SHAPES = ((15, 5), (30, 5), (60, 5), (300, 5))
DEV_QUESTIONS, DEV_PARAGRAPHS = 10_570, 2_067
"""The size of SQuAD v1.1's dev set."""


def drawn(law: str, clusters: NDArray[np.int_], generator: np.random.Generator) -> tuple[FloatArray, FloatArray, float]:
    """Base and tuned scores of questions whose passages share a fate, and the ratio that the law has."""
    passages = clusters[-1] + 1
    if law == "f1":
        fate = generator.normal(0, 0.1, passages)[clusters]
        base = generator.random(len(clusters))
        return base, 0.9 * base + 0.2 + fate * base, 0.9 + 0.2 / 0.5
    easy = generator.beta(2, 3, passages)[clusters]
    kept = generator.uniform(0.8, 1.0, passages)[clusters]
    base = (generator.random(len(clusters)) < easy).astype(np.float64)
    tuned = (generator.random(len(clusters)) < np.where(base > 0, kept, 0.06)).astype(np.float64)
    return base, tuned, (0.4 * 0.9 + 0.6 * 0.06) / 0.4


def plain_percentiles(
    base: FloatArray, tuned: FloatArray, clusters: NDArray[np.int_], generator: np.random.Generator
) -> tuple[float, float]:
    """The interval of the textbook."""
    before, after = np.bincount(clusters, base), np.bincount(clusters, tuned)
    picked = generator.integers(len(before), size=(RESAMPLES, len(before)))
    low, high = np.quantile(after[picked].sum(axis=1) / before[picked].sum(axis=1), [0.025, 0.975])
    return float(low), float(high)


def coverage(law: str, passages: int, questions: int) -> dict[str, float]:
    """The shares of sets whose interval holds the true ratio, or lies above or below it."""
    generator, clusters = np.random.default_rng(1), np.repeat(np.arange(passages), questions)
    inside = above = below = plain = 0
    for trial in range(SETS):
        base, tuned, truth = drawn(law, clusters, generator)
        found = paired_ratio(base, tuned, clusters.tolist(), resamples=RESAMPLES, seed=trial)
        inside += found.low95 <= truth <= found.high95
        above += truth < found.low95
        below += truth > found.high95
        low, high = plain_percentiles(base, tuned, clusters, np.random.default_rng(trial))
        plain += low <= truth <= high
    shares = {"covered": inside, "too_high": above, "too_low": below, "plain_percentiles": plain}
    return {name: count / SETS for name, count in shares.items()}


def bootstrap_seconds() -> float:
    """The time of one ratio over SQuAD's dev set with 10,000 resamples."""
    generator = np.random.default_rng(0)
    clusters = np.sort(generator.integers(DEV_PARAGRAPHS, size=DEV_QUESTIONS))
    base, tuned = generator.random(DEV_QUESTIONS), generator.random(DEV_QUESTIONS)
    started = time.perf_counter()
    paired_ratio(base, tuned, clusters.tolist(), resamples=10_000, seed=0)
    return time.perf_counter() - started


def main() -> None:
    """Prints the coverage of every law and shape, and the time."""
    rows: list[dict[str, Any]] = []
    print("scores  passages  questions  covered  too high  too low  plain percentiles")
    for law in LAWS:
        for passages, questions in SHAPES:
            found = coverage(law, passages, questions)
            rows.append({"scores": law, "passages": passages, "questions": passages * questions, **found})
            shares = "  ".join(f"{share:8.2%}" for share in found.values())
            print(f"{law:6}  {passages:8}  {passages * questions:9}  {shares}", flush=True)
    seconds = bootstrap_seconds()
    print(f"one ratio over {DEV_QUESTIONS:,} questions, 10,000 resamples: {seconds:.2f} s")
    write_result("intervals", {"sets": SETS, "resamples": RESAMPLES, "coverage": rows, "bootstrap_seconds": seconds})


if __name__ == "__main__":
    main()
