"""The user's own questions: read with every fault named by its line, graded as they say, none of them trained."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
from evaluation.pairs import subject

from keeptune.errors import DataError, RecipeError
from keeptune.evaluation.abilities.questions import (
    BUDGET_TOKENS,
    Question,
    Questions,
    check_no_overlap,
    read_questions,
)
from keeptune.generation.engine import Generator

Line = dict[str, Any]
GOOD: Line = {"prompt": "Which colour is the sky?", "answer": "blue"}
CHOICE: Line = {"prompt": "Which colour is the sky?", "options": ["red", "blue", "green"], "answer": 1}


def written(path: Path, *lines: Line | str, encoding: str = "utf-8", end: str = "\n") -> Path:
    texts = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
    path.write_bytes("".join(text + end for text in texts).encode(encoding))
    return path


def read(path: Path, *lines: Line | str, grader: str | None = None) -> list[Question]:
    return read_questions(written(path / "questions.jsonl", *lines), grader)


def score(line: Line, output: str | None = None, likelihoods: list[float | None] | None = None) -> float:
    """The score of a model's answer to a question."""
    ability = Questions([Question.model_validate({"id": "q", **line})])
    record = {**ability.item_fields(ability.questions[0]), "output": output, "log_likelihoods": likelihoods}
    (graded,) = ability.grade_records([json.loads(json.dumps(record))])
    return float(graded["score"])


@pytest.mark.parametrize(
    ("line", "turns", "references"),
    [
        (GOOD, ["Which colour is the sky?"], ["blue"]),
        ({"question": "Why?", "answers": ["a", "b"]}, ["Why?"], ["a", "b"]),
        ({"problem": "1 + 1", "answer": 2}, ["1 + 1"], ["2"]),
        ({"prompt": "Why?", "answer": ["a"]}, ["Why?"], ["a"]),
        (CHOICE, ["Which colour is the sky?"], ["blue"]),
        ({**CHOICE, "answer": "green"}, ["Which colour is the sky?"], ["green"]),
        (
            {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}], "answer": "a"},
            ["s", "u"],
            ["a"],
        ),
        ({"prompt": "Write.", "constraints": [{"type": "no_comma"}]}, ["Write."], []),
    ],
)
def test_names_of_keys(tmp_path: Path, line: Line, turns: list[str], references: list[str]) -> None:
    (question,) = read(tmp_path, line)
    assert [turn.content for turn in question.turns] == turns
    assert question.references == references
    assert (question.id, question.tokens) == ("line-1", BUDGET_TOKENS)


def test_lines_are_numbered_and_blank_ones_left_out(tmp_path: Path) -> None:
    questions = read(tmp_path, "", {**GOOD, "id": "mine"}, "  ", {**GOOD, "group": "sky", "tokens": 7})
    assert [question.id for question in questions] == ["mine", "line-4"]
    assert [question.tokens for question in questions] == [BUDGET_TOKENS, 7]
    ability = Questions(questions)
    assert ability.items("final", "standard") == questions
    assert ability.items("dev", "standard") == []
    assert [ability.item_fields(question)["cluster"] for question in questions] == ["mine", "sky"]


@pytest.mark.parametrize(("encoding", "end"), [("utf-8-sig", "\n"), ("utf-8-sig", "\r\n"), ("utf-8", "\r\n")])
def test_byte_order_marks_and_windows_line_ends_are_read(tmp_path: Path, encoding: str, end: str) -> None:
    path = written(tmp_path / "q.jsonl", {"prompt": "天是什么颜色？", "answer": "蓝"}, GOOD, encoding=encoding, end=end)
    assert [question.references for question in read_questions(path)] == [["蓝"], ["blue"]]


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("{", "JSON"),
        ("[]", "object"),
        ("null", "object"),
        ({"answer": "blue"}, "prompt"),
        ({**GOOD, "messages": [{"role": "user", "content": "u"}]}, "messages"),
        ({**GOOD, "question": "Why?"}, "question"),
        ({"messages": [], "answer": "a"}, "message"),
        ({"messages": [{"role": "assistant", "content": "a"}], "answer": "a"}, "user"),
        ({"messages": [{"role": "robot", "content": "a"}], "answer": "a"}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": ""}], "answer": "a"}, "messages.0.content"),
        ({"prompt": "Why?"}, "answer"),
        ({"prompt": "Why?", "answer": None}, "answer"),
        ({"prompt": "Why?", "answer": []}, "answer"),
        ({"prompt": "Why?", "answer": ""}, "blank"),
        ({"prompt": "Why?", "answer": ["a", " "]}, "blank"),
        ({"prompt": "Why?", "answer": {"text": "a"}}, "answer"),
        ({"prompt": "Why?", "answer": True}, "answer"),
        ({"prompt": "", "answer": "a"}, "prompt"),
        ({"prompt": " ", "answer": "a"}, "prompt"),
        ({**GOOD, "id": ""}, "id"),
        ({**GOOD, "id": "first"}, "first"),
        ({**GOOD, "tokens": 0}, "tokens"),
        ({**GOOD, "tokens": 5000}, "tokens"),
        ({**GOOD, "anwser": "blue"}, "answer"),
        ({**GOOD, "xyz": "blue"}, "known"),
        ({**GOOD, "grader": "exat"}, "exact"),
        ({**GOOD, "grader": "zzz"}, "contains"),
        ({**GOOD, "grader": "number"}, "number"),
        ({**CHOICE, "options": ["blue"]}, "options"),
        ({**CHOICE, "options": ["blue", ""]}, "options.1"),
        ({**CHOICE, "options": ["blue", "red", "blue"]}, "differ"),
        ({**CHOICE, "answer": "grey"}, "grey"),
        ({**CHOICE, "answer": 3}, "3"),
        ({**CHOICE, "answer": -1}, "-1"),
        ({**CHOICE, "answer": ["blue"]}, "answer"),
        ({key: CHOICE[key] for key in ("prompt", "options")}, "answer"),
        ({"prompt": "Write.", "constraints": []}, "constraints"),
        ({"prompt": "Write.", "constraints": [{"type": "no_coma"}]}, "no_comma"),
        ({"prompt": "Write.", "constraints": [{"type": "keywords"}]}, "words"),
        ({"prompt": "Write.", "constraints": ["no_comma"]}, "constraints.0"),
    ],
)
def test_a_fault_is_named_with_its_line(tmp_path: Path, line: Line | str, named: str) -> None:
    with pytest.raises(DataError) as refused:
        read(tmp_path, {**GOOD, "id": "first"}, "", line)
    place, _, message = str(refused.value).partition("questions.jsonl:3: ")
    assert place and named in message


@pytest.mark.parametrize(
    ("content", "named"),
    [(None, "cannot be read"), (b"", "no question"), (b"\n \n", "no question"), (b'{"prompt": "caf\xe9"}', "UTF-8")],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, named: str) -> None:
    path = tmp_path / "mine.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as refused:
        read_questions(path)
    assert "mine.jsonl" in str(refused.value) and named in str(refused.value)


def test_the_grader_of_the_command_line_is_for_lines_that_name_none(tmp_path: Path) -> None:
    questions = read(tmp_path, GOOD, {**GOOD, "grader": "f1"}, grader="contains")
    assert [question.grader for question in questions] == ["contains", "f1"]
    with pytest.raises(RecipeError, match="exact"):
        read(tmp_path, GOOD, grader="exat")
    with pytest.raises(DataError, match="jsonl:1"):
        read(tmp_path, GOOD, grader="number")
    assert read(tmp_path, CHOICE, {"prompt": "1 + 1", "answer": 2}, grader="number")


@pytest.mark.parametrize(
    ("grader", "answers", "output", "expected"),
    [
        ("exact", ["blue"], "blue", 1),
        ("exact", ["blue"], " Blue. ", 1),
        ("exact", ["light  blue"], "Light blue", 1),
        ("exact", ["蓝色"], "蓝色。", 1),
        ("exact", ["blue", "azure"], "azure", 1),
        ("exact", ["blue"], "It is blue", 0),
        ("exact", ["blue"], "", 0),
        ("contains", ["30 days"], "You have 30 Days.", 1),
        ("contains", ["30 days", "a month"], "About a month", 1),
        ("contains", ["30 days"], "thirty days", 0),
        ("contains", ["STRASSE"], "die Straße", 1),
        ("f1", ["the blue sky"], "a blue sea", 0.5),
        ("f1", ["green", "blue sky"], "blue sky", 1),
        ("f1", ["blue"], "", 0),
        ("number", ["42"], "The answer is 42.", 1),
        ("number", ["42"], "42.001", 1),
        ("number", ["42"], "41", 0),
        ("number", ["1/3", "0.5"], "So it is 0.333", 1),
        ("number", ["1000"], "1,000", 1),
        ("number", ["42"], "none", 0),
        (None, ["42"], "first 3, then 42", 1),  # numbers are graded as numbers
        (None, ["42", "many"], "first 3, then 42", 0),  # and texts as texts
        (None, ["blue"], "Blue", 1),
    ],
)
def test_graders(grader: str | None, answers: list[str], output: str, expected: float) -> None:
    assert score({"prompt": "?", "answer": answers, "grader": grader}, output) == pytest.approx(expected)


def test_a_right_answer_scores_1() -> None:
    for name in ("exact", "contains", "f1", "number"):
        assert score({"prompt": "?", "answer": "7", "grader": name}, "7") == 1, name
        assert score({"prompt": "?", "answer": "7", "grader": name}, "8") == 0, name


def test_a_question_gives_options_of_its_grader(tmp_path: Path) -> None:
    strict = {"prompt": "?", "answer": "Ada", "grader": {"name": "exact", "normalize": []}}
    assert (score(strict, "Ada"), score(strict, "ada")) == (1, 0)
    (question,) = read(tmp_path, strict)
    assert question.grader == strict["grader"]
    with pytest.raises(DataError, match="normalize"):
        read(tmp_path, {**strict, "grader": {"name": "exact", "normalise": []}})


def test_sql_runs_on_the_tables_of_the_question() -> None:
    asked = "CREATE TABLE tea (name TEXT, price INTEGER)\n\nWhich teas cost more than 4?"
    line = {"prompt": asked, "answer": "SELECT name FROM tea WHERE price > 4", "grader": "sql"}
    assert score(line, "select name from tea where 4 < price") == 1
    assert score(line, "select name from tea where price >= 4") == 0


@pytest.mark.parametrize(
    ("options", "answer", "likelihoods", "expected"),
    [
        (["red", "blue"], 1, [-9.0, -1.0], 1),
        (["red", "blue"], "blue", [-9.0, -1.0], 1),
        (["red", "blue"], 0, [-9.0, -1.0], 0),
        (["red", "dark blue sky"], 1, [-4.0, -6.0], 1),  # per character
        (["red", "blue"], 1, [None, None], 0),
        # An index is an index, whatever the options look like.
        (["2", "4", "8"], 2, [-9.0, -9.0, -1.0], 1),
        (["1", "0"], 0, [-1.0, -9.0], 1),
        (["1", "0"], 0, [-9.0, -1.0], 0),
        (["1", "0"], "0", [-9.0, -1.0], 1),
        (["2", "4", "8"], "8", [-9.0, -9.0, -1.0], 1),
    ],
)
def test_choices(options: list[str], answer: int | str, likelihoods: list[float | None], expected: float) -> None:
    assert score({"prompt": "?", "options": options, "answer": answer}, likelihoods=likelihoods) == expected


@pytest.mark.parametrize(
    ("output", "expected"), [("SNOW IS WHITE", 1), ("SNOW, AND ICE", 0.5), ("snow, and ice", 0), ("", 0)]
)
def test_constraints_score_their_share(output: str, expected: float) -> None:
    assert score({"prompt": "?", "constraints": [{"type": "no_comma"}, {"type": "all_uppercase"}]}, output) == expected


def test_chance_is_that_of_guessing_among_options() -> None:
    four = {"prompt": "?", "options": list("abcd"), "answer": 0}
    ability = Questions([Question.model_validate({"id": str(n), **(four if n < 3 else GOOD)}) for n in range(4)])
    records = [{**ability.item_fields(own), "score": 1.0} for own in ability.questions]
    (own,) = ability.measurements(records, records)
    assert own.chance == pytest.approx(3 / 4 / 4)
    (without,) = ability.measurements(records[3:], records[3:])
    assert without.chance == 0


def test_budgets_and_order_are_those_of_the_questions(model_folder: Path) -> None:
    lines = [CHOICE, {**GOOD, "tokens": 9}, {**GOOD, "tokens": 2}, CHOICE, {**GOOD, "prompt": "Why?", "tokens": 9}]
    questions = [Question.model_validate({"id": str(place), **line}) for place, line in enumerate(lines)]
    own = subject(tiny.load(model_folder))
    counted: list[int] = []
    records = Questions(questions).collect_records(own, questions, None, counted.append)
    assert sum(counted) == len(questions)
    for question, record in zip(questions, records, strict=True):
        assert record["prompt"] == own.layout.question(str(question.prompt))
        assert ("log_likelihoods" in record) == (question.options is not None)
        if question.options is None:
            answer = Generator(own.generator.model, own.generator.tokenizer).answer(
                [own.layout.tokens(record["prompt"])], [question.tokens], lambda _: False
            )
            assert (record["output"], record["output_tokens"]) == (answer[0].text, answer[0].tokens)


LONG = "On which of the four old bridges of Lenn did the clockmaker's daughter sell her first brass clock?"


@pytest.mark.parametrize(
    ("row", "overlaps"),
    [
        (LONG, True),
        (LONG.upper(), True),
        (f"Question: {LONG} Answer: the second", True),
        ("On which of the four old bridges of Lenn did the baker's son fish?", False),
        ("Why is it so?", True),  # short questions count as a whole
        ("  why is  it so?", True),
        ("He asked: Why is it so?", False),
        ("", False),
    ],
)
def test_a_question_that_was_trained_is_refused(tmp_path: Path, row: str, overlaps: bool) -> None:
    questions = read(
        tmp_path, {"prompt": LONG, "answer": "2", "id": "long"}, {"prompt": "Why is it so?", "answer": "x"}
    )
    rows = ["Which birds can swim?", row]
    if not overlaps:
        check_no_overlap(Path("mine.jsonl"), questions, rows, "the training rows")
        return
    with pytest.raises(DataError) as refused:
        check_no_overlap(Path("mine.jsonl"), questions, rows, "the training rows")
    named = "long" if "bridges" in row.lower() else "line-2"
    assert str(refused.value).startswith("mine.jsonl: ") and named in str(refused.value)


def test_every_turn_of_a_conversation_is_compared(tmp_path: Path) -> None:
    turns = [
        {"role": "user", "content": LONG},
        {"role": "assistant", "content": "?"},
        {"role": "user", "content": "Go."},
    ]
    questions = read(tmp_path, {"messages": turns, "answer": "2"})
    with pytest.raises(DataError, match="line-1"):
        check_no_overlap(Path("mine.jsonl"), questions, [LONG], "the training rows")
    check_no_overlap(Path("mine.jsonl"), questions, [], "the training rows")
