"""The cost and the savings of activation checkpointing (train.activation_checkpointing), side by side in one run.

    python bench/recompute.py

Each policy trains on the same rows in the same batches. It runs in a separate process, so that its peak memory is
measured alone, and the policies take turns.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import examples, write_result

from keeptune.config.adapter import AdapterSection
from keeptune.config.train import TrainSection
from keeptune.event_log import peak_memory_bytes
from keeptune.models import adapters
from keeptune.models import load as models
from keeptune.models.activation_checkpointing import ActivationCheckpointing
from keeptune.training.loop import StepRecord, Trainer

POLICIES = {"never": math.inf, "always": 0}


def measured(over_tokens: float, tokens_per_batch: int) -> dict[str, float]:
    """Non-padding tokens per second over all steps except the first, which warms up, and the peak memory."""
    rows = examples(models.load_tokenizer(models.EMBEDDED), 200)
    model = adapters.attach(models.load_model(models.EMBEDDED), AdapterSection(), 0)
    sizes = {"tokens_per_step": tokens_per_batch, "tokens_per_batch": tokens_per_batch, "tokens": 5 * tokens_per_batch}
    seen: list[StepRecord] = []
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainSection.model_validate(sizes)
        Trainer(model, rows, settings, 0, Path(folder), ActivationCheckpointing(over_tokens)).run(seen.append)
    speed = sum(step.tokens for step in seen[1:]) / sum(step.seconds for step in seen[1:])
    return {"useful_tokens_per_second": speed, "peak_memory_bytes": peak_memory_bytes()}


def main() -> None:
    """Prints each policy's median speed and peak, and both as shares of what they are without."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens-per-batch", type=int, default=4096)
    parser.add_argument("--only", choices=list(POLICIES), help="one policy, in this process, as JSON")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measured(POLICIES[options.only], options.tokens_per_batch)))
        return
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in POLICIES}
    for _ in range(options.rounds):
        for name in POLICIES:
            command = [sys.executable, __file__, "--only", name, "--tokens-per-batch", str(options.tokens_per_batch)]
            told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            rounds[name].append(json.loads(told.splitlines()[-1]))
    medians = {
        name: {key: statistics.median(one[key] for one in told) for key in told[0]} for name, told in rounds.items()
    }
    for name, own in medians.items():
        speed, peak = own["useful_tokens_per_second"], own["peak_memory_bytes"]
        shares = [own[key] / medians["never"][key] for key in own]
        print(f"{name:7} {speed:6.0f} useful tokens/s  {peak / 1e9:5.2f} GB  {shares[0]:.2f}  {shares[1]:.2f}")
    write_result("recompute", {"tokens_per_batch": options.tokens_per_batch, "medians": medians, "rounds": rounds})


if __name__ == "__main__":
    main()
