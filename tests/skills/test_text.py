"""Rows of any sort: which are taught, what their answers are, and which of them may not be parted."""

from pathlib import Path

import pytest
from corpus import characters, write

from keeptune.config.recipe import parse
from keeptune.data.preparation import load_prepared_rows, prepare
from keeptune.errors import DataError
from keeptune.grading.number import grade
from keeptune.skills import text
from keeptune.skills.registry import skill_for_section
from keeptune.skills.text import Text, parse_truth_or_text


def test_a_column_names_kinds_and_others_are_none_of_them() -> None:
    skill = Text({}, ("printer", "other"))
    kinds = [skill.parse("How?", "So.", label) for label in ("printer", "other", "billing", None)]
    assert [question.kind if question else None for question in kinds][:2] == ["printer", "other"]
    for question in kinds[2:]:
        assert question is not None and question.kind not in ("printer", "other") and question.kind in skill.kinds


@pytest.mark.parametrize("solution", ["Press the reset button.", "Call 555 1234.", "#### yes", r"It is \boxed{x+1}."])
def test_a_repeated_reference_solution_is_right(solution: str) -> None:
    truth = parse_truth_or_text(solution)
    assert grade(solution, truth).correct
    assert not grade("Do nothing.", truth).correct


def test_an_answer_that_is_too_long_to_be_graded_is_no_question() -> None:
    assert Text({}).parse("How?", "so " * 130) is not None
    assert Text({}).parse("How?", "so " * 140) is None


def test_the_same_words_in_two_kinds_stay_on_one_side(tmp_path: Path) -> None:
    """Of sixty pairs that differ in a question mark, each in another kind, none is parted."""
    names = [f"{first} {last}" for first in "abcdef" for last in "ghijklmnop"]
    pairs = [(f"How do I reset the device called {name}{end}", f"Ask {name}.") for name in names for end in ("?", "")]
    data = {
        "skill": "text",
        "files": [write(tmp_path / "a.jsonl", pairs)],
        "patterns": {"asked": r".*\?", "told": ".*"},
        "styles": {"default": "raw"},
        "split": {"dev": 10, "test": 30},
    }
    recipe = parse({"data": data}, "a.yaml")
    card = prepare(recipe, skill_for_section(recipe.data), characters, tmp_path / "data")
    sides: dict[str, set[str]] = {}
    for part in ("train", "dev", "test"):
        for example in load_prepared_rows(tmp_path / "data" / f"{part}.parquet"):
            sides.setdefault(example.problem.rstrip("?"), set()).add(part)
    assert len(sides) == 60 and all(len(parts) == 1 for parts in sides.values())
    assert card.splits["test"].rows > 0


def test_a_pattern_that_takes_too_long_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "MATCH_SECONDS", 0.05)
    skill = text.Text({"slow": r"(a|aa)+b"})
    with pytest.raises(DataError, match=r"data\.patterns\.slow"):
        skill.parse("a" * 41, "1")
