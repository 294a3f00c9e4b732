"""The cost of the KL term (retain.kl_weight) in training, side by side in one run.

    python bench/kept_near.py

There are three variants with the same rows (a tenth of the tokens is reading practice) and the same steps: without the
KL term, with it on the replayed rows, and with it on the skill's prompts. The variants take turns, so that other load
affects all of them equally.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from common import examples, write_result

from keeptune.config.adapter import AdapterSection
from keeptune.config.retain import RetainSection
from keeptune.config.train import TrainSection
from keeptune.models import adapters
from keeptune.models import load as models
from keeptune.training.batches import TokenizedExample
from keeptune.training.loop import StepRecord, Trainer
from keeptune.training.replay import build_replay_examples, load_replay_source

WAYS: dict[str, dict[str, Any]] = {
    "none": {},
    "on replayed rows": {"kl_weight": 0.1, "kl_tokens": "replay"},
    "on prompts": {"kl_weight": 0.1, "kl_tokens": "prompts"},
}
SETTINGS = {"tokens_per_step": 2048, "tokens_per_batch": 1024, "tokens": 16_384}


def speed(rows: list[TokenizedExample], way: dict[str, Any]) -> float:
    """Non-padding tokens per second over all steps except the first, which warms up."""
    model = adapters.attach(models.load_model(models.EMBEDDED), AdapterSection(), 0)
    seen: list[StepRecord] = []
    with tempfile.TemporaryDirectory() as folder:
        settings, retain = TrainSection(**SETTINGS), RetainSection(**way)
        Trainer(model, rows, settings, 0, Path(folder), retain=retain).run(seen.append)
    return sum(step.tokens for step in seen[1:]) / sum(step.seconds for step in seen[1:])


def main() -> None:
    """Prints each way's median speed, and its share of the speed without a divergence."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    tokenizer = models.load_tokenizer(models.EMBEDDED)
    rows = examples(tokenizer, 240)
    tokens = sum(len(row.tokens) for row in rows)
    rows += build_replay_examples([load_replay_source("embedded")], tokenizer, tokens // 9, 512, 0)
    speeds: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(options.rounds):
        for name, way in WAYS.items():
            speeds[name].append(speed(rows, way))
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    for name, value in medians.items():
        print(f"{name:18} {value:6.0f} useful tokens/s  {value / medians['none']:.2f}")
    figures = {"settings": {**vars(options), **SETTINGS}, "useful_tokens_per_second": medians, "rounds": speeds}
    write_result("kept_near", figures)


if __name__ == "__main__":
    main()
