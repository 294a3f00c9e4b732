"""Training speed on the processor: keeptune against transformers + PEFT, same rows, adapter and optimiser, in one run.

    python bench/train_cpu.py

The peer does what most scripts do: shuffled rows, padded to the longest of their batch, all logits, PEFT's own
forward pass, autograd's cross entropy. A batch has the same number of useful tokens on both sides. Each side runs in
processes of its own, in turns, so that neither inherits the other's memory settings and both see the same noise.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from common import examples, write_result
from peft import LoraConfig, get_peft_model

from keeptune.model import adapter as adapters
from keeptune.model import load as models
from keeptune.model.memory import keep_freed_memory
from keeptune.sections import AdapterSection, TrainSection
from keeptune.train.batches import Example, steps
from keeptune.train.objective import Objective, collate
from keeptune.train.optimiser import optimiser, set_rate

TOKENS_PER_STEP = 1024
LEARNING_RATE = 1e-3
WARM_UP_STEPS = 3


def keeptune_steps(rows: list[Example], targets: str, rank: int) -> tuple[Any, Callable[[int], int], int]:
    """keeptune's own training step, as its loop does it."""
    keep_freed_memory()
    settings = TrainSection(tokens_per_step=TOKENS_PER_STEP, tokens_per_batch=TOKENS_PER_STEP)
    model = adapters.attach(models.load_model(models.EMBEDDED), AdapterSection(rank=rank, targets=targets), 0)
    module, parameters = Objective(model), [p for p in model.parameters() if p.requires_grad]
    optimizer = optimiser(model, settings)
    set_rate(optimizer, LEARNING_RATE)
    lengths = [len(row.tokens) for row in rows]
    plan = steps(lengths, TOKENS_PER_STEP, TOKENS_PER_STEP, 1.0, 0)

    def step(index: int) -> int:
        supervised = sum(sum(rows[i].labelled) for batch in plan[index] for i in batch)
        for batch in plan[index]:
            inputs, _ = collate([rows[i] for i in batch], 1 / supervised, models.device())
            module(*inputs)[0].backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return sum(lengths[i] for batch in plan[index] for i in batch)

    return model, step, len(plan)


def peft_steps(rows: list[Example], targets: str, rank: int) -> tuple[Any, Callable[[int], int], int]:
    """The usual script: transformers' loss on padded, shuffled batches."""
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(models.resolve(models.EMBEDDED), dtype=models.dtype("auto"))
    names = adapters.target_modules(targets, adapters.linear_names(base))
    model = get_peft_model(base, LoraConfig(r=rank, lora_alpha=32, target_modules=names, task_type="CAUSAL_LM"))
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.0)
    order = list(range(len(rows)))
    random.Random(0).shuffle(order)
    batches: list[list[Example]] = [[]]
    for index in order:
        if sum(len(row.tokens) for row in batches[-1]) >= TOKENS_PER_STEP:
            batches.append([])
        batches[-1].append(rows[index])

    def step(index: int) -> int:
        batch = batches[index]
        width = max(len(row.tokens) for row in batch)
        padding = [width - len(row.tokens) for row in batch]
        ids = torch.tensor([[*row.tokens, *[0] * pad] for row, pad in zip(batch, padding, strict=True)])
        seen = torch.tensor([[1] * len(row.tokens) + [0] * pad for row, pad in zip(batch, padding, strict=True)])
        labels = torch.tensor(
            [
                [token if on else -100 for token, on in zip(row.tokens, row.labelled, strict=True)] + [-100] * pad
                for row, pad in zip(batch, padding, strict=True)
            ]
        )
        model(input_ids=ids, attention_mask=seen, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return sum(len(row.tokens) for row in batch)

    return model, step, len(batches)


SIDES = {"keeptune": keeptune_steps, "transformers_peft": peft_steps}


def measure(side: str, count: int, targets: str, rank: int) -> float:
    """Useful tokens a second of one side, over `count` steps after a warm-up."""
    torch.manual_seed(0)
    rows = examples(models.load_tokenizer(models.EMBEDDED), (count + WARM_UP_STEPS) * 12)
    model, step, available = SIDES[side](rows, targets, rank)
    model.train()
    if available < count + WARM_UP_STEPS:
        raise SystemExit(f"only {available} steps in the rows")
    for index in range(WARM_UP_STEPS):
        step(index)
    started = time.perf_counter()
    tokens = sum(step(index) for index in range(WARM_UP_STEPS, WARM_UP_STEPS + count))
    return tokens / (time.perf_counter() - started)


def main() -> None:
    """Runs the sides in turns and prints their median speeds and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--targets", default="all-linear")
    parser.add_argument("--rank", type=int, default=16)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(measure(options.side, options.steps, options.targets, options.rank)))
        return
    figures: dict[str, Any] = {"settings": vars(options), "tokens_per_step": TOKENS_PER_STEP, "adapters": {}}
    for targets, rank in (("all-linear", 16), ("attention-qv", 8)):
        speeds: dict[str, list[float]] = {side: [] for side in SIDES}
        for _ in range(options.rounds):
            for side in SIDES:
                command = [sys.executable, __file__, "--side", side, "--steps", str(options.steps)]
                command += ["--targets", targets, "--rank", str(rank)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                speeds[side].append(float(done.stdout.strip().splitlines()[-1]))
        medians = {side: statistics.median(values) for side, values in speeds.items()}
        ratio = medians["keeptune"] / medians["transformers_peft"]
        figures["adapters"][f"{targets} r{rank}"] = {
            "useful_tokens_per_second": medians,
            "rounds": speeds,
            "ratio": ratio,
        }
        print(f"{targets} r{rank}")
        for side, value in medians.items():
            print(f"  {side:18} {value:7.0f} useful tokens/s   rounds {', '.join(f'{v:.0f}' for v in speeds[side])}")
        print(f"  ratio              {ratio:7.2f}")
    write_result("train_cpu", figures)


if __name__ == "__main__":
    main()
