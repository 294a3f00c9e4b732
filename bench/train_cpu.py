"""Training speed on the processor: keeptune, the contest kits' layout, TRL, LLaMA-Factory and Unsloth, in one run.

    python -m venv trl && trl/bin/pip install torch==2.13.0 "trl[peft]==1.16.0" peft==0.21.2
    python -m venv lf && lf/bin/pip install torch==2.13.0 llamafactory==0.9.5
    python -m venv us && us/bin/pip install torch==2.13.0 "trl[peft]==1.15.0" peft==0.21.2 unsloth==2026.10.9
    python bench/train_cpu.py --trl trl/bin/python --llamafactory lf/bin/python --unsloth us/bin/python

With a build of torch for processors, remove LLaMA-Factory's torchvision and torchaudio, which are for CUDA (`pip
uninstall torchvision torchaudio`). LLaMA-Factory still imports torchaudio, so an empty module replaces it. There,
install Unsloth, `unsloth_zoo` and `cut_cross_entropy` with `--no-deps`, and whatever else their import needs.

All sides use the same rows, the same adapter with the same start, AdamW with the same settings, and about as many
non-padding tokens per step. Each side runs in separate processes, so that none inherits another's memory settings. The
sides take turns, so that other load affects all of them equally. Each peer uses its best settings for this machine:
rows of similar length together, bfloat16 where the processor supports it, no activation checkpointing. TRL is also
measured with packed rows, and its faster result counts. `seed_layout` is what the contest's kits do: every row padded
to 256 tokens, all logits, PEFT's own forward pass. First, all sides get the same batches in the same order in float32,
and their losses are compared.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from common import write_result
from training import PEERS, Figures, Job, keeptune_side, prepare, run, seed_side, tell

from keeptune.config.adapter import AdapterSection
from keeptune.models import load as models

OWN = {"keeptune": keeptune_side, "seed_layout": seed_side}
COMPARED_STEPS = 20

Side = tuple[str, list[str], Job]
"""A Python, what it runs, and what is special about its job."""


def sides(options: argparse.Namespace) -> dict[str, Side]:
    """Who takes part."""
    found: dict[str, Side] = {name: (sys.executable, [__file__, "--side", name], {}) for name in OWN}
    if options.trl:
        script = [str(PEERS / "trl_side.py")]
        found["trl"], found["trl_packed"] = (options.trl, script, {}), (options.trl, script, {"packed": True})
    if options.llamafactory:
        found["llamafactory"] = (options.llamafactory, [str(PEERS / "llamafactory_side.py")], {})
    if options.unsloth:
        found["unsloth"] = (options.unsloth, [str(PEERS / "unsloth_side.py")], {})
    return found


def compared(folder: Path, job: Job, taking_part: dict[str, Side]) -> Figures:
    """Each side's losses on the same batches, and how far they are from keeptune's, relatively, at most.

    In float32, because in bfloat16 any two of them differ by a hundredth.
    """
    exact = str(folder / "float32")  # a copy, because LLaMA-Factory computes in what a model is stored in
    models.load_model(job["model"], "float32").save_pretrained(exact)
    models.load_tokenizer(job["model"]).save_pretrained(exact)
    steps = {"ordered": True, "steps": COMPARED_STEPS - 1, "warm_up_steps": 1}
    ordered = {**job, **steps, "model": exact, "bfloat16": False}
    losses = {
        name: run(python, script, folder, ordered).get("losses")
        for name, (python, script, special) in taking_part.items()
        if not special
    }
    own = losses["keeptune"]
    furthest = {
        name: max(abs(one - other) / other for one, other in zip(told, own, strict=True))
        for name, told in losses.items()
        if told and own
    }
    return {"losses": losses, "furthest_relative": furthest}


def main() -> None:
    """Runs all sides in turns, and prints their median speeds beside keeptune's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trl", help="the Python of an environment with TRL")
    parser.add_argument("--llamafactory", help="the Python of an environment with LLaMA-Factory")
    parser.add_argument("--unsloth", help="the Python of an environment with Unsloth")
    parser.add_argument("--side", choices=list(OWN), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        tell(OWN[options.side])
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        section = AdapterSection(rank=16, alpha=32, targets="all-linear")
        rows = 10 * max(COMPARED_STEPS, options.steps + 4)
        job = {**prepare(folder, rows, models.resolve(models.EMBEDDED), section), "steps": options.steps}
        taking_part = sides(options)
        alike = compared(folder, job, taking_part)
        rounds: dict[str, list[Figures]] = {name: [] for name in taking_part}
        for _ in range(options.rounds):
            for name, (python, script, special) in taking_part.items():
                rounds[name].append(run(python, script, folder, {**job, **special}))
    named = {"model": models.EMBEDDED, "rounds": options.rounds, "rank": 16, "targets": "all-linear"}
    report({**job, **named}, alike, rounds)


def report(settings: Job, alike: Figures, rounds: dict[str, list[Figures]]) -> None:
    """The table, and results/train_cpu.json."""
    speeds = {name: [one["useful_tokens_per_second"] for one in told] for name, told in rounds.items()}
    medians = {name: None if None in own else statistics.median(own) for name, own in speeds.items()}
    own = medians["keeptune"]
    assert own is not None, rounds["keeptune"]
    for name, value in medians.items():
        speed = f"{value:6.0f} useful tokens/s   keeptune / it {own / value:5.2f}" if value else "could not run"
        far = alike["furthest_relative"].get(name)
        print(f"{name:14} {speed}" + ("" if far is None else f"   losses within {far:.1e}"))
    trl = max((value for name in ("trl", "trl_packed") if (value := medians.get(name))), default=None)
    named = {"keeptune": own, "trl": trl, **{name: medians.get(name) for name in ("llamafactory", "unsloth")}}
    own_versions = {name: version(name) for name in ("torch", "transformers", "peft")}
    figures: dict[str, Any] = {
        "useful_tokens_per_second": {**named, "seed_layout": medians["seed_layout"]},
        "medians": medians,
        "settings": settings,
        "same_batches": alike,
        "versions": {name: told[0].get("versions", own_versions) for name, told in rounds.items()},
        "printed": {name: told[0]["printed"] for name, told in rounds.items() if "printed" in told[0]},
        "rounds": speeds,
    }
    write_result("train_cpu", figures)


if __name__ == "__main__":
    main()
