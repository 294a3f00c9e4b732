"""Methods of retention compared at equal skill: what each one costs in tokens, time and lost abilities.

    python bench/keeping.py [--methods plain self-kl …] [--seeds 0 1 2] [--tokens 160000]

Each method trains the demo's recipe (three kinds of arithmetic) from the start. Every quarter of the training, the
checkpoint answers held-out problems, and both models are evaluated on the abilities of the quick suite that need no
written answers. A method is reported at its first checkpoint that reaches the target accuracy, so methods are compared
at equal skill and not at equal tokens. `retained` is the smallest lower 95 % bound over the abilities, tuned over base;
for general text, a loss, exp(−upper bound of its growth).

Results stay in runs/keeping, and a second start continues there. Writes results/keeping.json and results/keeping.svg.
It measures one model and one skill; other sizes and other skills may rank the methods differently.
"""

from __future__ import annotations

import argparse
from math import exp
from pathlib import Path
from typing import Any

import matplotlib
from common import RESULTS, write_result

from keeptune.cli.console import ConsoleReporter
from keeptune.config import recipe as recipes
from keeptune.evaluation import skill_score
from keeptune.files import read_json, write_json
from keeptune.generation.engine import Generator
from keeptune.models import adapters
from keeptune.models import load as models
from keeptune.pipeline.gate_job import GateRequest, gate
from keeptune.pipeline.run import Run
from keeptune.training import checkpoints

matplotlib.use("Agg")
from matplotlib import pyplot

RECIPE = Path("recipes/quickstart.yaml")
FOLDER = Path("runs/keeping")
ABILITIES = ("knowledge", "commonsense", "grammar", "general-text")
CHECKPOINTS = 4
ALONE = ("retain.replay_share=0", "retain.kl_weight=0")
SELF = ("retain.replay=[embedded, self]", "retain.replay_share=0.25")

METHODS: dict[str, tuple[str, ...]] = {
    "plain": ALONE,
    "slow": (*ALONE, "train.learning_rate=3.0e-4"),
    "reading": ("retain.replay=embedded", "retain.replay_share=0.1", "retain.kl_weight=0"),
    "reading-kl": ("retain.replay=embedded", "retain.replay_share=0.1", "retain.kl_weight=1.0"),
    "self": (*SELF, "retain.kl_weight=0"),
    "self-kl": (*SELF, "retain.kl_weight=1.0"),
    "self-distribution": (*SELF, "retain.kl_weight=1.0", "retain.replay_target=distribution"),
    "kl-prompts": ("retain.replay_share=0", "retain.kl_weight=1.0", "retain.kl_tokens=prompts"),
    "kl-non-target": ("retain.replay_share=0", "retain.kl_weight=1.0", "retain.kl_tokens=non_target"),
    "dft": (*ALONE, "retain.token_weighting=dft"),
    "eaft": (*ALONE, "retain.token_weighting=eaft"),
    "low-perplexity": (*ALONE, "retain.token_weighting=low_perplexity"),
}
"""Overrides of the demo's recipe, by the name of the method."""


def trained(method: str, seed: int, tokens: int) -> Run:
    """The run of a method, with its checkpoints; continued where it was interrupted."""
    steps = max(CHECKPOINTS, tokens // 1400)
    settings = (
        f"seed={seed}",
        f"train.tokens={tokens}",
        "train.score_every_steps=0",
        f"train.checkpoint_every_steps={max(1, steps // CHECKPOINTS)}",
    )
    recipe = recipes.load(RECIPE, (*METHODS[method], *settings))
    run = Run.create(FOLDER / f"{method}-{seed}-{tokens}", recipe, ConsoleReporter())
    run.train()
    return run


def measured(run: Run, folder: Path, problems: int) -> dict[str, Any]:
    """Skill and retention of one checkpoint, from the file beside it if it was measured before."""
    path = run.folder / f"measured-{folder.name}-{problems}.json"
    if path.is_file():
        return read_json(path)
    tokenizer = models.load_tokenizer(models.EMBEDDED)
    tuned = adapters.load_adapter(models.load_model(models.EMBEDDED), folder)
    asked = run.context.final.problems("test", problems)
    records = skill_score.score_skill(
        Generator(tuned, tokenizer), run.context.prompt, asked, run.context.final.budgets()
    )
    progress = read_json(folder / "progress.json")
    judged = gate(GateRequest(models.EMBEDDED, str(folder), ABILITIES, "quick"), None, ConsoleReporter())
    keys = ("status", "n", "base", "tuned", "point", "low95", "high95", "kind")
    abilities = {name: {key: own[key] for key in keys} for name, own in judged["abilities"].items()}
    figures = {
        "step": progress["step"],
        "tokens": progress["tokens"],
        "seconds": progress["seconds"],
        "skill": skill_score.summarize(records)["accuracy"],
        "problems": len(records),
        "retained": min(retained(own) for own in abilities.values()),
        "abilities": abilities,
    }
    write_json(path, figures)
    return figures


def retained(ability: dict[str, Any]) -> float:
    """The lower 95 % bound of what is retained; of a loss, of exp(−growth)."""
    bound = ability["low95"] if ability["kind"] == "score" else exp(-ability["high95"])
    return float(bound)


def at_equal_skill(curve: list[dict[str, Any]], target: float) -> dict[str, Any] | None:
    """The first checkpoint that reaches the target; None if there is none."""
    return next((own for own in curve if own["skill"] >= target), None)


def plot(curves: dict[str, list[list[dict[str, Any]]]]) -> None:
    """Skill against the smallest retained bound, one line per method and seed."""
    figure, axes = pyplot.subplots(figsize=(7.2, 4.6))
    for number, (method, seeds) in enumerate(curves.items()):
        for index, curve in enumerate(seeds):
            points = [(100 * own["skill"], 100 * own["retained"]) for own in curve]
            label = method if index == 0 else None
            axes.plot(*zip(*points, strict=True), "o-", color=f"C{number % 10}", label=label, markersize=4)
    axes.axhline(90, color="grey", linewidth=0.8, linestyle="--")
    axes.set_xlabel("skill: held-out problems right, %")
    axes.set_ylabel("smallest lower bound of tuned / base, %")
    axes.legend(fontsize=7, ncols=2)
    figure.tight_layout()
    figure.savefig(RESULTS / "keeping.svg")


def main() -> None:
    """Trains, measures, prints a table and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--tokens", type=int, default=160_000)
    parser.add_argument("--problems", type=int, default=120)
    parser.add_argument("--target", type=float, default=0.5)
    options = parser.parse_args()
    curves: dict[str, list[list[dict[str, Any]]]] = {}
    for method in options.methods:
        for seed in options.seeds:
            run = trained(method, seed, options.tokens)
            curve = [
                measured(run, path, options.problems) for path in checkpoints.list_complete(run.folder / "checkpoints")
            ]
            curves.setdefault(method, []).append(curve)
            point = at_equal_skill(curve, options.target)
            shown = (
                f"skill {point['skill']:.1%} at {point['tokens']:,} tokens, {point['seconds']:.0f} s; "
                f"retained ≥ {point['retained']:.1%}"
                if point
                else f"below {options.target:.0%}: {curve[-1]['skill']:.1%}; retained ≥ {curve[-1]['retained']:.1%}"
            )
            print(f"{method:18} seed {seed}  {shown}", flush=True)
    plot(curves)
    write_result("keeping", {"settings": vars(options), "methods": METHODS, "curves": curves})


if __name__ == "__main__":
    main()
