"""What was answered is never asked again, and what a crash tore is as if it had not been answered."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from keeptune.data.teacher.cache import Cache
from keeptune.data.teacher.exchange import Answer, Request
from keeptune.errors import RunError

REQUEST = Request("model", "1 + 1?", 0.7, 100, 0)
ANSWER = Answer("两行\n#### 2\u2028", "stop", 3, 4)


def test_answers_are_there_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "run" / "writer.jsonl")
    assert cache.get(REQUEST) is None
    cache.put(REQUEST, ANSWER)
    again = Cache(cache.path)
    assert cache.get(REQUEST) == again.get(REQUEST) == ANSWER


@pytest.mark.parametrize(
    "change", [{"model": "other"}, {"prompt": "1 + 2?"}, {"temperature": 0.8}, {"max_tokens": 101}, {"sample": 1}]
)
def test_another_request_has_another_answer(tmp_path: Path, change: dict[str, object]) -> None:
    cache = Cache(tmp_path / "writer.jsonl")
    cache.put(REQUEST, ANSWER)
    assert cache.get(replace(REQUEST, **change)) is None  # type: ignore[arg-type]


def test_whatever_is_torn_off_the_end_only_the_last_answer_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "writer.jsonl"
    other = replace(REQUEST, sample=1)
    Cache(path).put(REQUEST, ANSWER)
    first = path.read_bytes()
    Cache(path).put(other, ANSWER)
    whole = path.read_bytes()
    for size in range(len(first), len(whole)):
        path.write_bytes(whole[:size])
        cache = Cache(path)
        assert cache.get(REQUEST) == ANSWER
        assert cache.get(other) is None
        cache.put(other, ANSWER)
        assert Cache(path).get(other) == ANSWER
        assert path.read_bytes() == whole


def test_a_spoilt_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "writer.jsonl"
    Cache(path).put(REQUEST, ANSWER)
    path.write_bytes(path.read_bytes() + json.dumps({"key": "1"}).encode() + b"\n")
    with pytest.raises(RunError, match=r"writer\.jsonl:2: no answer of a server; delete the line"):
        Cache(path)


def test_a_folder_in_its_place_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be written"):
        Cache(tmp_path)
