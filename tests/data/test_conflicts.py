"""Rows that contradict each other, special tokens in texts, answers that no grader can read: counted, never silent."""

import json
from pathlib import Path
from typing import Any

import pytest
from corpus import characters

from keeptune.config.recipe import parse
from keeptune.data.preparation import load_prepared_rows, prepare
from keeptune.data.special_tokens import SpecialTokenFilter
from keeptune.errors import DataError, RecipeError
from keeptune.skills.arithmetic.skill import Arithmetic
from keeptune.skills.registry import skill_for_section
from keeptune.skills.text import Text

CLEAN = [(f"Where is article {number} of {name}?", f"#### shelf {number}") for number in range(20) for name in "ab"]
CONFLICTS = [
    ("Who?", "#### Ann"),
    ("Who?", "#### Bob"),
    ("Who?", "Ask.\n#### Bob"),
    ("When?", "#### 1"),
    ("When?", "#### 2"),
]


def write(path: Path, rows: list[tuple[str, str]]) -> str:
    path.write_text("\n".join(json.dumps({"problem": p, "solution": s}) for p, s in rows), encoding="utf-8")
    return str(path)


def run(folder: Path, rows: list[tuple[str, str]], tokens: tuple[str, ...] = (), **data: Any) -> tuple[Any, Any]:
    """Returns the data card, and the rows of each split."""
    data = {"skill": "text", "split": {"dev": 4, "test": 8}, "near_threshold": 1.0, "reject_limit": 0.2, **data}
    recipe = parse({"data": {"files": [write(folder / "rows.jsonl", rows)], **data}}, "recipe.yaml")
    card = prepare(recipe, skill_for_section(recipe.data), characters, folder / "data", special_tokens=tokens)
    return card, {name: load_prepared_rows(folder / "data" / f"{name}.parquet") for name in ("train", "dev", "test")}


def test_conflicting_rows_are_rejected_by_default(tmp_path: Path) -> None:
    card, splits = run(tmp_path, [*CONFLICTS[:2], *CLEAN, *CONFLICTS[2:], ("Who?", "#### Ann")])
    assert card.rejected_by_reason == {"the same problem with different answers": 6}
    assert (card.rows_read, card.rows_kept, card.rows_rejected, card.ambiguous) == (46, 40, 6, 2)
    assert card.unique == 40 == sum(map(len, splits.values()))
    rejected = [json.loads(line) for line in (tmp_path / "data" / "rejected.jsonl").read_text().splitlines()]
    assert [row["line"] for row in rejected] == [1, 2, 43, 44, 45, 46]
    assert "'Ann'" in rejected[0]["reason"] and "data.conflicts" in rejected[0]["reason"]


def test_a_rejected_conflict_leaves_room_for_another_problem(tmp_path: Path) -> None:
    """A quota is met from the problems with one answer, whichever ranks the others have."""
    rows = [*CLEAN, *((problem, "#### other") for problem, _ in CLEAN[:6])]
    card, splits = run(tmp_path, rows, quota={"text": 34}, reject_limit=0.5)
    assert card.rows_rejected == 12 and sum(map(len, splits.values())) == 34


def test_many_conflicts_stop_the_run_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.conflicts: first or all") as caught:
        run(tmp_path, [*CLEAN, *CONFLICTS], reject_limit=0.01)
    assert f"{tmp_path / 'rows.jsonl'}:41" in str(caught.value)


def test_the_first_answer(tmp_path: Path) -> None:
    card, splits = run(tmp_path, [*CLEAN, *CONFLICTS], conflicts="first")
    answers = {row.problem: row.truth for rows in splits.values() for row in rows}
    assert (answers["Who?"], answers["When?"]) == ("Ann", "1")
    assert (card.rows_rejected, card.ambiguous, card.unique) == (0, 2, 42)


def test_all_answers_are_trained_and_never_held_out(tmp_path: Path) -> None:
    rows = [*CLEAN, *((problem, "#### other") for problem, _ in CLEAN[:30])]
    card, splits = run(tmp_path, rows, conflicts="all")
    assert (card.rows_rejected, card.ambiguous) == (0, 30)
    trained = {(row.problem, row.truth) for row in splits["train"]}
    ambiguous = {problem for problem, _ in CLEAN[:30]}
    assert sum(problem in ambiguous for problem, _ in trained) == 60
    assert ambiguous.isdisjoint(row.problem for name in ("dev", "test") for row in splits[name])
    assert splits["test"]


def test_equal_answers_in_other_words_are_no_conflict(tmp_path: Path) -> None:
    card, _ = run(tmp_path, [*CLEAN, ("How many?", "#### 2"), ("How many?", r"So \boxed{2.0}")])
    assert (card.rows_rejected, card.ambiguous, card.conflicts) == (0, 0, 1)


def test_computed_answers_never_conflict(tmp_path: Path) -> None:
    rows = [("计算 1.00 + 2.00 等于多少？", "1.00 + 2.00 = 3.00"), ("计算 1.00 + 2.00 等于多少？", "#### 3")]
    rows += [(f"计算 {n}.00 + 2.00 等于多少？", f"{n}.00 + 2.00 = {n + 2}.00") for n in range(3, 40)]
    card, _ = run(tmp_path, rows, skill="arithmetic")
    assert (card.rows_rejected, card.ambiguous, card.conflicts) == (0, 0, 1)


def test_test_files_with_conflicts(tmp_path: Path) -> None:
    test = write(tmp_path / "test.jsonl", [("Where?", "#### here"), ("Who?", "#### Ann"), ("Who?", "#### Bob")])
    card, splits = run(tmp_path, CLEAN, test_files=[test], reject_limit=0.7)
    assert (card.test_rejected, [row.problem for row in splits["test"]]) == (2, ["Where?"])
    card, splits = run(tmp_path, CLEAN, test_files=[test], conflicts="first")
    assert (card.test_rejected, [row.truth for row in splits["test"]]) == (0, ["here", "Ann"])


MARKED = [
    ("What <|end|> is it?", "#### a thing"),
    ("Which one?", "#### b</s>"),
    ("Odd?", "<|e<|end|>nd|>#### c"),
    ("No?", "</s>"),
]
TOKENS = ("<|end|>", "</s>")


def test_special_tokens_are_rejected_by_default(tmp_path: Path) -> None:
    card, _ = run(tmp_path, [*CLEAN, *MARKED], TOKENS)
    assert card.rejected_by_reason == {"a special token in the text": 4}
    assert card.special_tokens_stripped == 0


def test_special_tokens_are_stripped_with_a_count(tmp_path: Path) -> None:
    card, splits = run(tmp_path, [*CLEAN, *MARKED], TOKENS, special_tokens="strip")
    assert card.rejected_by_reason == {"solution is empty without its special tokens": 1}
    assert card.special_tokens_stripped == 3
    texts = {row.problem: row.solution for rows in splits.values() for row in rows}
    assert texts["What  is it?"] == "#### a thing" and texts["Odd?"] == "#### c"
    assert not any(token in text for pair in texts.items() for text in pair for token in TOKENS)


def test_white_space_is_no_special_token() -> None:
    token_filter = SpecialTokenFilter(("\n", " "), "reject")
    assert token_filter.apply(row := _row("a b\n", "c")) is row


def _row(problem: str, solution: str) -> Any:
    from keeptune.data.reader import RawRow

    return RawRow("rows", 1, problem, solution)


def test_the_true_reason_for_a_row_that_no_grader_can_read() -> None:
    text, arithmetic = Text({}), Arithmetic()
    long = "so " * 140
    assert text.parse("How?", long) is None
    assert "400" in text.explain_rejection("How?", long) and "####" in text.explain_rejection("How?", long)
    assert "data.skill: text" in arithmetic.explain_rejection("What is love?", "unknown")
    assert "400" in arithmetic.explain_rejection("What is love?", f"#### {long}")
    patterns = Text({"price": "What does .*"})
    assert "'price'" in patterns.explain_rejection("How?", "#### 1")


def test_all_answers_and_a_teacher_are_refused() -> None:
    teacher = {"model": "m", "task": "reasoning", "url": "http://localhost"}
    with pytest.raises(RecipeError, match=r"data\.(conflicts|teacher)"):
        parse({"data": {"files": ["a"], "conflicts": "all", "teacher": teacher}}, "recipe.yaml")
