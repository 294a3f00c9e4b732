"""Small corpora and recipes for tests of the data stage."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keeptune.config.recipe import Recipe
from keeptune.skills.arithmetic.skill import Arithmetic

SKILL = Arithmetic()
SMALL = {"dev": 5, "test": 10}
WRONG = ("计算 1.00 + 2.00 等于多少？", "1.00 + 2.00 = 4.00")


def characters(texts: Sequence[tuple[str, str]]) -> list[tuple[int, int]]:
    return [(len(problem), len(solution)) for problem, solution in texts]


def recipe(seed: int = 0, **data: Any) -> Recipe:
    values = {"split": SMALL, "styles": {"default": "answer"}, **data}
    return Recipe.model_validate({"seed": seed, "data": values})


def rows(count: int, seed: int = 1) -> list[tuple[str, str]]:
    generator = random.Random(seed)
    return [SKILL.generate(generator.choice(SKILL.kinds[:6]), generator) for _ in range(count)]


def write(path: Path, pairs: Sequence[tuple[str, str]]) -> str:
    lines = (json.dumps({"problem": problem, "solution": solution}, ensure_ascii=False) for problem, solution in pairs)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)
