"""The contest teams' data selections on the embedded model, at equal tokens and on the same questions.

    python bench/seeds.py [--tokens 150000] [--problems 300] [--retrained]

Each recipe of recipes/seeds/ is trained with three changes: the model, the number of tokens, and the limit of a row's
length, which Chinese text in small tokens exceeds. Recipe 004 uses LoRA+. The teams chose their learning rates for
eight billion parameters. So `--retrained` trains each selection, with its solutions, once more with the adapter,
learning rate, prompt and reading practice of this project. All models answer the same problems in the mix of the
contest's unique rows, and are compared question by question with recipes/seeds/ours.yaml. The output is
results/seeds.json and the page results/seeds.html. The same command resumes an interrupted run.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path
from typing import Any

from common import RESULTS, write_result

from keeptune.cli.console import ConsoleReporter
from keeptune.config import recipe as recipes
from keeptune.evaluation.comparison import compare, format_comparison
from keeptune.files import write_records, write_text
from keeptune.pipeline.run import Run
from keeptune.report.comparison import page
from keeptune.skills.arithmetic.contest_corpus import generate_corpus, generate_unique_corpus

SEEDS = Path(__file__).parent.parent / "recipes" / "seeds"
OURS = "ours"
NAMES = (OURS, "000", "001", "002", "004")
ROWS = 809_993
"""As many as the contest's file has."""

OWN: dict[str, tuple[str, ...]] = {"004": ("train.loraplus_ratio=16",)}


def files(folder: Path, problems: int) -> tuple[Path, Path]:
    """The corpus in the contest's format, and the problems to ask, made here if they are not there."""
    rows, asked = folder.resolve() / "train.json", folder.resolve() / f"test-{problems}.jsonl"
    if not rows.is_file():
        write_records(rows, list(generate_corpus(ROWS, 11)))
    if not asked.is_file():
        write_records(asked, list(islice(generate_unique_corpus(2000, 20261121), problems)))
    return rows, asked


def recipe(name: str, tokens: int, rows: Path, asked: Path, retrained: bool) -> recipes.Recipe:
    """The recipe of a selection, trained as it says or as ours does."""
    same = (
        "model.name=smollm2-135m",
        f"data.files=[{rows}]",
        f"data.test_files=[{asked}]",
        "data.split={dev: 0}",
        "data.max_tokens=1024",
        f"train.tokens={tokens}",
        "score.suite=none",  # this compares selections of data, by skill and reading
    )
    made = recipes.load(SEEDS / f"{name}.yaml", (*same, *(() if retrained else OWN.get(name, ()))))
    if not retrained:
        return made
    ours = recipe(OURS, tokens, rows, asked, retrained=False)
    changes = {part: getattr(ours, part) for part in ("prompt", "adapter", "train")}
    return made.model_copy(update={**changes, "name": f"{made.name}-retrained"})


def finished(folder: Path, job: recipes.Recipe) -> Path:
    """The folder of the run, after all stages that were missing."""
    Run.create(folder, job, ConsoleReporter()).all()
    return folder


def main() -> None:
    """Prints the comparison, and writes it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=150_000, help="useful training tokens, of each")
    parser.add_argument("--problems", type=int, default=300)
    parser.add_argument("--retrained", action="store_true", help="also each selection with our training")
    parser.add_argument("--runs", type=Path, default=Path("runs/seeds"))
    options = parser.parse_args()
    found = files(options.runs, options.problems)
    jobs: list[tuple[str, bool]] = [(name, False) for name in NAMES]
    if options.retrained:
        jobs += [(name, True) for name in NAMES if name != OURS]
    folders = []
    for name, retrained in jobs:
        folder = options.runs / f"{name}{'-retrained' if retrained else ''}-{options.tokens}"
        folders.append(finished(folder, recipe(name, options.tokens, *found, retrained)))
    made: dict[str, Any] = compare(folders)
    print(format_comparison(made))
    write_text(RESULTS / "seeds.html", page(made))
    write_result("seeds", {"tokens": options.tokens, "problems": options.problems, **made})


if __name__ == "__main__":
    main()
