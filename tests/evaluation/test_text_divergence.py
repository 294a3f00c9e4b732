"""Loss and divergence are what plain transformers makes of the same texts, and nothing where the adapter is off."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from keeptune.data.plain_texts import PlainText, load_general_texts
from keeptune.errors import DataError
from keeptune.evaluation.text_divergence import measure_text_divergence, summarize_divergence, summarize_loss
from keeptune.models import adapters

TEXTS = [
    PlainText("a", "general", "It sold only rye bread until 1960, because wheat flour was too dear. " * 6),
    PlainText("b", "skill", "Question: 1 + 1\nAnswer:\n"),
    PlainText("c", "general", "Swifts eat insects."),
    PlainText("d", "general", ""),
]


@pytest.fixture(scope="module")
def tuned(model_folder: Path) -> Any:
    return tiny.tune(tiny.load(model_folder))


def by_hand(tuned: Any, words: Any, text: str) -> tuple[float, float, float]:
    """Both token losses and the divergence from whole tables of logits, summed position by position."""
    tokens = words.encode(text)
    with torch.no_grad():
        after = tuned(input_ids=torch.tensor([tokens])).logits[0].double().log_softmax(-1)
        with adapters.scaled(tuned, 0.0):
            before = tuned(input_ids=torch.tensor([tokens])).logits[0].double().log_softmax(-1)
    losses = [-sum(float(table[place, token]) for place, token in enumerate(tokens[1:])) for table in (before, after)]
    return losses[0], losses[1], float((after.exp() * (after - before)).sum())


def test_it_equals_the_value_from_full_logits(tuned: Any) -> None:
    words = tiny.tokenizer()
    made = measure_text_divergence(tuned, 1.0, words, TEXTS)
    assert [record["id"] for record in made] == ["a", "b", "c"]  # an empty text predicts nothing
    assert made[0]["tokens"] > 256  # more than a chunk
    for record, text in zip(made, TEXTS, strict=False):
        found = (record["base_nll"], record["tuned_nll"], record["kl"])
        assert found == pytest.approx(by_hand(tuned, words, text.text), rel=1e-3)
        assert record["predicted"] == record["tokens"] - 1 == len(words.encode(text.text)) - 1
        assert record["kl"] > 0.001 * record["tokens"]


def test_an_adapter_that_is_off_moves_nothing(tuned: Any) -> None:
    for record in measure_text_divergence(tuned, 0.0, tiny.tokenizer(), TEXTS):
        assert record["kl"] == 0
        assert record["base_nll"] == record["tuned_nll"]
    assert measure_text_divergence(tuned, 1.0, tiny.tokenizer(), TEXTS)[0]["kl"] > 0


def test_a_long_text_is_cut(tuned: Any) -> None:
    (record,) = measure_text_divergence(
        tuned, 1.0, tiny.tokenizer(), [PlainText("long", "general", "rye bread " * 1000)]
    )
    assert record["tokens"] == 512


def record(what: str, tokens: int, base: float, tuned: float, kl: float) -> dict[str, Any]:
    return {
        "id": what,
        "what": what,
        "text": "",
        "tokens": tokens,
        "predicted": tokens - 1,
        "base_nll": base,
        "tuned_nll": tuned,
        "kl": kl,
    }


def test_summaries_are_means_over_tokens() -> None:
    records = [record("general", 11, 30, 31, 2.2), record("general", 31, 60, 69, 2.0), record("skill", 5, 1, 1, 4.0)]
    loss, moved = summarize_loss(records, 1000, 0), summarize_divergence(records, "general", 1000, 0)
    assert loss is not None and moved is not None
    assert (loss["n"], loss["tokens"], loss["base"], loss["tuned"]) == (2, 40, 2.25, 2.5)
    # Two texts: whole texts are drawn, so the ends are those of the one and of the other alone.
    assert loss["difference"] == {"point": 0.25, "low95": pytest.approx(0.1), "high95": pytest.approx(0.3)}
    assert (moved["n"], moved["tokens"], moved["point"]) == (2, 42, pytest.approx(0.1))
    assert summarize_divergence(records, "skill", 1000, 0) == {
        "n": 1,
        "tokens": 5,
        **dict.fromkeys(("point", "low95", "high95"), 0.8),
    }
    assert summarize_loss(records[2:], 1000, 0) is None
    assert summarize_divergence([], "skill", 1000, 0) is None


def test_texts_are_parted_by_empty_lines(tmp_path: Path) -> None:
    path, other = tmp_path / "one.txt", tmp_path / "two.txt"
    path.write_bytes("\ufeff\n\nOne,\r\nstill one.\r\n \t\r\n\r\n  Two.\n".encode())
    other.write_text("def f():\n    return 1\n", encoding="utf-8")
    texts = load_general_texts([str(path), str(other)])
    assert [text.text for text in texts] == ["One,\nstill one.", "  Two.", "def f():\n    return 1"]
    assert len({text.id for text in texts}) == 3
    assert load_general_texts([str(path), str(other)], limit=2) == texts[:2]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read"), (b"\n \n", "contains no text"), (b"caf\xe9", "byte 3 is not UTF-8")],
)
def test_a_file_without_text_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=rf"text\.txt: {message}"):
        load_general_texts([str(path)])


def test_the_embedded_texts_are_two_dozen_different_ones() -> None:
    texts = load_general_texts(["embedded"])
    assert len(texts) == 24
    assert all(40 <= len(text.text.split()) <= 110 or text.text.startswith("def ") for text in texts)
    openings = sorted(text.text[:20] for text in texts)
    assert all(first != second for first, second in pairwise(openings))
    assert np.mean([len(text.text) for text in texts]) > 300
