"""Cached answers are returned for equal requests, and an incomplete last line is ignored."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from keeptune.errors import RunError
from keeptune.remote_models.cache import AnswerCache
from keeptune.remote_models.exchange import Answer, Request

REQUEST = Request("model", "1 + 1?", 0.7, 100, 0)
ANSWER = Answer("两行\n#### 2\u2028", "stop", 3, 4)


def test_stored_answers_are_loaded_again(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "run" / "writer.jsonl")
    assert cache.get(REQUEST) is None
    cache.put(REQUEST, ANSWER)
    again = AnswerCache(cache.path)
    assert cache.get(REQUEST) == again.get(REQUEST) == ANSWER


@pytest.mark.parametrize(
    "change", [{"model": "other"}, {"prompt": "1 + 2?"}, {"temperature": 0.8}, {"max_tokens": 101}, {"sample": 1}]
)
def test_a_different_request_is_not_answered(tmp_path: Path, change: dict[str, object]) -> None:
    cache = AnswerCache(tmp_path / "writer.jsonl")
    cache.put(REQUEST, ANSWER)
    assert cache.get(replace(REQUEST, **change)) is None  # type: ignore[arg-type]


def test_truncating_the_file_loses_only_the_last_answer(tmp_path: Path) -> None:
    path = tmp_path / "writer.jsonl"
    other = replace(REQUEST, sample=1)
    AnswerCache(path).put(REQUEST, ANSWER)
    first = path.read_bytes()
    AnswerCache(path).put(other, ANSWER)
    whole = path.read_bytes()
    for size in range(len(first), len(whole)):
        path.write_bytes(whole[:size])
        cache = AnswerCache(path)
        assert cache.get(REQUEST) == ANSWER
        assert cache.get(other) is None
        cache.put(other, ANSWER)
        assert AnswerCache(path).get(other) == ANSWER
        assert path.read_bytes() == whole


def test_an_invalid_line_is_reported_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "writer.jsonl"
    AnswerCache(path).put(REQUEST, ANSWER)
    path.write_bytes(path.read_bytes() + json.dumps({"key": "1"}).encode() + b"\n")
    with pytest.raises(RunError, match=r"writer\.jsonl:2: not a cached"):
        AnswerCache(path)


def test_a_folder_at_the_path_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be written"):
        AnswerCache(tmp_path)
