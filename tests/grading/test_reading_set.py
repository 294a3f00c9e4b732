"""The reading set is written by hand: a span that has slipped would turn right answers into wrong ones unnoticed."""

import json
from importlib import resources
from typing import Any

import pytest

Paragraph = dict[str, Any]
Question = dict[str, Any]


@pytest.fixture(scope="module")
def reading_set() -> dict[str, Any]:
    text = resources.files("keeptune.grading").joinpath("reading_set.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


@pytest.fixture(scope="module")
def paragraphs(reading_set: dict[str, Any]) -> list[Paragraph]:
    return [paragraph for article in reading_set["data"] for paragraph in article["paragraphs"]]


@pytest.fixture(scope="module")
def questions(paragraphs: list[Paragraph]) -> list[Question]:
    return [question for paragraph in paragraphs for question in paragraph["qas"]]


def test_has_the_fields_of_squad_and_no_others(
    reading_set: dict[str, Any], paragraphs: list[Paragraph], questions: list[Question]
) -> None:
    assert set(reading_set) == {"version", "data"}
    assert reading_set["version"] == "keeptune-reading-1"
    assert all(set(article) == {"title", "paragraphs"} for article in reading_set["data"])
    assert all(set(paragraph) == {"context", "qas"} for paragraph in paragraphs)
    assert all(set(question) == {"id", "question", "answers"} for question in questions)
    assert all(set(answer) == {"text", "answer_start"} for question in questions for answer in question["answers"])


def test_is_large_enough_to_measure_with(paragraphs: list[Paragraph], questions: list[Question]) -> None:
    assert len(paragraphs) >= 40
    assert len(questions) >= 160


def test_every_answer_is_whole_words_at_its_offset(paragraphs: list[Paragraph]) -> None:
    for paragraph in paragraphs:
        # Spaces stand for the characters outside the passage.
        context = f" {paragraph['context']} "
        for question in paragraph["qas"]:
            for answer in question["answers"]:
                start = answer["answer_start"] + 1
                end = start + len(answer["text"])
                assert context[start:end] == answer["text"] == answer["text"].strip(), question["id"]
                assert not context[start - 1].isalnum() and not context[end].isalnum(), question["id"]


def test_references_of_a_question_are_one_to_three_overlapping_spans(questions: list[Question]) -> None:
    for question in questions:
        spans = [
            (answer["answer_start"], answer["answer_start"] + len(answer["text"])) for answer in question["answers"]
        ]
        assert 1 <= len(spans) <= 3, question["id"]
        assert len(set(spans)) == len(spans), question["id"]
        first_start, first_end = spans[0]
        assert all(start < first_end and first_start < end for start, end in spans), question["id"]


def test_ids_passages_titles_and_questions_are_distinct(
    reading_set: dict[str, Any], paragraphs: list[Paragraph], questions: list[Question]
) -> None:
    titles = [article["title"] for article in reading_set["data"]]
    contexts = [paragraph["context"] for paragraph in paragraphs]
    ids = [question["id"] for question in questions]
    for values in (titles, contexts, ids):
        assert len(set(values)) == len(values)
    for paragraph in paragraphs:
        asked = [question["question"].casefold() for question in paragraph["qas"]]
        assert len(set(asked)) == len(asked), asked


def test_no_question_contains_its_own_answer(questions: list[Question]) -> None:
    for question in questions:
        first_reference = question["answers"][0]["text"].casefold()
        assert f" {first_reference} " not in f" {question['question'].casefold().rstrip('?')} ", question["id"]
