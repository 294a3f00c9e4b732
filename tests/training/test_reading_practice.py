"""The embedded replay passages are valid SQuAD rows and do not overlap with the evaluation set of reading."""

import json
import re
from importlib.resources import files
from typing import Any

import pytest

PRACTICE = files("keeptune.training") / "reading_practice.json"
EVALUATION = files("keeptune.grading") / "reading_set.json"
GENERAL = files("keeptune.data") / "general_texts.txt"
OVERLAP_WORDS = 13  # the n-gram length GPT-3 used to call a text contaminated (Brown et al. 2020, appendix C)


def articles() -> list[dict[str, Any]]:
    content: dict[str, Any] = json.loads(PRACTICE.read_text(encoding="utf-8"))
    assert content.keys() == {"version", "data"}
    assert content["version"] == "keeptune-practice-1"
    data: list[dict[str, Any]] = content["data"]
    return data


def paragraphs() -> list[dict[str, Any]]:
    return [paragraph for article in articles() for paragraph in article["paragraphs"]]


def strings(node: Any) -> list[str]:
    """Every string in a JSON tree, so that the comparison does not depend on the schema."""
    if isinstance(node, str):
        return [node]
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
    return [text for child in children for text in strings(child)]


def word_grams(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[start : start + OVERLAP_WORDS]) for start in range(len(words) - OVERLAP_WORDS + 1)}


def test_fifteen_articles_of_four_short_paragraphs_with_five_questions() -> None:
    assert len({article["title"] for article in articles()}) == 15
    assert [len(article["paragraphs"]) for article in articles()] == [4] * 15
    for paragraph in paragraphs():
        assert 40 <= len(paragraph["context"].split()) <= 80
        assert len(paragraph["qas"]) == 5


def test_every_reference_is_a_short_span_found_once_at_its_offset() -> None:
    for paragraph in paragraphs():
        context = paragraph["context"]
        for qa in paragraph["qas"]:
            [answer] = qa["answers"]
            text, start = answer["text"], answer["answer_start"]
            assert context[start : start + len(text)] == text, qa["id"]
            assert context.count(text) == 1, qa["id"]
            assert 1 <= len(text.split()) <= 5, qa["id"]


def test_ids_name_article_paragraph_and_question_and_no_question_repeats() -> None:
    ids = [qa["id"] for paragraph in paragraphs() for qa in paragraph["qas"]]
    assert ids == [f"practice-{a}-{p}-{n}" for a in range(1, 16) for p in range(1, 5) for n in range(1, 6)]
    questions = [qa["question"] for paragraph in paragraphs() for qa in paragraph["qas"]]
    assert len(set(questions)) == len(questions) == 300
    assert all(question.endswith("?") for question in questions)


def test_shares_no_thirteen_words_in_a_row_with_the_evaluation_set() -> None:
    if not EVALUATION.is_file():
        pytest.skip("the embedded reading set is missing")
    measured = {
        gram for text in strings(json.loads(EVALUATION.read_text(encoding="utf-8"))) for gram in word_grams(text)
    }
    measured |= word_grams(GENERAL.read_text(encoding="utf-8"))
    practice_grams = {gram for text in strings(articles()) for gram in word_grams(text)}
    assert measured and practice_grams
    assert not measured & practice_grams
