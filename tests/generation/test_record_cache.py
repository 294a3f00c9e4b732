"""Records are found again only if all that they depend on is the same; a damaged entry is made anew."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny

from keeptune.evaluation.fingerprint import model_facts
from keeptune.evaluation.reading import facts as reading_facts
from keeptune.evaluation.skill import Asked
from keeptune.evaluation.skill import facts as skill_facts
from keeptune.generation.record_cache import RecordCache, code_facts, sha256_of
from keeptune.grading.squad import ReadingItem
from keeptune.prompts.template import Prompt

MODEL = {"code": "c", "weights": "w", "tokenizer": "t", "machine": ["cpu", None, 2], "adapter": None}
ASKED = [Asked("1", "add", "1 + 1", 2), Asked("2", "add", "1 + 2", 3)]  # type: ignore[arg-type]
ITEM = ReadingItem("T", 0, "C.", "q", "Q?", ("a", "b"))


def never() -> list[dict[str, Any]]:
    raise AssertionError("it was there before")


def asked(cache: RecordCache, prompt: str = "{problem}", budget: int = 9, questions: list[Asked] = ASKED) -> bool:
    """Whether the records were there."""
    _, there = cache.records(skill_facts(Prompt(prompt), questions, {"add": budget}), lambda: [{"id": "1"}])
    return there


def test_the_same_is_found_again_as_it_was(tmp_path: Path) -> None:
    made = [{"id": "1", "output": "末\u2028", "share": 0.1 + 0.2, "verdicts": {"2d4s": True}, "answer": None}]
    facts = skill_facts(Prompt("{problem}"), ASKED, {"add": 9})
    assert RecordCache(tmp_path, MODEL).records(facts, lambda: made) == (made, False)
    assert RecordCache(tmp_path, dict(reversed(MODEL.items()))).records(facts, never) == (made, True)


@pytest.mark.parametrize("fact", sorted(MODEL))
def test_another_model_code_or_machine_is_another_entry(tmp_path: Path, fact: str) -> None:
    assert not asked(RecordCache(tmp_path, MODEL))
    assert not asked(RecordCache(tmp_path, {**MODEL, fact: "other"}))
    assert asked(RecordCache(tmp_path, MODEL))


@pytest.mark.parametrize(
    "ask",
    [
        lambda cache: asked(cache, prompt="Q: {problem}"),
        lambda cache: asked(cache, budget=10),
        lambda cache: asked(cache, questions=ASKED[:1]),
        lambda cache: asked(cache, questions=[*reversed(ASKED)]),
        lambda cache: asked(cache, questions=[ASKED[0], Asked("2", "add", "1 + 2", 4)]),
    ],
)
def test_another_prompt_budget_or_question_is_another_entry(tmp_path: Path, ask: Callable[[RecordCache], bool]) -> None:
    cache = RecordCache(tmp_path, MODEL)
    assert not asked(cache)
    assert not ask(cache)
    assert ask(cache) and asked(cache)


def test_a_model_that_is_configured_otherwise_is_another(model_folder: Path) -> None:
    model, words = tiny.load(model_folder), tiny.tokenizer()
    before = model_facts(model, words)
    assert model_facts(tiny.load(model_folder), words) == before
    model.config.rms_norm_eps *= 10
    changed = model_facts(model, words)
    assert {key for key in before if before[key] != changed[key]} == {"configuration"}


def test_reading_depends_on_its_layout_questions_and_references() -> None:
    found = [
        reading_facts([ITEM], "few-shot"),
        reading_facts([ITEM], "contest"),
        reading_facts([ReadingItem("T", 0, "C.", "q", "Q?", ("a",))], "few-shot"),
        reading_facts([ReadingItem("T", 0, "D.", "q", "Q?", ("a", "b"))], "few-shot"),
    ]
    assert len({sha256_of(facts) for facts in found}) == 4


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"facts": {}, "records": []}', b"\xff"])
def test_a_damaged_entry_is_made_anew(tmp_path: Path, damage: bytes) -> None:
    cache = RecordCache(tmp_path, MODEL)
    assert not asked(cache)
    (entry,) = tmp_path.iterdir()
    assert json.loads(entry.read_text(encoding="utf-8"))["records"] == [{"id": "1"}]
    entry.write_bytes(damage)
    assert not asked(cache)
    assert asked(cache)


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    cache = RecordCache(tmp_path / "file" / "scores", MODEL)
    assert not asked(cache)
    assert not asked(cache)


def test_the_code_is_told_by_its_bytes_and_versions() -> None:
    facts = code_facts()
    assert len(facts["code"]) == 64
    assert {"torch", "transformers", "jieba"} <= set(facts["packages"])
