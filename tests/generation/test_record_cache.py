"""Cached records are reused only if everything they depend on is equal. A damaged entry is computed again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny

from keeptune.evaluation.fingerprint import model_fingerprint
from keeptune.evaluation.reading_score import fingerprint as reading_fingerprint
from keeptune.evaluation.skill_score import SkillQuestion
from keeptune.evaluation.skill_score import fingerprint as skill_fingerprint
from keeptune.generation.record_cache import RecordCache, code_fingerprint, sha256_of
from keeptune.grading.squad import ReadingItem
from keeptune.prompts.template import Prompt

MODEL = {"code": "c", "weights": "w", "tokenizer": "t", "machine": ["cpu", None, 2], "adapter": None}
QUESTIONS = [SkillQuestion("1", "add", "1 + 1", 2), SkillQuestion("2", "add", "1 + 2", 3)]  # type: ignore[arg-type]
ITEM = ReadingItem("T", 0, "C.", "q", "Q?", ("a", "b"))


def must_not_compute() -> list[dict[str, Any]]:
    raise AssertionError("the records should be cached")


def is_cached(
    cache: RecordCache, prompt: str = "{problem}", budget: int = 9, questions: list[SkillQuestion] = QUESTIONS
) -> bool:
    """Whether the records were cached; they are cached afterwards."""
    fingerprint = skill_fingerprint(Prompt(prompt), questions, {"add": budget})
    return cache.get_or_compute(fingerprint, lambda: [{"id": "1"}])[1]


def test_cached_records_are_returned_unchanged(tmp_path: Path) -> None:
    record = {"id": "1", "output": "末\u2028", "share": 0.1 + 0.2, "verdicts": {"2d4s": True}, "answer": None}
    records = [record]
    fingerprint = skill_fingerprint(Prompt("{problem}"), QUESTIONS, {"add": 9})
    assert RecordCache(tmp_path, MODEL).get_or_compute(fingerprint, lambda: records) == (records, False)
    reordered = RecordCache(tmp_path, dict(reversed(MODEL.items())))
    assert reordered.get_or_compute(fingerprint, must_not_compute) == (records, True)


@pytest.mark.parametrize("key", sorted(MODEL))
def test_another_model_code_or_machine_is_another_entry(tmp_path: Path, key: str) -> None:
    assert not is_cached(RecordCache(tmp_path, MODEL))
    assert not is_cached(RecordCache(tmp_path, {**MODEL, key: "other"}))
    assert is_cached(RecordCache(tmp_path, MODEL))


@pytest.mark.parametrize(
    "request_records",
    [
        lambda cache: is_cached(cache, prompt="Q: {problem}"),
        lambda cache: is_cached(cache, budget=10),
        lambda cache: is_cached(cache, questions=QUESTIONS[:1]),
        lambda cache: is_cached(cache, questions=[*reversed(QUESTIONS)]),
        lambda cache: is_cached(cache, questions=[QUESTIONS[0], SkillQuestion("2", "add", "1 + 2", 4)]),
    ],
)
def test_another_prompt_budget_or_question_is_another_entry(
    tmp_path: Path, request_records: Callable[[RecordCache], bool]
) -> None:
    cache = RecordCache(tmp_path, MODEL)
    assert not is_cached(cache)
    assert not request_records(cache)
    assert request_records(cache) and is_cached(cache)


def test_another_configuration_is_another_fingerprint(model_folder: Path) -> None:
    model, words = tiny.load(model_folder), tiny.tokenizer()
    before = model_fingerprint(model, words)
    assert model_fingerprint(tiny.load(model_folder), words) == before
    model.config.rms_norm_eps *= 10
    changed = model_fingerprint(model, words)
    assert {key for key in before if before[key] != changed[key]} == {"configuration"}


def test_the_reading_fingerprint_depends_on_layout_questions_and_references() -> None:
    fingerprints = [
        reading_fingerprint([ITEM], "few-shot"),
        reading_fingerprint([ITEM], "contest"),
        reading_fingerprint([ReadingItem("T", 0, "C.", "q", "Q?", ("a",))], "few-shot"),
        reading_fingerprint([ReadingItem("T", 0, "D.", "q", "Q?", ("a", "b"))], "few-shot"),
    ]
    assert len({sha256_of(fingerprint) for fingerprint in fingerprints}) == 4


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"facts": {}, "records": []}', b"\xff"])
def test_a_damaged_entry_is_computed_again(tmp_path: Path, damage: bytes) -> None:
    cache = RecordCache(tmp_path, MODEL)
    assert not is_cached(cache)
    (entry,) = tmp_path.iterdir()
    assert json.loads(entry.read_text(encoding="utf-8"))["records"] == [{"id": "1"}]
    entry.write_bytes(damage)
    assert not is_cached(cache)
    assert is_cached(cache)


def test_a_cache_that_cannot_be_written_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    cache = RecordCache(tmp_path / "file" / "scores", MODEL)
    assert not is_cached(cache)
    assert not is_cached(cache)


def test_the_code_fingerprint_has_a_hash_and_versions() -> None:
    fingerprint = code_fingerprint()
    assert len(fingerprint["code"]) == 64
    assert {"torch", "transformers", "jieba"} <= set(fingerprint["packages"])
