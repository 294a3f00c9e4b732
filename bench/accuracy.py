"""Accuracy at a fixed token budget: the best recipe, and comparisons of solution styles, spellings and adapters.

    python bench/accuracy.py best --tokens 4000000      the best recipe on this machine's device (or --minutes 90)
    python bench/accuracy.py styles --tokens 200000     five styles of solutions, at an equal budget
    python bench/accuracy.py spellings --tokens 200000  four spellings of the numbers in long-hand solutions
    python bench/accuracy.py adapters --tokens 200000   adapters from 0.01 to 4 % of the parameters, at an equal budget

All variants are scored on problems that are in no training row, in the mix of the contest's unique rows. Missing test
problems are generated. Reading is scored with and without the adapter. `--kinds add,sub` limits training and test to
these kinds, which a small budget can teach, so that the variants differ. Each command prints a table and writes
results/accuracy-NAME.json. The same command resumes an interrupted run.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common import RESULTS, write_result
from matplotlib.figure import Figure

from keeptune.cli.console import ConsoleReporter
from keeptune.config import recipe as recipes
from keeptune.evaluation import contest
from keeptune.files import read_json, write_records
from keeptune.grading.number import POLICIES
from keeptune.pipeline.evaluate_files import Request, score_files
from keeptune.pipeline.run import Run
from keeptune.skills.arithmetic.contest_corpus import generate_unique_corpus
from keeptune.skills.arithmetic.skill import Arithmetic

ROOT = Path(__file__).parent.parent
RECIPE = ROOT / "recipes" / "best.yaml"
UNSEEN = {"test": (2000, 20261121), "dev": (550, 77)}
"""Rows and seed of the problems that recipes/best.yaml keeps out of training."""

PROBE_TOKENS = 12_000
"""Trained on first where the budget is a time, to see how fast this machine is."""

ROWS_A_KIND = 4000
"""Of each of --kinds, so that no variant sees a row twice within the budgets that this is for."""

FRESH_RATE = 1.5e-3
"""The best recipe's rate is one to go on with."""

VECTOR_RATE = 1e-2
"""For adapters that train vectors alone: the papers of VeRA and IA3 too give them several times LoRA's rate."""

Variants = Mapping[str, tuple[str, ...]]
"""Overrides of the best recipe, by the name of what they make of it."""

VARIANTS: Mapping[str, Variants] = {
    "styles": {
        style: (f"data.styles={{default: {style}}}",) for style in ("raw", "answer", "rule", "longhand", "digits")
    },
    "spellings": {
        spelling: ("data.styles={default: longhand}", f"data.spelling={spelling}", "data.max_tokens=3000")
        for spelling in ("plain", "spaced", "grouped", "reversed")
    },
    "adapters": {
        "ia3": ("adapter={family: ia3}", f"train.learning_rate={VECTOR_RATE}"),
        "vera r256": ("adapter={family: vera, rank: 256}", f"train.learning_rate={VECTOR_RATE}"),
        "lora attention-qv r4": ("adapter={rank: 4, alpha: 8, targets: attention-qv}",),
        "lora attention-qv r8": ("adapter={rank: 8, alpha: 16, targets: attention-qv}",),
        "lora all-linear r4": ("adapter={rank: 4, alpha: 8}",),
        "lora all-linear r16": ("adapter={rank: 16, alpha: 32}",),
    },
}


def unseen(name: str) -> Path:
    """The file of problems to score on, or to look at on the way."""
    path, (rows, seed) = ROOT / "runs" / "accuracy" / f"{name}.jsonl", UNSEEN[name]
    if not path.is_file():
        write_records(path, list(generate_unique_corpus(rows, seed)))
    return path


def asked(kinds: Sequence[str]) -> Path:
    """The file of problems to score on, of these kinds alone where there are any."""
    everything = unseen("test")
    if not kinds:
        return everything
    skill, path = Arithmetic(), everything.with_name(f"test-{'-'.join(kinds)}.jsonl")
    rows = map(json.loads, everything.read_text(encoding="utf-8").splitlines())
    read = ((row, skill.parse(row["problem"], row["solution"])) for row in rows)
    write_records(path, [row for row, question in read if question is not None and question.kind in kinds])
    return path


def fresh(kinds: Sequence[str]) -> tuple[str, ...]:
    """Overrides of the best recipe for a fresh adapter, taught these kinds alone where there are any."""
    rate = f"train.learning_rate={FRESH_RATE}"
    if not kinds:
        return (rate,)
    return (rate, f"data.kinds=[{','.join(kinds)}]", f"data.quota={{default: {ROWS_A_KIND}}}", "data.exclude=[]")


def trained(folder: Path, overrides: tuple[str, ...]) -> Run:
    """The best recipe with some of its settings changed, trained in `folder` up to its adapter."""
    run = Run.create(folder, recipes.load(RECIPE, overrides), ConsoleReporter())
    run.select()
    return run


def training_steps(run: Run) -> list[dict[str, Any]]:
    """What a run logged of each step of its training."""
    return [event for event in run.context.events.events() if event["event"] == "train"]


def speed(folder: Path) -> float:
    """Non-padding tokens per second of the best recipe on this machine, without the first fifth of a short training."""
    steps = training_steps(trained(folder, (f"train.tokens={PROBE_TOKENS}",)))
    first, last = steps[len(steps) // 5], steps[-1]
    return float((last["tokens"] - first["tokens"]) / (last["seconds"] - first["seconds"]))


def scored(run: Run, test: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Skill and reading of a run's adapter, its size and what it cost."""
    name, out, reporter = str(run.directory.root), run.directory.root, run.context.reporter
    skill = score_files(name, Request(test, limit=arguments.problems, out=out), reporter=reporter)["skill"]
    request = Request(reading=arguments.reading, limit=arguments.questions, out=out)
    kept = score_files(name, request, reporter=reporter)["retained"]
    last = training_steps(run)[-1]
    sizes = read_json(run.folder / "manifest.json")["parameters"]
    ratio = sizes["trainable"] / sizes["total"]
    return {
        "skill": {**skill, "file": test.name},
        "retained": kept,
        "parameters": {**sizes, "ratio": ratio},
        "contest": {
            "phase1": contest.phase1_score(ratio, skill["accuracy"]),
            "phase2": contest.phase2_score(ratio, skill["accuracy"]),
        },
        "tokens": last["tokens"],
        "train_seconds": last["seconds"],
    }


def enough_rows(tokens: int) -> tuple[str, ...]:
    """Overrides that give the best recipe rows for `tokens`: new problems, repeated only in kinds with too few."""
    recipe = recipes.load(RECIPE)
    assert recipe.train.tokens
    times = math.ceil(tokens / recipe.train.tokens)
    quota = {kind: times * rows for kind, rows in recipe.data.quota.items()}
    return f"data.quota={json.dumps(quota)}", f"data.max_repeats={times}"


def best(arguments: argparse.Namespace, folder: Path) -> None:
    """Trains the best recipe, and prints its accuracy by kind and by policy."""
    tokens = arguments.tokens or int(speed(folder / "probe") * 60 * arguments.minutes)
    run = trained(folder / f"best-{tokens}", (*fresh(()), *enough_rows(tokens), f"train.tokens={tokens}"))
    figures = scored(run, unseen("test"), arguments)
    base = score_files("smollm2-135m", Request(reading=arguments.reading, limit=arguments.questions))["retained"]
    write_result("accuracy-best", {"base": {"retained": base}, "tuned": figures})
    skill, kept = figures["skill"], figures["retained"]
    print(f"{figures['tokens']:,} tokens in {figures['train_seconds']:,.0f} s")
    for name, own in {"all": skill, **skill["by_kind"]}.items():
        print(f"{name:10} {own['accuracy']:7.1%} of {own['n']}")
    print("  ".join(f"{policy} {skill['by_policy'][policy]:.1%}" for policy in POLICIES))
    print(f"reading F1 {base['f1']:.1f} → {kept['f1']:.1f}, EM {base['em']:.1f} → {kept['em']:.1f} of {kept['n']}")


def ranked(name: str, arguments: argparse.Namespace, folder: Path) -> None:
    """Trains every variant on the same number of tokens, and prints them from the best down."""
    base = score_files("smollm2-135m", Request(reading=arguments.reading, limit=arguments.questions))["retained"]
    rows, test = {}, asked(arguments.kinds)
    for variant, own in VARIANTS[name].items():
        overrides = (*fresh(arguments.kinds), *own, f"train.tokens={arguments.tokens}")
        run = trained(folder / "-".join((name, *arguments.kinds, str(arguments.tokens))) / variant, overrides)
        rows[variant] = scored(run, test, arguments)
    ordered = dict(sorted(rows.items(), key=lambda row: -row[1]["skill"]["accuracy"]))
    settings = {"tokens": arguments.tokens, "kinds": arguments.kinds}
    write_result(f"accuracy-{name}", {"base": {"retained": base}, **settings, "variants": ordered})
    print(f"{'':22} trained   right     95 %          F1 / base  contest 1")
    for variant, figures in ordered.items():
        skill, size = figures["skill"], figures["parameters"]["ratio"]
        low, high = (100 * bound for bound in skill["ci95"])
        kept = figures["retained"]["f1"] / base["f1"]
        print(
            f"{variant:22} {size:7.3%} {skill['accuracy']:7.1%}  ({low:4.1f}–{high:4.1f})"
            f"    {kept:9.2f}  {figures['contest']['phase1']:9.4f}"
        )
    if name == "adapters":
        draw(ordered, base["f1"])


def draw(rows: Mapping[str, Any], base_f1: float) -> None:
    """The frontier: accuracy and kept reading against the share of parameters that was trained."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for variant, figures in rows.items():
        share, accuracy = 100 * figures["parameters"]["ratio"], 100 * figures["skill"]["accuracy"]
        axes.plot(share, accuracy, "o", color="C0")
        axes.annotate(variant, (share, accuracy), textcoords="offset points", xytext=(3, 5), fontsize=8, rotation=40)
        axes.plot(share, 100 * figures["retained"]["f1"] / base_f1, "s", color="C1")
    axes.plot([], [], "o", color="C0", label="problems right, %")
    axes.plot([], [], "s", color="C1", label="reading F1, % of the base's")
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("trained parameters, % of all")
    axes.legend()
    figure.savefig(RESULTS / "accuracy-adapters.svg", metadata={"Date": None})


def main() -> None:
    """Reads the command line and runs what it names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("best", *VARIANTS))
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--tokens", type=int, help="useful training tokens, of each variant")
    budget.add_argument("--minutes", type=float, help="of training, for `best`")
    parser.add_argument("--kinds", type=lambda given: given.split(","), default=[], help="only these, such as add,sub")
    parser.add_argument("--problems", type=int, default=0, help="only the first so many of the 2,000; 0: all")
    parser.add_argument("--reading", default="embedded", help="a SQuAD v1.1 file, or `embedded`")
    parser.add_argument("--questions", type=int, default=0, help="only the first so many reading questions; 0: all")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "accuracy")
    arguments = parser.parse_args()
    if arguments.minutes and arguments.what != "best":
        parser.error("variants are compared at an equal number of tokens; give --tokens")
    if arguments.kinds and arguments.what == "best":
        parser.error("--kinds is for comparing variants; the best recipe teaches all")
    for name in UNSEEN:
        unseen(name)
    if arguments.what == "best":
        best(arguments, arguments.runs)
    else:
        ranked(arguments.what, arguments, arguments.runs)


if __name__ == "__main__":
    main()
