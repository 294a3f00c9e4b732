"""Whether the retention suite ranks damaged models as other benchmarks do.

    python bench/retention_ranking.py --data FOLDER --adapter FOLDER --demo runs/demo

The models are an adapter at several scales (the one that was shipped with commit eccd5d7) and the demo's adapter. For
each model, the suite gives a verdict and a mean retained share over the unpractised abilities that the base has: tuned
/ base for scores, exp(−growth) for losses. It is compared with the mean of tuned / base on samples of BLiMP and
HellaSwag, which the suite does not use, by Spearman's rank correlation.

Only abilities that are scored by likelihood are evaluated (`ABILITIES`), at the quick size by default, with every
second item of the samples.
"""

from __future__ import annotations

import argparse
import time
from math import exp
from pathlib import Path
from typing import Any

import numpy as np
from common import write_result
from harness_agreement import blimp, chosen, hellaswag, ours

from keeptune.cli.console import ConsoleReporter
from keeptune.evaluation.model_pair import VARIANTS, open_pair
from keeptune.pipeline.gate_job import GateRequest, gate

BASE = "smollm2-135m"
SCALES = (0.1, 0.25, 0.5, 0.75, 1.0)
ABILITIES = ("knowledge", "commonsense", "grammar", "general-text")
EVERY = 2
"""Every n-th item of the BLiMP and HellaSwag samples is evaluated."""


def outside(adapter: str, scale: float, data: Path, of_base: dict[str, float]) -> dict[str, float]:
    """Accuracies on the outside samples, and tuned / base. `of_base` keeps the base's, which are measured once."""
    pair, found = open_pair(BASE, adapter, scale), dict(of_base)
    for name, items, by_character in (
        ("blimp", blimp(data)[::EVERY], False),
        ("hellaswag", hellaswag(data)[::EVERY], True),
    ):
        for who in VARIANTS:
            if f"{name}_{who}" in found:
                continue
            with pair.using(who) as subject:
                choices = chosen(items, ours(subject.generator, items), by_character)
            right = [own == label for own, (*_, label) in zip(choices, items, strict=True)]
            found[f"{name}_{who}"] = float(np.mean(right))
    of_base |= {name: value for name, value in found.items() if name.endswith("_base")}
    ratios = [found[f"{name}_tuned"] / found[f"{name}_base"] for name in ("blimp", "hellaswag")]
    return {**found, "kept": float(np.mean(ratios))}


def kept_share(made: dict[str, Any]) -> float:
    """The mean retained share of the counted abilities."""
    shares = []
    for own in made["abilities"].values():
        if own["counted"] and own["point"] is not None:
            shares.append(own["point"] if own["kind"] == "score" else exp(-own["point"]))
    return float(np.mean(shares))


def spearman(first: list[float], second: list[float]) -> float:
    """Spearman's rank correlation of values without ties."""
    ranks = [np.argsort(np.argsort(values)) for values in (first, second)]
    return float(np.corrcoef(*ranks)[0, 1])


def main() -> None:
    """Measures, prints and writes results/retention_ranking.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--adapter", required=True)
    parser.add_argument("--demo", required=True)
    parser.add_argument("--suite", choices=("quick", "standard"), default="quick")
    arguments = parser.parse_args()
    reporter, models = ConsoleReporter(), {}
    of_base: dict[str, float] = {}
    for adapter, scale in [*((arguments.adapter, scale) for scale in SCALES), (arguments.demo, 1.0)]:
        name = f"{Path(adapter).name} x {scale:g}"
        started = time.perf_counter()
        made = gate(GateRequest(BASE, adapter, ABILITIES, arguments.suite, scale=scale), None, reporter)
        abilities = {
            own: {key: figures[key] for key in ("status", "n", "base", "tuned", "point", "low95", "high95")}
            for own, figures in made["abilities"].items()
        }
        models[name] = {
            "verdict": made["gate"]["verdict"],
            "reason": made["gate"]["reason"],
            "suite_kept": kept_share(made),
            "abilities": abilities,
            "seconds": time.perf_counter() - started,
            "outside": outside(adapter, scale, arguments.data, of_base),
        }
        own = models[name]
        print(
            f"{name:32} {own['verdict']:9} suite {own['suite_kept']:.3f}  outside {own['outside']['kept']:.3f}",
            flush=True,
        )
        lost = ", ".join(key for key, figures in abilities.items() if figures["status"] == "lost")
        print(f"{'':32} lost: {lost or 'none'}", flush=True)
    rank = spearman([own["suite_kept"] for own in models.values()], [own["outside"]["kept"] for own in models.values()])
    print(f"Spearman {rank:.3f}")
    command = "python bench/retention_ranking.py --data FOLDER --adapter FOLDER --demo runs/demo"
    write_result(
        "retention_ranking", {"command": command, "suite": arguments.suite, "spearman": rank, "models": models}
    )


if __name__ == "__main__":
    main()
