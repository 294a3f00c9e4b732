"""Questions are asked within their budgets, stop at the answer, and are graded into records that say all."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from keeptune.evaluation.skill_score import SkillQuestion, has_final_answer, score_skill, summarize
from keeptune.generation.engine import Answer, StopRule
from keeptune.grading.number import POLICIES, parse_truth
from keeptune.skills.arithmetic.skill import Arithmetic

WORDS = tiny.tokenizer()


class Scripted:
    """A generator that answers what it is told, and remembers how it was asked."""

    tokenizer = WORDS

    def __init__(self, *texts: str) -> None:
        self.texts = texts

    def answer(
        self, prompts: Sequence[list[int]], budgets: Sequence[int], stop: StopRule, progress: Callable[[int], None]
    ) -> list[Answer]:
        self.prompts, self.budgets, self.stop = prompts, budgets, stop
        progress(len(prompts))
        return [Answer(text, 7, stop(text)) for text in self.texts]


@given(st.fractions())
def test_a_number_survives_being_stored(value: Fraction) -> None:
    assert parse_truth(str(value)) == value


# Texts that Python's Fraction reads or chokes on, although they were not numbers to whoever stored them.
@pytest.mark.parametrize("text", ["x+1", "1/0", "1e99999999", "1_000", "٣", " 5", "nan", "", "9" * 5000, "1/00"])
def test_a_symbolic_answer_survives_being_stored(text: str) -> None:
    assert parse_truth(text) == text


@given(st.text("0123456789/.eE_-+, \\frac{}x", max_size=12))
def test_every_answer_of_an_english_problem_survives_being_stored(text: str) -> None:
    question = Arithmetic().parse("How many?", rf"It is \boxed{{{text}}}")
    if question is not None:
        assert parse_truth(str(question.truth)) == question.truth


@pytest.mark.parametrize(
    ("text", "ended"),
    [
        ("", False),
        ("\n", False),
        ("#### 5", False),
        ("#### 5\n", True),
        ("3 + 2 = 5\n#### 5\n", True),
        ("3 + 2 = 5\n", False),
        ("#### 5\n\n", True),
        ("#### 5\nand", True),
        ("#### \n", False),
        ("####\n5\n", False),
        ("#### 2/3\n", True),
        ("#### \\frac{2}{3}\n", True),
        ("The answer is #### 5\n", True),
        ("#### 5\nmore\n", False),
    ],
)
def test_the_stop_rule(text: str, ended: bool) -> None:
    assert has_final_answer(text) is ended


QUESTIONS = [
    SkillQuestion("a", "add", "计算 1.00 + 2.00 等于多少？", Fraction(3)),
    SkillQuestion("b", "div", "计算 1.00 / 3.00 等于多少？", Fraction(1, 3)),
    SkillQuestion("c", "english", "What is it?", "x+1"),
    SkillQuestion("d", "add", "计算 5.00 + 5.00 等于多少？", Fraction(10)),
]


def asked(*texts: str) -> tuple[Scripted, list[dict[str, Any]], list[int]]:
    generator, counted = Scripted(*texts), list[int]()
    records = score_skill(
        generator,  # type: ignore[arg-type]
        tiny.PROMPT,
        QUESTIONS,
        {"add": 30, "div": 500},
        progress=counted.append,
    )
    return generator, records, counted


def test_a_record_says_all() -> None:
    generator, records, counted = asked("#### 3.00\n", "so 0.33 it is", "\\boxed{x + 1}", "")
    assert [record["id"] for record in records] == ["a", "b", "c", "d"]
    assert generator.prompts == [tiny.PROMPT.encode(WORDS, question.problem) for question in QUESTIONS]
    assert generator.budgets == [30, 500, 500, 30]
    assert generator.stop is has_final_answer
    assert counted == [4]
    assert records[0] == {
        "id": "a",
        "kind": "add",
        "problem": "计算 1.00 + 2.00 等于多少？",
        "prompt": "Question: 计算 1.00 + 2.00 等于多少？\nAnswer:\n",
        "output": "#### 3.00\n",
        "truth": "3",
        "answer": "3.00",
        "source": "marker",
        "verdicts": dict.fromkeys(POLICIES, True),
        "stopped": True,
        "output_tokens": 7,
    }
    verdicts = records[1]["verdicts"]
    assert (records[1]["source"], verdicts["2d4s"], verdicts["exact"]) == ("last_number", True, False)
    assert (records[2]["source"], records[2]["verdicts"]["2d4s"]) == ("boxed", True)
    assert (records[3]["answer"], records[3]["source"], set(records[3]["verdicts"].values())) == (None, None, {False})


def test_the_summary_counts_by_kind_policy_and_source() -> None:
    _, records, _ = asked("#### 3\n", "so 0.33 it is", "\\boxed{x}", "#### 11\n")
    made = summarize(records)
    assert (made["accuracy"], made["n"], made["unstopped"]) == (0.5, 4, 2)
    assert made["ci95"][0] < 0.5 < made["ci95"][1]
    assert {kind: (facts["accuracy"], facts["n"]) for kind, facts in made["by_kind"].items()} == {
        "add": (0.5, 2),
        "div": (1.0, 1),
        "english": (0.0, 1),
    }
    assert made["by_policy"]["exact"] == 0.25
    assert made["by_policy"]["2d4s"] == made["accuracy"]
    assert made["by_source"] == {"marker": 2, "last_number": 1, "boxed": 1}


def test_a_summary_of_nothing_claims_nothing() -> None:
    made = summarize([])
    assert (made["accuracy"], made["n"], made["ci95"]) == (0.0, 0, [0.0, 1.0])
