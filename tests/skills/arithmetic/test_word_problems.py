"""Each story's boxed answer is recomputed from the numbers in its problem, by another way than its own."""

import math
import random
import re
from collections.abc import Callable
from fractions import Fraction

import pytest

from keeptune.grading.answers import Truth
from keeptune.grading.stated_answer import parse_stated_truth
from keeptune.skills.arithmetic import word_problems as story
from keeptune.skills.arithmetic.kinds import find_kind


def as_float(truth: Truth) -> float:
    r"""The number that a surd `a\sqrt{b}` or `\frac{a\sqrt{b}}{c}` is."""
    if isinstance(truth, Fraction):
        return float(truth)
    match = re.fullmatch(r"(?:\\frac\{)?([0-9]*)\\sqrt\{([0-9]+)\}(?:\}\{([0-9]+)\})?", truth)
    assert match is not None, truth
    return int(match[1] or 1) * math.sqrt(int(match[2])) / int(match[3] or 1)


def first_width(longer: float, area: float) -> float:
    return next(width for width in range(1, 1000) if width * (width + longer) == area)


ORACLES: dict[story.ProblemTemplate, Callable[..., float]] = {
    story.tickets: lambda adults, dear, children, cheap: sum([dear] * int(adults)) + sum([cheap] * int(children)),
    story.painters: lambda slow, fast: 1 / (1 / slow + 1 / fast),
    story.diagonal: math.hypot,
    story.marbles: lambda red, blue, green: math.comb(int(red), 2) / math.comb(int(red + blue + green), 2),
    story.rows_of_seats: lambda first, step, rows: sum(first + step * row for row in range(int(rows))),
    story.ages: lambda gap, years, total: (total - 2 * years - gap) / 2,
    story.round_trip: lambda out, back: 2 / (1 / out + 1 / back),
    story.temperature: lambda start, rate, hours: start - rate * hours,
    story.herd: lambda sheep, goats, total: total * sheep / (sheep + goats),
    story.tiles: lambda length, width: max(s for s in range(1, 2500) if length % s == 0 and width % s == 0),
    story.lighthouses: lambda a, b, c: next(t for t in range(1, 10**6) if not (t % a or t % b or t % c)),
    story.garden_bed: first_width,
    story.triangle_height: lambda side: side * math.sin(math.pi / 3),
    story.savings: lambda principal, rate, years: principal * rate / 100 * years,
}


def test_every_story_has_an_oracle() -> None:
    assert tuple(ORACLES) == story.TEMPLATES


@pytest.mark.parametrize("one", story.TEMPLATES, ids=lambda one: one.__name__)
@pytest.mark.parametrize("seed", range(5))
def test_the_boxed_answer_is_right(one: story.ProblemTemplate, seed: int) -> None:
    problem, solution = one(random.Random(seed))
    truth = parse_stated_truth(solution)
    assert truth is not None
    numbers = map(float, re.findall(r"-?[0-9]+(?:\.[0-9]+)?", problem))
    assert math.isclose(as_float(truth), ORACLES[one](*numbers), rel_tol=1e-12, abs_tol=1e-9)
    assert solution.count("\\boxed{") == 1
    assert problem.isascii()
    assert find_kind(problem) is None


def test_integers_fractions_and_surds_all_occur() -> None:
    generator = random.Random(1)
    truths = [parse_stated_truth(story.generate_word_problem(generator)[1]) for _ in range(300)]
    assert any(isinstance(truth, Fraction) and truth.denominator == 1 for truth in truths)
    assert any(isinstance(truth, Fraction) and truth.denominator > 1 for truth in truths)
    assert any(isinstance(truth, str) and r"\sqrt" in truth for truth in truths)


@pytest.mark.parametrize(
    ("radicand", "text"), [(1, "1"), (49, "7"), (75, r"5\sqrt{3}"), (245, r"7\sqrt{5}"), (30, r"\sqrt{30}")]
)
def test_roots_are_simplified(radicand: int, text: str) -> None:
    assert story.format_root(radicand) == text
