"""Training speed on one accelerator at the shape of Llama-3-8B with random weights: keeptune beside its peers.

    python -m venv trl && trl/bin/pip install torch==2.13.0 "trl[peft]==1.16.0" peft==0.21.2 liger-kernel==0.8.5
    python -m venv us && us/bin/pip install torch==2.13.0 "trl[peft]==1.15.0" peft==0.21.2 unsloth==2026.10.9
    python bench/train_gpu.py --trl trl/bin/python --unsloth us/bin/python
    python bench/train_gpu.py --layers 2 --steps 1 --rounds 1 --tokens-per-step 256     a test without an accelerator

All sides use the same short rows, adapter, optimizer and start. They take turns, each in separate processes. keeptune
is also measured with its frozen base in fp8 and in four bits. Its peers are transformers with PEFT, TRL with packed
rows and liger's kernels, and Unsloth with packed rows. The speed is given in non-padding tokens per second, and as a
share of the measured speed of matrix products: a frozen weight takes two operations per token in the forward pass and
two in the backward pass. With nvidia-ml-py, energy is measured as well.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch
from common import write_result
from training import PEERS, Figures, Job, keeptune_side, prepare, run, tell, usual_side
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

from keeptune.config.adapter import AdapterSection
from keeptune.models import load as models
from keeptune.pipeline.speed_estimate import matrix_speed

OWN = {
    "keeptune": keeptune_side,
    "keeptune_fp8": partial(keeptune_side, quantization="fp8"),
    "keeptune_nf4": partial(keeptune_side, quantization="nf4"),
    "transformers_peft": usual_side,
}
ADAPTERS = {
    "attention-qv r8": AdapterSection(rank=8, alpha=16, targets="attention-qv"),
    "all-linear r16": AdapterSection(rank=16, alpha=32, targets="all-linear"),
}
SHAPE = {
    "vocab_size": 128_256,
    "hidden_size": 4096,
    "intermediate_size": 14_336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0},
    "tie_word_embeddings": False,
}
"""Of Llama-3-8B, which has 32 layers."""

LARGE = 8192
"""Rows and columns of the product that the machine's matrix speed is measured with."""


def put_model(folder: Path, layers: int) -> str:
    """The folder of a model of that shape with random weights, and with the embedded model's tokenizer."""
    torch.manual_seed(0)
    config = LlamaConfig(**SHAPE, num_hidden_layers=layers)
    with torch.device(models.device()):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    models.load_tokenizer(models.EMBEDDED).save_pretrained(folder)
    return str(folder)


def operations_a_token(model: str) -> int:
    """Four for each weight of the blocks and of the output layer; embeddings are looked up."""
    with torch.device("meta"):
        made = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model))
    return 4 * (made.num_parameters() - made.get_input_embeddings().weight.numel())


def main() -> None:
    """Runs all sides in turns for both adapters, and prints their median speeds and peaks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens-per-step", type=int, default=8192)
    parser.add_argument("--trl", help="the Python of an environment with TRL and liger-kernel")
    parser.add_argument("--unsloth", help="the Python of an environment with Unsloth")
    parser.add_argument("--side", choices=list(OWN), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        tell(OWN[options.side])
        return
    figures: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory() as scratch:
        model = put_model(Path(scratch) / "model", options.layers)
        size = LARGE if models.device().type != "cpu" else LARGE // 8
        limit = matrix_speed(size, size, size) / operations_a_token(model)
        print(f"at the measured matrix speed: {limit:,.0f} tokens/s")
        for name, section in ADAPTERS.items():
            folder = Path(scratch) / name.replace(" ", "-")
            folder.mkdir()
            sizes = {"steps": options.steps, "tokens_per_step": options.tokens_per_step}
            sizes["rows_per_batch"] = max(1, options.tokens_per_step // 128)
            rows = (options.steps + 6) * sizes["rows_per_batch"] * 2
            job = {**prepare(folder, rows, model, section), **sizes}
            figures[name] = measured(folder, job, options)
            report(name, figures[name], limit)
    write_result("train_gpu", {"settings": vars(options), "limit_tokens_per_second": limit, "adapters": figures})


def measured(folder: Path, job: Job, options: argparse.Namespace) -> Figures:
    """What each side told in each round."""
    sides = {name: (sys.executable, [__file__, "--side", name], job) for name in OWN}
    if options.trl:
        sides["trl_liger"] = (options.trl, [str(PEERS / "trl_side.py")], {**job, "packed": True, "liger": True})
    if options.unsloth:
        sides["unsloth"] = (options.unsloth, [str(PEERS / "unsloth_side.py")], {**job, "packed": True})
    rounds: Figures = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, side in sides.items():
            rounds[name].append(run(*side[:2], folder, side[2]))
    return rounds


def report(adapter: str, rounds: Figures, limit: float) -> None:
    """The table of one adapter."""
    print(adapter)
    for name, told in rounds.items():
        speeds = [one["useful_tokens_per_second"] for one in told]
        if None in speeds:
            print(f"  {name:18} could not run: {told[0].get('printed', '')[-200:]}")
            continue
        speed, peak = statistics.median(speeds), told[0].get("peak_memory_bytes")
        memory = f"  {peak / 1e9:5.1f} GB" if peak else ""
        energy = told[0].get("joules_per_token")
        used = f"  {1000 * energy:5.1f} mJ a token" if energy else ""
        print(f"  {name:18} {speed:8,.0f} useful tokens/s  {speed / limit:4.0%} of the limit{memory}{used}")


if __name__ == "__main__":
    main()
