"""The cost of quantized frozen weights (model.quantization) in loss, score and speed, side by side in one run.

    python bench/quantised.py ADAPTER --problems 100

For each format, a separate process measures the base's loss on general text, the loss and speed of a short training
with the same start and batches, and the score of ADAPTER on sums and differences. ADAPTER was trained on the weights
before rounding and is evaluated on the rounded ones.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import examples, write_result
from common import problems as drawn

from keeptune.config.adapter import AdapterSection
from keeptune.config.train import TrainSection
from keeptune.data.plain_texts import load_general_texts
from keeptune.evaluation.text_divergence import measure_text_divergence
from keeptune.files import write_records
from keeptune.models import adapter_metadata, adapters
from keeptune.models import load as models
from keeptune.models.quantization import LAYER_TYPES
from keeptune.pipeline.evaluate_files import Request, score_files
from keeptune.training.loop import StepRecord, Trainer

FORMATS = ("none", *LAYER_TYPES)
STEP_TOKENS = 1024
LAST = 5
"""The number of last steps whose mean loss is reported."""

SHORT = ("add", "sub")
"""The kinds of the test problems. Weights are dequantized for every token, so long answers are slow on a processor."""


def trained(kind: str | None, steps: int) -> dict[str, Any]:
    """The base's loss on general text, and the last loss and the non-padding tokens per second of a training."""
    tokenizer = models.load_tokenizer(models.EMBEDDED)
    base = models.load_model(models.EMBEDDED, quantization=kind)
    # By their place in memory: tied embeddings are two names of one weight.
    weight_bytes = sum({tensor.data_ptr(): tensor.nbytes for tensor in base.state_dict().values()}.values())
    model = adapters.attach(base, AdapterSection(), 0)
    records = measure_text_divergence(model, 1.0, tokenizer, load_general_texts(["embedded"]))
    seen: list[StepRecord] = []
    sizes = {"tokens_per_step": STEP_TOKENS, "tokens_per_batch": STEP_TOKENS, "tokens": steps * STEP_TOKENS}
    with tempfile.TemporaryDirectory() as folder:
        rows = examples(tokenizer, 12 * steps)
        Trainer(model, rows, TrainSection.model_validate(sizes), 0, Path(folder)).run(seen.append)
    return {
        "weight_bytes": weight_bytes,
        "general_loss": sum(r["base_nll"] for r in records) / sum(r["predicted"] for r in records),
        "last_training_loss": statistics.mean(step.loss for step in seen[-LAST:]),
        "useful_tokens_per_second": sum(s.tokens for s in seen[1:]) / sum(s.seconds for s in seen[1:]),
    }


def right(kind: str | None, adapter: Path, problems: int) -> dict[str, Any]:
    """How many problems an adapter gets right on the base in this format."""
    with tempfile.TemporaryDirectory() as scratch:
        copy, asked = Path(scratch) / "adapter", Path(scratch) / "asked.jsonl"
        shutil.copytree(adapter, copy)
        adapter_metadata.save(replace(adapter_metadata.load(copy), quantization=kind), copy)
        rows = drawn(problems, SHORT, 77)
        write_records(asked, [{"problem": problem, "solution": solution} for _, problem, solution in rows])
        scored = score_files(str(copy), Request(asked))
    assert scored is not None
    return {key: scored["skill"][key] for key in ("accuracy", "n", "ci95")}


def main() -> None:
    """Prints a line for each format."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("adapter", type=Path, help="of the embedded model")
    parser.add_argument("--problems", type=int, default=100)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--only", choices=FORMATS, help="one format, in this process, as JSON")
    options = parser.parse_args()
    if options.only:
        kind = None if options.only == "none" else options.only
        print(json.dumps({**trained(kind, options.steps), "skill": right(kind, options.adapter, options.problems)}))
        return
    figures = {}
    for name in FORMATS:
        command = [sys.executable, __file__, str(options.adapter), "--only", name]
        sizes = ["--problems", str(options.problems), "--steps", str(options.steps)]
        told = subprocess.run([*command, *sizes], check=True, stdout=subprocess.PIPE, text=True).stdout
        figures[name] = own = json.loads(told.splitlines()[-1])
        print(
            f"{name:5} {own['weight_bytes'] / 1e6:6.0f} MB  general {own['general_loss']:.3f}  training "
            f"{own['last_training_loss']:.3f}  {own['useful_tokens_per_second']:5.0f} tokens/s  "
            f"right {own['skill']['accuracy']:.1%} of {own['skill']['n']}",
            flush=True,
        )
    write_result("quantised", {"steps": options.steps, "step_tokens": STEP_TOKENS, "formats": figures})


if __name__ == "__main__":
    main()
