"""The likelihood of an answer is what plain transformers makes of the same text, however passages are batched."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from keeptune.data.reading_passages import encode_passage
from keeptune.evaluation.reference_answer_likelihood import answer_nll
from keeptune.generation.engine import Generator
from keeptune.grading.squad import ReadingItem, load_reading_items
from keeptune.models import adapters

ITEMS = [
    ReadingItem("Bread", 0, "It sold only rye bread until 1960.", "q0", "What did it sell?", ("rye bread", "bread")),
    ReadingItem("Swifts", 1, "Swifts eat insects.", "q1", "What do swifts eat?", ("insects",)),
    ReadingItem("Bread", 0, "It sold only rye bread until 1960.", "q2", "Until when?", ("1960",)),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("model"))


def by_hand(model: Any, words: Any, before: str, answer: str) -> float:
    """Minus the mean logarithm of the probability of each token of the answer."""
    text, wanted = words.encode(before), words.encode(answer, add_special_tokens=False)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([text + wanted])).logits[0]
    chances = logits.log_softmax(-1)[len(text) - 1 : -1]
    return -float(torch.stack([row[token] for row, token in zip(chances, wanted, strict=True)]).mean())


def test_it_equals_the_tokens_of_transformers(folder: Path) -> None:
    words = tiny.tokenizer()
    found = answer_nll(Generator(tiny.load(folder), words), ITEMS)
    reference = tiny.reference(folder)
    first = f"Passage: {ITEMS[0].context}\nQuestion: What did it sell?\nAnswer:"
    assert found[0] == pytest.approx(by_hand(reference, words, first, " rye bread"), abs=1e-4)
    assert found[2] == pytest.approx(
        by_hand(reference, words, f"{first} rye bread\nQuestion: Until when?\nAnswer:", " 1960"), abs=1e-4
    )
    other = "Passage: Swifts eat insects.\nQuestion: What do swifts eat?\nAnswer:"
    assert found[1] == pytest.approx(by_hand(reference, words, other, " insects"), abs=1e-4)


def test_it_does_not_depend_on_the_order_of_passages(folder: Path) -> None:
    generator, items = Generator(tiny.load(folder), tiny.tokenizer()), load_reading_items("embedded", 60)
    backwards = [item for paragraph in range(99, -1, -1) for item in items if item.paragraph == paragraph]
    found = dict(zip((item.question_id for item in items), answer_nll(generator, items), strict=True))
    again = dict(zip((item.question_id for item in backwards), answer_nll(generator, backwards), strict=True))
    assert again == pytest.approx(found, abs=1e-4)


def test_an_adapter_that_is_off_changes_nothing(folder: Path) -> None:
    tuned = tiny.tune(tiny.load(folder))
    with adapters.scaled(tuned, 0.0):
        off = answer_nll(Generator(tuned, tiny.tokenizer()), ITEMS)
    assert off == answer_nll(Generator(tiny.load(folder), tiny.tokenizer()), ITEMS)
    assert off != answer_nll(Generator(tuned, tiny.tokenizer()), ITEMS)


def test_answers_are_at_their_stated_offsets() -> None:
    words = tiny.tokenizer()
    passage = encode_passage([ITEMS[0], ITEMS[2]], words)
    answers = [words.decode(passage.tokens[answer.start : answer.stop]) for answer in passage.answers]
    assert answers == [" rye bread", " 1960"]
    assert all(words.decode(passage.tokens[answer.stop]) == "\n" for answer in passage.answers)
