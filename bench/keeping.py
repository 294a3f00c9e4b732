"""Methods of retention compared at equal skill: what each one costs in tokens, time and lost abilities.

    keeptune synth --preset customer-mail --rows 2000 --seed 1 --out runs/customer-mail-train.jsonl
    keeptune synth --preset customer-mail --split test --rows 300 --seed 2 --out runs/customer-mail-test.jsonl
    python bench/keeping.py SKILL [--methods plain self-kl …] [--seeds 0 1 2]

Two skills: areas and masses from the demo's recipe, whose solutions are long and unfamiliar, and labels of customer
mail, whose answers are one word. Each method trains from the start. After a half, three quarters and all of the
training, the checkpoint answers held-out problems, and both models are evaluated on the abilities of the quick suite
that need no written answers. Methods are compared at equal skill and not at equal tokens: where a method's curve first
crosses the target, its figures and their bounds are interpolated between the two checkpoints. The curve starts at the
base, which solves none of the problems (results/quickstart.json, results/customer-mail.json).

Results stay in runs/keeping, and a second start continues there. Writes results/keeping-SKILL.json and .svg. It
measures one model and short runs; other sizes, skills and lengths may rank the methods differently.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from math import ceil
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

FOLDER = Path("runs/keeping")
ABILITIES = ("knowledge", "commonsense", "grammar", "general-text")
LOSS = "general-text"
CHECKPOINTS = 4

TARGETS = {"arithmetic": 0.15, "customer-mail": 0.55}
"""The accuracy at which methods are compared."""

SKILLS: dict[str, tuple[Path, tuple[str, ...]]] = {
    "arithmetic": (
        Path("recipes/quickstart.yaml"),
        (
            "data.files=[]",
            "data.synth.rows=80000",
            "data.synth.seed=1",
            "data.kinds=[area, mass]",
            "data.quota={area: 900, mass: 60}",
            "data.split={dev: 20, test: 140}",
            "train.tokens=64000",
        ),
    ),
    "customer-mail": (Path("recipes/customer-mail.yaml"), ("retain.replay_target=tokens", "train.tokens=24000")),
}
"""The recipe of each skill, and what is changed in it."""

ALONE = ("retain.replay_share=0", "retain.kl_weight=0")
WITHOUT_REPLAY = ("retain.replay_share=0", "retain.kl_weight=1.0")
SELF = ("retain.replay=[embedded, self]", "retain.replay_share=0.25")

METHODS: dict[str, tuple[str, ...]] = {
    "plain": ALONE,
    "slow": (*ALONE, "train.learning_rate=3.0e-4"),
    "self": (*SELF, "retain.kl_weight=0"),
    "self-kl": (*SELF, "retain.kl_weight=1.0"),
    "self-distribution": (*SELF, "retain.kl_weight=1.0", "retain.replay_target=distribution"),
    "reading-kl": ("retain.replay=[embedded]", "retain.replay_share=0.25", "retain.kl_weight=1.0"),
    "kl-prompts": (*WITHOUT_REPLAY, "retain.kl_tokens=prompts"),
    "kl-non-target": (*WITHOUT_REPLAY, "retain.kl_tokens=non_target"),
    "dft": (*ALONE, "retain.token_weighting=dft"),
    "eaft": (*ALONE, "retain.token_weighting=eaft"),
    "low-perplexity": (*ALONE, "retain.token_weighting=low_perplexity"),
}
"""Overrides of the recipe, by the name of the method."""

Figures = dict[str, Any]


def trained(skill: str, method: str, seed: int) -> Run:
    """The run of a method, with its checkpoints; continued where it was interrupted."""
    path, changes = SKILLS[skill]
    settings = (*changes, *METHODS[method], f"seed={seed}", "train.score_every_steps=0")
    train = recipes.load(path, settings).train
    every = ceil((train.tokens or 0) / train.tokens_per_step / CHECKPOINTS)
    recipe = recipes.load(path, (*settings, f"train.checkpoint_every_steps={every}"))
    run = Run.create(FOLDER / f"{skill}-{method}-{seed}", recipe, ConsoleReporter())
    run.train()
    return run


def measured(run: Run, folder: Path, problems: int) -> Figures:
    """Skill and retention of one checkpoint, from the file beside it if it was measured before."""
    path = run.directory.root / f"measured-{folder.name}-{problems}.json"
    if path.is_file():
        return read_json(path)
    tokenizer = models.load_tokenizer(models.EMBEDDED)
    tuned = adapters.load_adapter(models.load_model(models.EMBEDDED), folder)
    final = run.context.final
    records = skill_score.score_skill(
        Generator(tuned, tokenizer),
        run.context.prompt,
        final.problems("test", problems),
        final.budgets(),
        grader=final.grader,
    )
    progress = read_json(folder / "progress.json")
    judged = gate(GateRequest(models.EMBEDDED, str(folder), ABILITIES, "quick"), None, ConsoleReporter())
    keys = ("n", "base", "tuned", "point", "low95", "high95")
    figures = {
        "step": progress["step"],
        "tokens": progress["tokens"],
        "seconds": progress["seconds"],
        "skill": skill_score.summarize(records, final.grader)["accuracy"],
        "problems": len(records),
        "abilities": {name: {key: own[key] for key in keys} for name, own in judged["abilities"].items()},
    }
    write_json(path, figures)
    return figures


def base_point() -> Figures:
    """The base as the start of every curve: no skill, every ability unchanged."""
    unchanged = {name: 0.0 if name == LOSS else 1.0 for name in ABILITIES}
    abilities = {name: dict.fromkeys(("point", "low95", "high95"), value) for name, value in unchanged.items()}
    return {"skill": 0.0, "tokens": 0, "seconds": 0.0, "abilities": abilities}


def at_equal_skill(curve: list[Figures], target: float) -> Figures | None:
    """The figures where the curve first crosses the target, linear between checkpoints; None if it does not."""
    for before, after in pairwise([base_point(), *curve]):
        if before["skill"] < target <= after["skill"]:
            share = (target - before["skill"]) / (after["skill"] - before["skill"])
            return between(before, after, share)
    return None


def between(before: Figures, after: Figures, share: float) -> Figures:
    """Linear interpolation of the figures that both have."""

    def mix(first: float, second: float) -> float:
        return first + share * (second - first)

    abilities = {
        name: {key: mix(own[key], after["abilities"][name][key]) for key in own}
        for name, own in before["abilities"].items()
    }
    return {key: mix(before[key], after[key]) for key in ("skill", "tokens", "seconds")} | {"abilities": abilities}


def markdown(title: str, points: dict[str, list[Figures | None]]) -> str:
    """A table with one row per method and seed, and the interval of each ability at the target."""
    lines = [
        f"| {title} | tokens | seconds | " + " | ".join(ABILITIES) + " |",
        "|---|" + "---:|" * (2 + len(ABILITIES)),
    ]
    for method, seeds in points.items():
        for point in seeds:
            if point is None:
                lines.append(f"| {method} | not reached |" + " |" * (1 + len(ABILITIES)))
                continue
            cells = [interval(name, point["abilities"][name]) for name in ABILITIES]
            lines.append(f"| {method} | {point['tokens']:,.0f} | {point['seconds']:.0f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def interval(ability: str, own: Figures) -> str:
    """Point and 95 % interval: nats per token of a loss, per cent of the base of a score."""
    if ability == LOSS:
        return f"{own['point']:+.3f} ({own['low95']:+.3f} to {own['high95']:+.3f})"
    return f"{own['point']:.1%} ({own['low95']:.1%}–{own['high95']:.1%})"


def mean_retained(figures: Figures) -> float:
    """The mean of tuned over base of the abilities with a score."""
    points = [own["point"] for name, own in figures["abilities"].items() if name != LOSS]
    return sum(points) / len(points)


def plot(skill: str, curves: dict[str, list[list[Figures]]]) -> None:
    """Skill against the growth of the loss, and against the mean of the retained scores; a line per method and seed."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9.6, 4.2))
    for number, (method, seeds) in enumerate(curves.items()):
        style = {"color": f"C{number % 10}", "marker": "os"[number // 10], "markersize": 3.5, "linewidth": 1}
        for index, curve in enumerate(seeds):
            points = [base_point(), *curve]
            skills = [100 * own["skill"] for own in points]
            growth = [own["abilities"][LOSS]["point"] for own in points]
            left.plot(skills, growth, label=method if index == 0 else None, **style)
            right.plot(skills, [100 * mean_retained(own) for own in points], **style)
    left.axhline(0.1, color="grey", linewidth=0.8, linestyle="--")
    right.axhline(90, color="grey", linewidth=0.8, linestyle="--")
    left.set_ylabel("growth of the loss on general text, nats per token")
    right.set_ylabel("mean of three scored abilities, % of the base")
    for axes in (left, right):
        axes.set_xlabel(f"{skill}: held-out problems right, %")
    left.legend(fontsize=7, ncols=2)
    figure.tight_layout()
    figure.savefig(RESULTS / f"keeping-{skill}.svg")


def main() -> None:
    """Trains, measures, prints the table and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("skill", choices=SKILLS)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--problems", type=int, default=120)
    options = parser.parse_args()
    skill = options.skill
    curves: dict[str, list[list[Figures]]] = {}
    for seed in options.seeds:
        for method in options.methods:
            run = trained(skill, method, seed)
            folders = checkpoints.list_complete(run.directory.checkpoints)[1:]
            curve = [measured(run, folder, options.problems) for folder in folders]
            curves.setdefault(method, []).append(curve)
            print(f"{method} seed {seed}: skill " + ", ".join(f"{own['skill']:.0%}" for own in curve))
    points = {method: [at_equal_skill(curve, TARGETS[skill]) for curve in seeds] for method, seeds in curves.items()}
    print(markdown(f"{skill} at {TARGETS[skill]:.0%}", points))
    plot(skill, curves)
    settings = vars(options) | {"target": TARGETS[skill], "changes": SKILLS[skill][1]}
    methods = {method: METHODS[method] for method in options.methods}
    write_result(
        f"keeping-{skill}", {"settings": settings, "methods": methods, "curves": curves, "at_equal_skill": points}
    )


if __name__ == "__main__":
    main()
