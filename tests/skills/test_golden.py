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

GOLDEN = {
    "add": "0c14d2f62b3391c2 ce1db97fd9ea5c9c 77e80519a8ae042c abe05937fdec94d9 1b33cb1b550b425c",
    "sub": "a31ecacb70f86241 f003832dbdf9b612 6e0a75fb554dc001 cb110924f2ccd26f 9d2ed6caf15a99dc",
    "mul": "0da897bfdc62dbbd 679d2f12d335b7fb 193b82aeab43b516 83a8c161b698195d 34bb862d638d84a0",
    "div": "3c6eec7b163da1d8 b23991c7b1aaada6 766f4e1cfbf5974e 5cc8e33090fa139e 28129206a80536af",
    "power": "3d1f745e212cf570 9c9f34f83d113bda f6cb8aa18805e9a1 e00ed75c3d6ed03e 8a6aa639cd917079",
    "sqrt": "b3a7694ccaf21c42 e2a02a75ed7b6d71 3ef64d48cad4b06b 912c0795be5ac5fd 4e5d2f217620ef5d",
    "equation": "5c08e71a775aa939 73c3f1b2a2f531b2 7a1905ccdd6895b6 7bd2e4e5cafb3f12 04c8bffa3066e664",
    "mean": "10bf73385ddee7b6 4b925e0b4f81f701 a01eac6d4668f9c5 6d42f5adb245ca5e be58b770a37ef3d8",
    "function": "b6a5fcc17489fe67 64e2ce3f1eb2146c eff93772448d9f77 f72097e8f55e0042 bfe63366127c7ed7",
    "area": "8805d0acfc551c9a 49b0122b4b41e7c5 877e1882db961fbc 4345b97f7ecb1478 b288b195e74c5a20",
    "mass": "a8e57fa8aa46103b 6fef7d017cedaa2c 1769631e40e0ca3a 9f458ac27271a2c6 4db19e1cf4eac865",
    "discount": "9decfbf718d56ffe a5c6442bd1d014f7 7411ebdacaee14c9 3684283f566c7435 75ac3f474b2b576a",
    "sales": "6f697dac78b26360 42b9f692cd26f9d1 342496c4587d9429 a3364f2ed6111875 b653b256037fb124",
    "fraction": "c95fa396a1e2eea2 45b3bc7ce6628015 7d095196bbdf865a 55d75f87cc304418 55d75f87cc304418",
    "english": "1d4769bb0042c844 03e713be58012d51 f69237ce51b4b910 f69237ce51b4b910 f69237ce51b4b910",
}
"""Hashes per kind, one per style in the order of `Style`."""


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
