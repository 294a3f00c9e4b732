"""Accepted teacher texts replace texts of training rows only; everything else is unchanged."""

import json
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from remote_models.server import Behavior, Reply, Server, completion, serve

from keeptune.config.recipe import Recipe
from keeptune.data.preparation import load_prepared_rows, prepare
from keeptune.data.selection import digest
from keeptune.data.solution_rendering import PreparedRow
from keeptune.data.teacher.rows import summarize_teacher_texts
from keeptune.errors import RecipeError
from keeptune.skills.arithmetic.skill import Arithmetic

SKILL = Arithmetic()
PARTS = ("train", "dev", "test")

Parts = dict[str, list[PreparedRow]]


def characters(texts: Sequence[tuple[str, str]]) -> list[tuple[int, int]]:
    return [(len(problem), len(solution)) for problem, solution in texts]


def store(path: Path, pairs: Iterable[tuple[str, str]]) -> str:
    lines = (json.dumps({"problem": problem, "solution": solution}) for problem, solution in pairs)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


@pytest.fixture
def rows(tmp_path: Path) -> str:
    """Writes a file of distinct area and mass problems."""
    generator = random.Random(1)
    pairs = dict(SKILL.generate(kind, generator) for kind in ("area", "mass") for _ in range(30))
    return store(tmp_path / "rows.jsonl", pairs.items())


def prepare_with_server(folder: Path, rows: str, behavior: Behavior, **teacher: Any) -> tuple[Parts, Server]:
    """Returns the splits, prepared with a server of this behavior."""
    with serve(behavior) as (url, server):
        settings = {"url": url, "model": "teacher", "task": "reasoning", "attempts": 1, **teacher}
        return prepare_splits(folder, rows, teacher=settings), server


def prepare_splits(folder: Path, rows: str, **data: Any) -> Parts:
    """Returns the splits, prepared without a server unless `data` has a teacher."""
    values = {"files": [rows], "split": {"dev": 1, "test": 2}, "max_tokens": 1000, **data}
    prepare(Recipe.model_validate({"data": values}), SKILL, characters, folder)
    return {part: load_prepared_rows(folder / f"{part}.parquet") for part in PARTS}


def summary(folder: Path) -> dict[str, Any]:
    stored: dict[str, Any] = json.loads((folder / "writer.json").read_text(encoding="utf-8"))
    return stored


def problem_of(prompt: str) -> str:
    return prompt.rpartition("Problem: ")[2]


def multiply(prompt: str, _: int = 0) -> Reply:
    """Correct reasoning for a problem with two numbers."""
    left, right = re.findall(r"[0-9]+", problem_of(prompt))
    return completion(f"{left} * {right} = {int(left) * int(right)}\n#### {int(left) * int(right)} of them")


def rephrase(prompt: str, _: int = 0) -> Reply:
    """A correct paraphrase, or the formula for it."""
    left, right = re.findall(r"[0-9]+", problem_of(prompt))
    if "Which calculation" in prompt:
        return completion(f"{left} * {right}")
    mass = f"密度 {left} 克/立方厘米、体积 {right} 立方厘米的某物体，质量有多少克？"
    return completion(mass if "密度" in prompt else f"已知一个长方形长 {left} 厘米、宽 {right} 厘米，它的面积有多大？")


def test_reasoning_replaces_solutions_of_the_selected_kinds(tmp_path: Path, rows: str) -> None:
    before = prepare_splits(tmp_path / "1", rows)
    after, server = prepare_with_server(tmp_path / "2", rows, multiply, kinds=["area"])
    assert (after["dev"], after["test"]) == (before["dev"], before["test"])
    areas = [example for example in before["train"] if example.kind == "area"]
    assert 10 < len(areas) < len(before["train"])
    assert {problem_of(received.prompt) for received in server.received} == {example.problem for example in areas}
    for old, new in zip(before["train"], after["train"], strict=True):
        if old.kind == "mass":
            assert new == old
            continue
        left, right = re.findall(r"[0-9]+", old.problem)
        solution = f"{left} * {right} = {old.truth}\n#### {old.truth}"
        assert new == replace(old, solution=solution, solution_tokens=len(solution))
    stored = summary(tmp_path / "2")
    assert (stored["model"], stored["task"]) == ("teacher", "reasoning")
    assert (stored["problems"], stored["accepted"], stored["rejected"]) == (len(areas), len(areas), {})


def test_rows_without_a_verified_text_are_unchanged(tmp_path: Path, rows: str) -> None:
    before = prepare_splits(tmp_path / "1", rows)
    after, _ = prepare_with_server(tmp_path / "2", rows, lambda *_: completion("1 + 1 = 3\n#### 3"))
    assert after == before
    stored = summary(tmp_path / "2")
    assert stored["accepted"] == 0
    assert sum(stored["rejected"].values()) == 2 * len(before["train"])
    first, *others = summarize_teacher_texts(tmp_path / "2")
    assert f"0 of {len(before['train'])} texts" in first
    assert len(others) == len(stored["rejected"])
    for line, (reason, count) in zip(others, stored["rejected"].items(), strict=True):
        assert f"{count:,} × {reason}" in line
    assert summarize_teacher_texts(tmp_path / "1") == []


def test_paraphrases_replace_training_problems(tmp_path: Path, rows: str) -> None:
    before = prepare_splits(tmp_path / "1", rows)
    after, server = prepare_with_server(tmp_path / "2", rows, rephrase, task="paraphrase")
    assert (after["dev"], after["test"]) == (before["dev"], before["test"])
    assert len(server.received) == 2 * len(before["train"])
    for old, new in zip(before["train"], after["train"], strict=True):
        assert new.problem != old.problem
        assert new == replace(old, problem=new.problem, id=digest(new.problem).hex(), prompt_tokens=len(new.problem))


def test_no_paraphrase_is_the_problem_of_another_row(tmp_path: Path) -> None:
    """The other row could be held out. An area has the same answer as the mass of the same two numbers."""
    area = "一个长方形的长为 {} 厘米，宽为 {} 厘米，请计算其面积。"
    mass = "某物体的密度为 {} 克/立方厘米，体积为 {} 立方厘米，请计算该物体的质量。"
    pairs = [(text.format(a, b), f"#### {a * b}") for text in (area, mass) for a in range(3, 7) for b in range(3, 7)]
    rows = store(tmp_path / "rows.jsonl", pairs)

    def steal(prompt: str, _: int) -> Reply:
        if "Which calculation" in prompt:
            return rephrase(prompt)
        return completion(area.format(*re.findall(r"[0-9]+", problem_of(prompt))))

    before = prepare_splits(tmp_path / "1", rows)
    after, _ = prepare_with_server(tmp_path / "2", rows, steal, task="paraphrase", samples=1, kinds=["mass"])
    assert after == before
    masses = sum(example.kind == "mass" for example in before["train"])
    assert summary(tmp_path / "2")["rejected"] == {"the problem of another row": masses}


def test_texts_that_are_too_long_are_rejected(tmp_path: Path, rows: str) -> None:
    def wordy(prompt: str, _: int) -> Reply:
        content = json.loads(multiply(prompt).body)["choices"][0]["message"]["content"]
        return completion("87 * 45 = 3915\n" * 80 + content)

    before = prepare_splits(tmp_path / "1", rows)
    after, _ = prepare_with_server(tmp_path / "2", rows, wordy, samples=1)
    assert after == before
    assert summary(tmp_path / "2")["rejected"] == {"too long": len(before["train"])}


def test_an_unknown_kind_is_reported(tmp_path: Path, rows: str) -> None:
    with pytest.raises(RecipeError, match=r"data\.teacher\.kinds: .*'aera'"):
        prepare_with_server(tmp_path / "data", rows, multiply, kinds=["aera"])


def test_an_english_answer_keeps_its_form(tmp_path: Path) -> None:
    pairs = [
        (
            f"A coin falls {n} times out of 16 on its head. What share is that?",
            f"It is $\\boxed{{\\frac{{{n}}}{{16}}}}$.",
        )
        for n in range(1, 15, 2)
    ]

    def divide(prompt: str, _: int) -> Reply:
        assert "in the form that the problem asks for" in prompt
        share = int(re.findall(r"[0-9]+", problem_of(prompt))[0])
        return completion(f"{share} / 16 = {share / 16}\n#### {share}/16")

    after, _ = prepare_with_server(tmp_path / "data", store(tmp_path / "rows.jsonl", pairs), divide)
    assert len(after["train"]) == 4
    for example in after["train"]:
        assert re.search(r"^\d+ / 16 = .*\n#### \\frac\{\d+\}\{16\}$", example.solution)
