"""Reading questions are asked in their layout, cut at the first line, and scored by both metrics, never mixed."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from keeptune.errors import DataError
from keeptune.evaluation.reading_score import (
    paragraph_clusters,
    per_question_scores,
    score_ratio,
    score_reading,
    summarize,
)
from keeptune.generation.engine import Answer, StopRule
from keeptune.grading.squad import ReadingItem, load_reading_items
from keeptune.prompts.reading import ReadingLayout, first_line, is_answer_complete, question_text
from keeptune.prompts.template import encode_prompt

WORDS = tiny.tokenizer()

ITEMS = [
    ReadingItem("Swifts", 0, "Swifts eat insects.", "q1", "What do swifts eat?", ("insects", "the insects")),
    ReadingItem("Swifts", 0, "Swifts eat insects.", "q2", "Who eats insects?", ("Swifts",)),
    ReadingItem("Bread", 1, "It sold only rye bread.", "q3", "What did it sell?", ("rye bread",)),
]


class Scripted:
    """A generator that answers what it is told, and remembers how it was asked."""

    tokenizer = WORDS

    def __init__(self, *texts: str) -> None:
        self.texts = texts

    def answer(
        self,
        prompts: Sequence[list[int]],
        budgets: Sequence[int],
        stop: StopRule,
        progress: Callable[[int], None] | None,
    ) -> list[Answer]:
        assert progress is None
        self.prompts, self.budgets, self.stop = prompts, budgets, stop
        return [Answer(text, 5, stop(text)) for text in self.texts]


def scored(*texts: str, layout: ReadingLayout = "few-shot") -> tuple[Scripted, list[dict[str, Any]]]:
    generator = Scripted(*texts)
    return generator, score_reading(generator, ITEMS, layout)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "ended"),
    [("", False), ("\n", False), (" \n\n", False), (" 1952", False), (" 1952\n", True), ("\n1952\nQ", True)],
)
def test_the_stop_rule(text: str, ended: bool) -> None:
    assert is_answer_complete(text) is ended


@pytest.mark.parametrize(
    ("output", "line"),
    [("", ""), (" \n ", ""), (" 1952", "1952"), ("\n 1952 \nQuestion: 5", "1952"), ("a\n\nb", "a")],
)
def test_the_prediction_is_the_first_line_that_says_something(output: str, line: str) -> None:
    assert first_line(output) == line


@pytest.mark.parametrize("layout", ["few-shot", "contest"])
def test_each_question_uses_its_layout_and_the_contests_budget(layout: ReadingLayout) -> None:
    generator, records = scored("a", "b", "c", layout=layout)
    texts = [question_text(item.context, item.question, layout) for item in ITEMS]
    assert [record["prompt"] for record in records] == texts
    assert generator.prompts == [encode_prompt(WORDS, text) for text in texts]
    assert generator.budgets == [20, 20, 20]
    assert generator.stop is is_answer_complete


def test_a_record_says_all() -> None:
    _, records = scored(" The insects\nQuestion: more", " swifts eat", "")
    first, second, third = records
    assert (first["prediction"], first["references"]) == ("The insects", ["insects", "the insects"])
    assert first["squad-v1.1"] == {"f1": 100.0, "em": 100.0}
    # One reference, and articles count: the contest's metric sees a run of one segment out of three and one.
    assert first["contest"] == {"f1": pytest.approx(50.0), "em": 0.0}
    assert (first["stopped"], second["stopped"]) == (True, False)
    assert second["contest"] is None
    assert second["squad-v1.1"]["f1"] == pytest.approx(200 / 3)
    assert (third["squad-v1.1"]["f1"], third["contest"]["em"], third["prediction"]) == (0.0, 0.0, "")
    assert (first["article"], first["paragraph"], third["id"]) == ("Swifts", 0, "q3")


def test_the_summary_of_each_metric_is_over_its_own_questions() -> None:
    _, records = scored("insects\n", "nobody", "")
    made = summarize(records)
    assert made == {"f1": pytest.approx(100 / 3), "em": pytest.approx(100 / 3), "n": 3, "empty": 1, "unstopped": 2}
    made = summarize(records, "contest")
    assert (made["n"], made["em"], made["empty"], made["unstopped"]) == (2, 50.0, 1, 1)


def test_a_summary_of_nothing_is_an_error() -> None:
    with pytest.raises(DataError, match="at least one"):
        summarize([])


def test_the_ratio_pairs_questions_and_draws_passages() -> None:
    _, base = scored("insects", "Swifts", "rye bread")
    _, tuned = scored("insects", "", "rye")
    assert per_question_scores(base, "em").tolist() == [1, 1, 1]
    assert per_question_scores(tuned, "f1").tolist() == pytest.approx([1, 0, 2 / 3])
    assert per_question_scores(tuned, "f1").dtype == np.float64
    assert paragraph_clusters(base) == [("Swifts", 0), ("Swifts", 0), ("Bread", 1)]
    found = score_ratio(base, tuned, "em", resamples=1000, seed=0)
    assert found.point == pytest.approx(1 / 3)
    assert found == score_ratio(base, tuned, "em", resamples=1000, seed=0)


def test_questions_come_from_the_package_or_from_a_file(tmp_path: Path) -> None:
    every = load_reading_items("embedded")
    assert len(every) >= 100
    assert load_reading_items("embedded", limit=7) == every[:7]
    path = tmp_path / "squad.json"
    path.write_text(
        '{"data": [{"title": "T", "paragraphs": [{"context": "C c.", "qas": '
        '[{"id": "1", "question": "Q?", "answers": [{"text": "c"}]}]}]}]}',
        encoding="utf-8",
    )
    assert load_reading_items(str(path)) == [ReadingItem("T", 0, "C c.", "1", "Q?", ("c",))]
    with pytest.raises(DataError, match=r"none\.json: cannot be read"):
        load_reading_items(str(tmp_path / "none.json"))
