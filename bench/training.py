"""Shared parts of the training benchmarks: the rows, the start, and the sides that run in this project's Python.

A side is a process that reads job.json, rows.json and the start adapter from its working directory, and prints its
figures as JSON on its last line.
"""

from __future__ import annotations

import json
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from common import LENGTH_MIX, problems
from peers.energy import a_token, joules
from peft import PeftModel

from keeptune.config.adapter import AdapterSection
from keeptune.config.prompt import PromptSection
from keeptune.config.train import TrainSection
from keeptune.models import adapters
from keeptune.models import load as models
from keeptune.models.allocator import keep_freed_memory
from keeptune.models.device_memory import total_bytes
from keeptune.models.prepacked_linear import prepack_weights
from keeptune.prompts.template import Prompt
from keeptune.training.batches import MAX_PADDING_SHARE, TokenizedExample, make_batches
from keeptune.training.objective import Objective, collate
from keeptune.training.optimizer import create_optimizer, set_learning_rate
from keeptune.training.packing import packs_rows

Job = dict[str, Any]
Figures = dict[str, Any]
Step = list[list[TokenizedExample]]

PADDED_TOKENS = 256
PEERS = Path(__file__).parent / "peers"

JOB: Job = {
    "adapter": "adapter",
    "rows_per_batch": 8,
    "tokens_per_step": 1024,
    "warm_up_steps": 2,
    "steps": 12,
    "learning_rate": 1e-3,
    "ordered": False,
    "packed": False,
    "liger": False,
}
"""The job of a side, without the model. `ordered`: a fixed number of rows per step in file order, to compare losses."""


def prepare(folder: Path, count: int, model: str, adapter: AdapterSection) -> Job:
    """The rows and the adapter that all start from, and the job with the model and its number format."""
    tokenizer, prompt = models.load_tokenizer(model), Prompt(PromptSection().template)
    told = []
    for _, problem, solution in problems(count, LENGTH_MIX, 0):
        asked, answer = prompt.encode(tokenizer, problem), prompt.encode_solution(tokenizer, solution)
        labelled = [0] * len(asked) + [1] * len(answer)
        texts = {"prompt": prompt.render(problem), "solution": solution + tokenizer.eos_token}
        told += [{**texts, "tokens": [*asked, *answer], "labelled": labelled}] if len(labelled) <= PADDED_TOKENS else []
    (folder / "rows.json").write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")
    adapters.attach(models.load_model(model), adapter, 0).save_pretrained(folder / "adapter")
    return {
        **JOB,
        "model": model,
        "cpu": models.device().type == "cpu",
        "bfloat16": models.dtype("auto") == torch.bfloat16,
    }


def run(
    python: str, script: list[str], folder: Path, job: Job, environment: Mapping[str, str] | None = None
) -> Figures:
    """What one side prints for one job; or no speed, and what it printed instead.

    `environment` has the variables of its process; None stands for those of this process.
    """
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        for name in ("rows.json", "adapter"):
            (Path(scratch) / name).symlink_to(folder / name)
        (Path(scratch) / "job.json").write_text(json.dumps(job), encoding="utf-8")
        done = subprocess.run(
            [python, *script], cwd=scratch, capture_output=True, text=True, check=False, env=environment
        )
    if done.returncode:
        return {"useful_tokens_per_second": None, "printed": (done.stdout + done.stderr)[-2000:]}
    figures: Figures = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def keeptune_side(job: Job, quantization: str | None = None) -> Figures:
    """keeptune's own training step, as its loop does it."""
    keep_freed_memory()
    base = models.load_model(job["model"], "auto" if job["bfloat16"] else "float32", quantization)
    model = adapters.load_adapter(base, Path(job["adapter"]), trainable=True)
    prepack_weights(model, total_bytes(models.device()))
    module, rows = Objective(model), _rows()
    end_to_end = packs_rows(module)

    def backward(step: Step) -> float:
        supervised = sum(sum(row.loss_mask) for batch in step for row in batch)
        totals = []
        for batch in step:
            inputs, _ = collate(batch, 1 / supervised, models.device())
            lengths = [len(row.tokens) for row in batch] if end_to_end else None
            total, *_ = module(*inputs, lengths=lengths)
            total.backward()
            totals.append(total.detach())
        return float(sum(totals))

    # A step is one batch, as the peers' is.
    row_lengths = [len(row.tokens) for row in rows]
    by_length = sorted(range(len(rows)), key=row_lengths.__getitem__)
    batches = make_batches(by_length, row_lengths, job["tokens_per_step"], MAX_PADDING_SHARE)
    random.Random(0).shuffle(batches)
    planned = [[[rows[index] for index in batch]] for batch in batches]
    return _timed(job, model, _in_order(job, rows) if job["ordered"] else planned, backward)


def usual_side(job: Job, width: int | None = None) -> Figures:
    """transformers and PEFT as most scripts use them: padded to the longest row, all logits, PEFT's own layers."""
    from transformers import AutoModelForCausalLM

    dtype = torch.bfloat16 if job["bfloat16"] else torch.float32
    base = AutoModelForCausalLM.from_pretrained(job["model"], dtype=dtype).to(models.device())
    model = PeftModel.from_pretrained(base, job["adapter"], is_trainable=True)

    def backward(step: Step) -> float:
        (batch,) = step
        longest = width or max(len(row.tokens) for row in batch)
        padding = [longest - len(row.tokens) for row in batch]
        ids = torch.tensor([[*row.tokens, *[0] * pad] for row, pad in zip(batch, padding, strict=True)])
        seen = torch.tensor([[1] * len(row.tokens) + [0] * pad for row, pad in zip(batch, padding, strict=True)])
        labelled = [[*row.loss_mask, *[False] * pad] for row, pad in zip(batch, padding, strict=True)]
        labels = ids.masked_fill(~torch.tensor(labelled), -100)
        here = [tensor.to(models.device()) for tensor in (ids, seen, labels)]
        loss = model(input_ids=here[0], attention_mask=here[1], labels=here[2]).loss
        loss.backward()
        return float(loss.detach())

    return _timed(job, model, _in_order(job, _rows()), backward)


def tell(side: Callable[[Job], Figures]) -> None:
    """Does the job that lies where this process was started, and prints the figures on the last line."""
    print(json.dumps(side(json.loads(Path("job.json").read_text(encoding="utf-8")))))


def seed_side(job: Job) -> Figures:
    """The contest kits' layout: every row padded to the same width."""
    return usual_side(job, PADDED_TOKENS)


def _rows() -> list[TokenizedExample]:
    told = json.loads(Path("rows.json").read_text(encoding="utf-8"))
    return [
        TokenizedExample(str(i), "", tuple(row["tokens"]), tuple(map(bool, row["labelled"])))
        for i, row in enumerate(told)
    ]


def _in_order(job: Job, rows: list[TokenizedExample]) -> list[Step]:
    size = job["rows_per_batch"]
    return [[rows[start : start + size]] for start in range(0, len(rows), size)]


def _timed(job: Job, model: Any, planned: list[Step], backward: Callable[[Step], float]) -> Figures:
    """Non-padding tokens per second over all steps after the warm-up, and each step's loss."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = create_optimizer(model, TrainSection(learning_rate=job["learning_rate"]))
    set_learning_rate(optimizer, job["learning_rate"])
    model.train()
    wanted = job["warm_up_steps"] + job["steps"]
    if len(planned) < wanted:
        raise SystemExit(f"the rows make {len(planned)} steps, and {wanted} are wanted")
    losses, tokens, started, energy = [], 0, 0.0, None
    for index, step in enumerate(planned[:wanted]):
        if index == job["warm_up_steps"]:
            tokens, started, energy = 0, time.perf_counter(), joules()
        losses.append(backward(step))
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tokens += sum(len(row.tokens) for batch in step for row in batch)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    speed = tokens / (time.perf_counter() - started)
    return {
        "useful_tokens_per_second": speed,
        "losses": losses,
        "peak_memory_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
        "joules_per_token": a_token(energy, joules(), tokens),
    }
