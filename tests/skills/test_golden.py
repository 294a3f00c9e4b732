"""Golden hashes of all training texts.

A changed hash means that training texts or their checks changed. Published adapters and stored runs depend on these
texts, so a change must be intended. `python tests/skills/test_golden.py` prints the current table.
"""

import hashlib
import random
from typing import get_args

import pytest

from keeptune.config.solution_format import Rounding, Spelling, Style
from keeptune.skills.arithmetic.kinds import KINDS
from keeptune.skills.arithmetic.skill import Arithmetic
from keeptune.skills.number_spelling import spell

SKILL = Arithmetic()
SOLUTIONS = 12
"""Problems per kind, from four seeds and the three samplers."""

ROUNDINGS = (Rounding(2), Rounding(1, halves="even"), Rounding(digits=4))

GOLDEN = {}


def problems(kind: str) -> list[tuple[str, str]]:
    """Return (problem, raw solution) pairs of a kind; the English kind has one sampler."""
    if kind == "english":
        return [SKILL.generate(kind, random.Random(seed)) for seed in range(SOLUTIONS)]
    arithmetic_kind = next(other for other in KINDS if other.name == kind)
    samplers = (arithmetic_kind.sample, arithmetic_kind.sample_any_length, arithmetic_kind.sample_near_tie)
    samples = [sample(random.Random(seed)) for seed in range(SOLUTIONS // 3) for sample in samplers]
    return [(arithmetic_kind.render_problem(problem), arithmetic_kind.render_raw(problem)) for problem in samples]


def fingerprint(kind: str, style: Style) -> str:
    """Return a hash of the solutions of a kind in a style, with problems, truths, canonical forms and spellings."""
    digest = hashlib.sha256()
    for problem, stored in problems(kind):
        question = SKILL.parse(problem, stored)
        assert question is not None and SKILL.find_error(question, stored) is None
        for rounding in ROUNDINGS:
            solution = SKILL.render_solution(question, stored, style, rounding)
            assert SKILL.verify_solution(question, solution, style, rounding) is None
            spellings = [spell(solution, spelling) for spelling in get_args(Spelling)]
            parts = (problem, stored, str(question.truth), SKILL.canonical_form(question), *spellings)
            digest.update("\0".join(parts).encode() + b"\1")
    return digest.hexdigest()[:16]


def kind_fingerprints(kind: str) -> str:
    """Return the hashes of a kind in all styles, in the order of `Style`."""
    return " ".join(fingerprint(kind, style) for style in get_args(Style))


@pytest.mark.parametrize("kind", SKILL.kinds)
def test_training_texts_are_unchanged(kind: str) -> None:
    assert kind_fingerprints(kind) == GOLDEN[kind]


if __name__ == "__main__":
    for name in SKILL.kinds:
        print(f'    "{name}": "{kind_fingerprints(name)}",')
