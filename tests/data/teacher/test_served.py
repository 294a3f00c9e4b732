"""Tests against the server of transformers with the embedded model, which are independent of keeptune.

Such a small model rarely solves a problem. The tests check that all its answers are parsed, judged and cached.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from urllib.request import urlopen

import pytest

from keeptune.config.teacher import TeacherSection
from keeptune.data.teacher.judge import find_reasoning_fault
from keeptune.data.teacher.text_generation import TeacherTask, generate_texts
from keeptune.errors import WriterError
from keeptune.skills.base import Question

pytestmark = pytest.mark.slow

START_SECONDS = 180


@pytest.fixture(scope="module")
def model() -> str:
    # Imported here, because the fast tests need no torch.
    from keeptune.models.load import resolve

    return resolve("smollm2-135m")


@pytest.fixture(scope="module")
def url(model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Starts a server with the model in a separate process and returns its base address."""
    for package in ("fastapi", "uvicorn"):
        pytest.importorskip(package, reason="pip install 'transformers[serving]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log.txt"
    place = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", model, *place]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(f"http://127.0.0.1:{port}/health"):
            assert process.poll() is None, log.read_text(encoding="utf-8")
            assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait()


def _answers(address: str) -> bool:
    try:
        with urlopen(address, timeout=5):
            return True
    except OSError:
        return False


def build_task(number: int) -> TeacherTask:
    question = Question("add", f"What is 2 + {number}?", Fraction(2 + number))
    return TeacherTask(question, str(2 + number), "plainly", lambda _: None)


def test_all_answers_of_a_real_model_are_judged_and_cached(url: str, model: str, tmp_path: Path) -> None:
    rows = [build_task(number) for number in range(1, 4)]
    settings = TeacherSection(url=url, model=model, task="reasoning", samples=1, max_tokens=48, concurrency=2)
    written = generate_texts(rows, settings, tmp_path / "writer.jsonl")
    summary = written.summary
    assert (summary.problems, summary.asked, summary.from_cache, summary.failed) == (3, 3, 0, {})
    assert summary.accepted + sum(summary.rejected.values()) == 3
    assert summary.prompt_tokens > 3 * 30
    assert 0 < summary.completion_tokens <= 3 * 48
    for row in rows:
        text = written.texts.get(row.question.text)
        assert text is None or find_reasoning_fault(text, row.question, row.answer) is None
    again = generate_texts(rows, settings, tmp_path / "writer.jsonl")
    assert (again.texts, again.summary.asked, again.summary.from_cache) == (written.texts, 0, 3)


def test_a_model_that_is_not_served_is_an_error(url: str, tmp_path: Path) -> None:
    settings = TeacherSection(url=url, model="no/such-model", task="reasoning", samples=1, attempts=1, failure_limit=0)
    with pytest.raises(WriterError, match=r"HTTP 4\d\d"):
        generate_texts([build_task(1)], settings, tmp_path / "writer.jsonl")
