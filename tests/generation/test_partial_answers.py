"""An interrupted evaluation goes on where it stopped, and ends in the same bytes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny

from keeptune.generation import scheduling
from keeptune.generation.engine import Answer, Generator
from keeptune.generation.record_cache import PARTIAL, RecordCache

FACTS = {"model": "tiny"}


class Killed(BaseException):
    """Ends a computation as a signal does."""


def never(so_far: str) -> bool:  # noqa: ARG001
    return False


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows are decoded together, four are a block."""
    monkeypatch.setattr(scheduling, "SLOTS", 2)


@pytest.fixture(scope="module")
def generator(model_folder: Path) -> Generator:
    return Generator(tiny.load(model_folder), tiny.tokenizer())


def prompts(generator: Generator) -> list[list[int]]:
    return [generator.tokenizer.encode(f"{number} + {3 * number} = ") for number in range(18)]


def compute(generator: Generator, limit: int | None = None) -> Callable[[], list[dict[str, Any]]]:
    """Computes the records of all prompts; is killed after `limit` answers."""

    def count(done: int) -> None:
        nonlocal limit
        if limit is not None:
            limit -= done
            if limit < 0:
                raise Killed

    def records() -> list[dict[str, Any]]:
        rows = prompts(generator)
        answers = generator.answer(rows, [6 + number % 3 for number in range(len(rows))], never, count)
        return [{"text": answer.text, "tokens": answer.tokens, "stopped": answer.stopped} for answer in answers]

    return records


@pytest.fixture
def decoded(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The indices of all rows that are decoded."""
    indices: list[int] = []
    decode = generator._decode_block

    def record(cache: Any, slots: int, block: list[Any], collector: Any) -> None:
        indices.extend(row.index for row in block)
        decode(cache, slots, block, collector)

    monkeypatch.setattr(generator, "_decode_block", record)
    return indices


@pytest.mark.parametrize("limit", [1, 5, 11, 17])
def test_an_interrupted_evaluation_goes_on(
    generator: Generator, decoded: list[int], tmp_path: Path, limit: int
) -> None:
    whole, _ = RecordCache(tmp_path / "whole", FACTS).get_or_compute({"what": 1}, compute(generator))
    assert len(decoded) == 18
    decoded.clear()
    cache = RecordCache(tmp_path / "cache", FACTS)
    with pytest.raises(Killed):
        cache.get_or_compute({"what": 1}, compute(generator, limit))
    complete_blocks = limit // 4 if limit else 0
    first = list(decoded)
    decoded.clear()
    records, is_cached = cache.get_or_compute({"what": 1}, compute(generator))
    assert (records, is_cached) == (whole, False)
    assert len(decoded) <= 18 - 4 * max(0, complete_blocks - 1)
    assert sorted({*first, *decoded}) == list(range(18))
    assert not list((tmp_path / "cache").glob(f"*{PARTIAL}"))
    decoded.clear()
    assert cache.get_or_compute({"what": 1}, compute(generator)) == (whole, True)
    assert decoded == []


def interrupted(generator: Generator, folder: Path) -> tuple[RecordCache, Path]:
    cache = RecordCache(folder, FACTS)
    with pytest.raises(Killed):
        cache.get_or_compute({"what": 1}, compute(generator, 13))
    [path] = folder.glob(f"*{PARTIAL}")
    return cache, path


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-20],
        lambda content: content + b'{"block": "a", "ans',
        lambda content: b"\xff\n" + content,
        lambda content: content.replace(b'"answers"', b'"other"'),
        lambda content: b"[]\n" + content,
    ],
)
def test_a_damaged_line_is_decoded_again(
    generator: Generator, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    cache, path = interrupted(generator, tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    assert cache.get_or_compute({"what": 1}, compute(generator))[0] == compute(generator)()


def test_answers_of_another_evaluation_are_not_used(generator: Generator, decoded: list[int], tmp_path: Path) -> None:
    cache, _ = interrupted(generator, tmp_path)
    decoded.clear()
    cache.get_or_compute({"what": 2}, compute(generator))
    assert len(decoded) == 18


def test_outside_of_an_evaluation_nothing_is_stored(generator: Generator, tmp_path: Path) -> None:
    answers = generator.answer(prompts(generator)[:3], [4] * 3, never)
    assert all(isinstance(answer, Answer) for answer in answers)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_does_not_stop_an_evaluation(generator: Generator, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, where a folder is needed", encoding="utf-8")
    records, _ = RecordCache(tmp_path / "cache", FACTS).get_or_compute({"what": 1}, compute(generator))
    assert len(records) == 18
