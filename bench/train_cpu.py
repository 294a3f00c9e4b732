"""Training speed on the processor: keeptune, the contest kits' layout, TRL and LLaMA-Factory, side by side in one run.

    python -m venv trl && trl/bin/pip install torch==2.13.0 trl==1.16.0
    python -m venv lf  && lf/bin/pip install torch==2.13.0 llamafactory==0.9.5
    python bench/train_cpu.py --trl trl/bin/python --llamafactory lf/bin/python

The same rows, the same adapter from the same start, AdamW with the same settings, and about as many useful tokens a
step. Each side runs in processes of its own, in turns, so that none inherits another's memory settings and all see the
same noise. Each peer does what is best for it here: rows of like length together, bfloat16 where the processor has
it, no recomputation; TRL also with packed rows, and the faster of its two counts. `seed_layout` is what the contest's
kits do: every row padded to 256 tokens, all logits, PEFT's own forward pass. First all are given the same batches in
the same order, and their losses are compared.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import problems, write_result
from peft import PeftModel

from keeptune.model import adapter as adapters
from keeptune.model import load as models
from keeptune.model.memory import keep_freed_memory
from keeptune.prompt.template import Prompt
from keeptune.sections import AdapterSection, PromptSection, TrainSection
from keeptune.train.batches import Example, steps
from keeptune.train.objective import Objective, collate
from keeptune.train.optimiser import optimiser, set_rate

Job = dict[str, Any]

KINDS = ("add", "sub", "equation", "mean", "area", "mass", "sales", "discount")
PADDED_TOKENS = 256
PEERS = Path(__file__).parent / "peers"


def given_rows() -> list[Example]:
    """The rows that all sides are given."""
    told = json.loads(Path("rows.json").read_text(encoding="utf-8"))
    tokens = [(row["tokens"], row["labelled"]) for row in told]
    return [Example(str(index), "", tuple(ids), tuple(map(bool, on))) for index, (ids, on) in enumerate(tokens)]


def batches_of(job: Job, rows: list[Example]) -> list[list[list[Example]]]:
    """keeptune's own steps; or the given rows in their order, so many a step, where losses are compared."""
    if job["ordered"]:
        size = job["rows_per_batch"]
        return [[rows[start : start + size]] for start in range(0, len(rows), size)]
    lengths = [len(row.tokens) for row in rows]
    plan = steps(lengths, job["tokens_per_step"], job["tokens_per_step"], 1.0, 0)
    return [[[rows[index] for index in batch] for batch in step] for step in plan]


def keeptune_side(job: Job) -> dict[str, Any]:
    """keeptune's own training step, as its loop does it."""
    keep_freed_memory()
    model = adapters.load_adapter(models.load_model(job["model"]), Path(job["adapter"]), trainable=True)
    module = Objective(model)

    def backward(step: list[list[Example]]) -> float:
        supervised = sum(sum(row.labelled) for batch in step for row in batch)
        loss = 0.0
        for batch in step:
            inputs, _ = collate(batch, 1 / supervised, models.device())
            total, *_ = module(*inputs)
            total.backward()
            loss += float(total.detach())
        return loss

    rows = given_rows()
    return timed(job, model, batches_of(job, rows), backward)


def seed_side(job: Job) -> dict[str, Any]:
    """The contest kits' layout: every row padded to the same width, transformers' loss over all logits."""
    from transformers import AutoModelForCausalLM

    dtype = torch.bfloat16 if job["bfloat16"] else torch.float32
    base = AutoModelForCausalLM.from_pretrained(job["model"], dtype=dtype)
    model = PeftModel.from_pretrained(base, job["adapter"], is_trainable=True)
    rows, size = given_rows(), job["rows_per_batch"]

    def backward(step: list[list[Example]]) -> float:
        (batch,) = step
        padding = [PADDED_TOKENS - len(row.tokens) for row in batch]
        ids = torch.tensor([[*row.tokens, *[0] * pad] for row, pad in zip(batch, padding, strict=True)])
        seen = torch.tensor([[1] * len(row.tokens) + [0] * pad for row, pad in zip(batch, padding, strict=True)])
        labels = ids.clone()
        for number, row in enumerate(batch):
            unlabelled = [not labelled for labelled in row.labelled] + [True] * padding[number]
            labels[number][torch.tensor(unlabelled)] = -100
        loss = model(input_ids=ids, attention_mask=seen, labels=labels).loss
        loss.backward()
        return float(loss.detach())

    planned = [[rows[start : start + size]] for start in range(0, len(rows), size)]
    return timed(job, model, planned, backward)


def timed(
    job: Job, model: Any, planned: list[list[list[Example]]], backward: Callable[[list[list[Example]]], float]
) -> dict[str, Any]:
    """Useful tokens a second over all steps behind the warm-up, and each step's loss."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = optimiser(model, TrainSection(learning_rate=job["learning_rate"]))
    set_rate(optimizer, job["learning_rate"])
    model.train()
    losses, tokens, started = [], 0, 0.0
    for index, step in enumerate(planned[: job["warm_up_steps"] + job["steps"]]):
        if index == job["warm_up_steps"]:
            tokens, started = 0, time.perf_counter()
        losses.append(backward(step))
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tokens += sum(len(row.tokens) for batch in step for row in batch)
    speed = tokens / (time.perf_counter() - started)
    versions = {"torch": torch.__version__}
    return {"useful_tokens_per_second": speed, "losses": losses, "versions": versions}


OWN = {"keeptune": keeptune_side, "seed_layout": seed_side}


def prepare(folder: Path, count: int, adapter: AdapterSection) -> None:
    """The rows, and the adapter that all start from."""
    tokenizer, prompt = models.load_tokenizer(models.EMBEDDED), Prompt(PromptSection().template)
    told = []
    for _, problem, solution in problems(count, KINDS, 0):
        asked, answer = prompt.encode(tokenizer, problem), prompt.encode_solution(tokenizer, solution)
        labelled = [0] * len(asked) + [1] * len(answer)
        row = {
            "prompt": prompt.render(problem),
            "solution": solution,
            "tokens": [*asked, *answer],
            "labelled": labelled,
        }
        told += [row] if len(labelled) <= PADDED_TOKENS else []
    (folder / "rows.json").write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")
    base = models.load_model(models.EMBEDDED)
    adapters.attach(base, adapter, 0).save_pretrained(folder / "adapter")


def run(python: str, script: list[str], folder: Path, job: Job) -> dict[str, Any]:
    """What one side prints for one job, or what it printed instead."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        for name in ("rows.json", "adapter"):
            (Path(scratch) / name).symlink_to(folder / name)
        (Path(scratch) / "job.json").write_text(json.dumps(job), encoding="utf-8")
        done = subprocess.run([python, *script], cwd=scratch, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"useful_tokens_per_second": None, "printed": (done.stdout + done.stderr)[-2000:]}
    figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def sides(options: argparse.Namespace) -> dict[str, tuple[str, list[str], Job]]:
    """Who takes part: a Python, what it runs, and what is special about its job."""
    own = {name: (sys.executable, [str(Path(__file__).resolve()), "--side", name], {}) for name in OWN}
    found: dict[str, tuple[str, list[str], Job]] = dict(own)
    if options.trl:
        script = [str(PEERS / "trl_cpu.py")]
        found["trl"] = (options.trl, script, {"packed": False})
        found["trl_packed"] = (options.trl, script, {"packed": True})
    if options.llamafactory:
        found["llamafactory"] = (options.llamafactory, [str(PEERS / "llamafactory_cpu.py")], {})
    return found


def compared(folder: Path, job: Job, taking_part: dict[str, Any]) -> dict[str, Any]:
    """Each side's losses on the same batches, and how far they are from keeptune's, relatively, at most."""
    ordered = {**job, "ordered": True, "steps": 20, "warm_up_steps": 1}
    losses = {}
    for name, (python, script, special) in taking_part.items():
        if not special.get("packed"):
            losses[name] = run(python, script, folder, {**ordered, **special}).get("losses")
    own = losses["keeptune"][:20]
    furthest = {
        name: max(abs(one - other) / other for one, other in zip(told, own, strict=False)) if told else None
        for name, told in losses.items()
    }
    return {"losses": losses, "furthest_relative": furthest}


def main() -> None:
    """Runs all sides in turns, and prints their median speeds beside keeptune's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trl", help="the Python of an environment with TRL")
    parser.add_argument("--llamafactory", help="the Python of an environment with LLaMA-Factory")
    parser.add_argument("--side", choices=list(OWN), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(OWN[options.side](json.loads(Path("job.json").read_text(encoding="utf-8")))))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        section = AdapterSection(rank=16, alpha=32, targets="all-linear")
        prepare(folder, (options.steps + 4) * 12, section)
        job = {
            "model": str(models.resolve(models.EMBEDDED)),
            "adapter": "adapter",
            "bfloat16": models.dtype("auto") == torch.bfloat16,
            "rows_per_batch": 8,
            "tokens_per_step": 1024,
            "warm_up_steps": 2,
            "steps": options.steps,
            "learning_rate": 1e-3,
            "ordered": False,
            "packed": False,
            "loss_type": "nll",
        }
        taking_part = sides(options)
        alike = compared(folder, job, taking_part)
        rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in taking_part}
        for _ in range(options.rounds):
            for name, (python, script, special) in taking_part.items():
                rounds[name].append(run(python, script, folder, {**job, **special}))
    report(options, job, alike, rounds)


def report(options: argparse.Namespace, job: Job, alike: dict[str, Any], rounds: dict[str, Any]) -> None:
    """The table, and results/train_cpu.json."""
    speeds = {name: [one["useful_tokens_per_second"] for one in told] for name, told in rounds.items()}
    medians = {name: statistics.median(own) if None not in own else None for name, own in speeds.items()}
    own = medians["keeptune"]
    for name, value in medians.items():
        told = f"{value:7.0f} useful tokens/s   keeptune / it {own / value:5.2f}" if value else "could not run"
        distance = alike["furthest_relative"].get(name)
        print(f"{name:14} {told}" + ("" if distance is None else f"   losses within {distance:.1e}"))
    best = max((value for name in ("trl", "trl_packed") if (value := medians.get(name))), default=None)
    named = {"keeptune": own, "trl": best, "llamafactory": medians.get("llamafactory")}
    figures = {
        "useful_tokens_per_second": {**named, "seed_layout": medians["seed_layout"]},
        "medians": medians,
        "settings": {**job, "rounds": options.rounds, "rank": 16, "targets": "all-linear"},
        "same_batches": alike,
        "versions": {name: told[0].get("versions") for name, told in rounds.items()},
        "printed": {name: told[0]["printed"] for name, told in rounds.items() if "printed" in told[0]},
        "rounds": speeds,
    }
    write_result("train_cpu", figures)


if __name__ == "__main__":
    main()
