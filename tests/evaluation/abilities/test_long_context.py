"""Long contexts: the same in every process, of the stated length, with every fact in the text and one right answer."""

from collections import Counter

import pytest

from keeptune.evaluation.abilities.long_context import FACTS, NAMES, TOKENS_PER_WORD, LongContext, plant_facts
from keeptune.evaluation.suite.loader import Size, Split

ABILITY = LongContext()
FINAL = ABILITY.items("final", "full")
PLACES: list[tuple[Split, Size]] = [("final", "full"), ("dev", "standard")]


def test_the_same_name_gives_the_same_text() -> None:
    assert plant_facts(512, "some name") == plant_facts(512, "some name")
    assert plant_facts(512, "some name")[0].text != plant_facts(512, "another name")[0].text
    assert ABILITY.items("final", "full") == FINAL


@pytest.mark.parametrize(("split", "size"), PLACES)
def test_every_fact_stands_in_its_text_once(split: Split, size: Size) -> None:
    for item in ABILITY.items(split, size):
        sentences = [
            fact.sentence.format(name=name, word=item.answer)
            for fact in FACTS
            for name in NAMES
            if fact.question.format(name=name) == item.question
        ]
        assert len(sentences) == 1
        assert item.text.count(sentences[0]) == 1
        assert item.answer not in item.question


@pytest.mark.parametrize(("split", "size"), PLACES)
def test_each_text_plants_all_facts_about_different_people(split: Split, size: Size) -> None:
    texts: dict[str, list[str]] = {}
    for item in ABILITY.items(split, size):
        texts.setdefault(item.text, []).append(item.question)
    for text, questions in texts.items():
        assert len(set(questions)) == len(FACTS)
        named = [name for name in NAMES for question in questions if name in question.split()]
        assert len(set(named)) == len(FACTS)
        assert all(name in text for name in named)


@pytest.mark.parametrize("tokens", [512, 1024, 2048, 4096])
def test_texts_are_as_long_as_stated(tokens: int) -> None:
    lengths = {item.cluster: len(item.text.split()) * TOKENS_PER_WORD for item in FINAL if item.tokens == tokens}
    assert lengths
    for length in lengths.values():
        assert length == pytest.approx(tokens, rel=0.15)


def test_facts_stand_all_over_the_text() -> None:
    places = []
    for item in FINAL:
        fact = next(own for own in FACTS if item.answer in own.words)
        start = item.text.index(fact.sentence.split("{name}")[0])
        places.append(4 * start // len(item.text))
    counts = Counter(places)
    assert all(counts[quarter] > len(FINAL) / 10 for quarter in range(4))


def test_words_belong_to_one_fact() -> None:
    counts = Counter(word for fact in FACTS for word in fact.words)
    assert set(counts.values()) == {1}
    assert all(len(fact.words) == 10 for fact in FACTS)
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize(
    ("output", "correct"),
    [
        ("lantern", True),
        ("Lantern.", True),
        ("The object is the LANTERN!\n", True),
        ("lantern lantern", True),
        ("lantern, and she feeds the donkey", True),  # a word of another fact
        ("", False),
        ("compass", False),
        ("lantern or compass", False),  # all ten would always be right
        ("lanterns", False),
        ("l a n t e r n", False),
        ("灯笼", False),
    ],
)
def test_the_one_right_word_counts(output: str, correct: bool) -> None:
    assert ABILITY.grade_records([{"output": output, "answer": "lantern"}]) == [{"correct": correct}]
