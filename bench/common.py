"""What the benchmarks share: rows to work on, where results go, and what they depend on."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from keeptune.config.prompt import PromptSection
from keeptune.config.solution_format import Rounding
from keeptune.environment import manifest
from keeptune.prompts.template import Prompt
from keeptune.skills.arithmetic.kinds import KINDS
from keeptune.training.batches import TokenizedExample

RESULTS = Path(__file__).parent.parent / "results"
LENGTH_MIX = ("add", "sub", "equation", "mean", "area", "mass", "sales", "discount")
"""Kinds whose long-hand rows are 50 to 250 tokens long."""


def problems(count: int, kinds: tuple[str, ...], seed: int) -> list[tuple[str, str, str]]:
    """(kind, problem, long-hand solution), the kinds in turn."""
    generator = random.Random(f"bench/{seed}")
    known = {kind.name: kind for kind in KINDS}
    chosen = []
    for index in range(count):
        kind = known[kinds[index % len(kinds)]]
        problem = kind.sample(generator)
        chosen.append((kind.name, kind.render_problem(problem), kind.render_longhand(problem, Rounding(2))))
    generator.shuffle(chosen)
    return chosen


def examples(tokenizer: Any, count: int, seed: int = 0) -> list[TokenizedExample]:
    """Rows as tokens, labelled on the solution."""
    prompt, made = Prompt(PromptSection().template), []
    for index, (kind, problem, solution) in enumerate(problems(count, LENGTH_MIX, seed)):
        asked, answer = prompt.encode(tokenizer, problem), prompt.encode_solution(tokenizer, solution)
        labelled = (False,) * len(asked) + (True,) * len(answer)
        made.append(TokenizedExample(str(index), kind, (*asked, *answer), labelled))
    return made


def write_result(name: str, figures: dict[str, Any]) -> None:
    """Puts the figures and what they depend on into results/NAME.json."""
    RESULTS.mkdir(exist_ok=True)
    facts = manifest({}, seed=0)
    kept = {key: facts[key] for key in ("keeptune", "python", "packages", "git", "hardware", "started")}
    text = json.dumps({**figures, "provenance": kept}, ensure_ascii=False, indent=1)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
