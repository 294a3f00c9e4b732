"""Tests against a local server that fails, stalls or returns wrong answers: only verified texts are accepted."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from remote_models.server import Behavior, Reply, Server, completion, serve

from keeptune.config.teacher import TeacherSection
from keeptune.data.teacher.text_generation import TeacherTask, TeacherTexts, generate_texts
from keeptune.errors import RecipeError, WriterError
from keeptune.progress import SilentReporter
from keeptune.skills.base import Question

# Without this header, the client waits half a second before it retries.
RETRY_IMMEDIATELY = {"retry-after-ms": "1"}

_ADDEND = re.compile(r"Add 10 and (\d+)")


def problem(number: int) -> str:
    return f"Add 10 and {number}, please."


def build_tasks(count: int = 1) -> list[TeacherTask]:
    """Returns tasks for the problems 10 + 1, 10 + 2, …"""
    return [
        TeacherTask(
            Question("add", problem(number), Fraction(10 + number)), str(10 + number), "plainly", lambda _: None
        )
        for number in range(1, count + 1)
    ]


def solution(number: int) -> str:
    return f"10 + {number} = {10 + number}\n#### {10 + number}"


def addend(prompt: str) -> int:
    match = _ADDEND.search(prompt)
    assert match is not None
    return int(match[1])


def answer_correctly(prompt: str, _: int = 0) -> Reply:
    return completion(solution(addend(prompt)))


def first(*replies: Reply) -> Behavior:
    """Returns these replies to a prompt in order, and then correct ones."""
    return lambda prompt, before: replies[before] if before < len(replies) else answer_correctly(prompt)


def settings(url: str, **changes: Any) -> TeacherSection:
    values = {"url": url, "model": "teacher", "task": "reasoning", "attempts": 2, "timeout_seconds": 10, **changes}
    return TeacherSection.model_validate(values)


def run(folder: Path, behavior: Behavior, count: int = 1, **changes: Any) -> tuple[TeacherTexts, Server]:
    with serve(behavior) as (url, server):
        return generate_texts(build_tasks(count), settings(url, **changes), folder / "writer.jsonl"), server


def test_verified_solutions_are_returned_with_a_summary(tmp_path: Path) -> None:
    written, server = run(
        tmp_path,
        answer_correctly,
        5,
        prices={"prompt_per_million": 1000, "completion_per_million": 4000},
        concurrency=3,
    )
    assert written.texts == {problem(number): solution(number) for number in range(1, 6)}
    assert list(written.texts) == [problem(number) for number in range(1, 6)]
    summary = written.summary
    assert (summary.problems, summary.asked, summary.from_cache, summary.accepted) == (5, 5, 0, 5)
    assert (summary.rejected, summary.failed) == ({}, {})
    assert (summary.prompt_tokens, summary.completion_tokens) == (50, 25)
    assert summary.cost == pytest.approx(0.05 + 0.1)
    body = server.received[0].body
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("teacher", 0.7, 1024)
    assert set(body) == {"model", "temperature", "max_tokens", "messages"}


def test_progress_counts_each_problem_once(tmp_path: Path) -> None:
    calls: list[tuple[str, int]] = []

    class Recorder(SilentReporter):
        def counter(self, what: str, total: int) -> Callable[[int], None]:
            return lambda amount: calls.append((f"{what} {total}", amount))

    wrong_answer = completion("10 + 1 = 12\n#### 11")
    with serve(first(wrong_answer)) as (url, server):
        generate_texts(build_tasks(3), settings(url, samples=2), tmp_path / "writer.jsonl", Recorder())
    assert len(server.received) == 6
    assert calls == [("texts of teacher 3", 1)] * 3


def test_the_failure_share_includes_requests_of_earlier_runs(tmp_path: Path) -> None:
    """Three of 40 problems always fail, which is more than a tenth of the requests that remain in the second run."""

    def mostly(prompt: str, _: int) -> Reply:
        return Reply(status=400) if addend(prompt) in (10, 20, 30) else answer_correctly(prompt)

    first_time, _ = run(tmp_path, mostly, 40, failure_limit=0.1, concurrency=1)
    again, server = run(tmp_path, mostly, 40, failure_limit=0.1, concurrency=1)
    assert len(again.texts) == len(first_time.texts) == 37
    assert {addend(received.body["messages"][-1]["content"]) for received in server.received} == {10, 20, 30}


def test_a_second_run_sends_no_request_and_has_the_same_result(tmp_path: Path) -> None:
    wrong_answer = completion("10 + 1 = 12\n#### 11")
    first_time, _ = run(tmp_path, first(wrong_answer), 3)
    second_time, server = run(tmp_path, lambda *_: Reply(status=500), 3)
    assert server.received == []
    assert second_time.texts == first_time.texts
    assert (second_time.summary.asked, second_time.summary.from_cache) == (0, first_time.summary.asked)
    for name in ("rejected", "accepted", "prompt_tokens", "completion_tokens"):
        assert getattr(second_time.summary, name) == getattr(first_time.summary, name)


def test_an_interrupted_run_requests_only_the_remaining_texts(tmp_path: Path) -> None:
    with pytest.raises(WriterError):
        run(
            tmp_path,
            lambda prompt, _: answer_correctly(prompt) if addend(prompt) <= 4 else Reply(status=401),
            9,
            concurrency=1,
        )
    cache = tmp_path / "writer.jsonl"
    assert len(cache.read_text(encoding="utf-8").splitlines()) == 4
    with cache.open("ab") as file:
        file.write(b'{"key": "torn')
    written, server = run(tmp_path, answer_correctly, 9)
    assert sorted(addend(received.prompt) for received in server.received) == [5, 6, 7, 8, 9]
    assert written.summary.accepted == 9


def test_a_killed_process_can_be_continued(tmp_path: Path) -> None:
    """The process gets SIGKILL while it waits for an answer. The earlier answers are on disk."""
    reached = threading.Event()
    server_ended = threading.Event()

    def stalls_at_six(prompt: str, _: int) -> Reply:
        if addend(prompt) == 6 and not reached.is_set():
            reached.set()
            server_ended.wait(20)
            return Reply(hang_up=True)
        return answer_correctly(prompt)

    program = (
        "import sys; from fractions import Fraction; from pathlib import Path\n"
        "from keeptune.data.teacher.text_generation import TeacherTask, generate_texts\n"
        "from keeptune.config.teacher import TeacherSection\n"
        "from keeptune.skills.base import Question\n"
        "rows = [TeacherTask(Question('add', f'Add 10 and {n}, please.', Fraction(10 + n)), str(10 + n), 'plainly',\n"
        "        lambda _: None) for n in range(1, 10)]\n"
        "generate_texts(rows, TeacherSection(url=sys.argv[1], model='teacher', task='reasoning', concurrency=1), "
        "Path(sys.argv[2]))\n"
    )
    with serve(stalls_at_six) as (url, server):
        process = subprocess.Popen([sys.executable, "-c", program, url, str(tmp_path / "writer.jsonl")])
        assert reached.wait(20)
        process.kill()
        process.wait()
        server_ended.set()
        written = generate_texts(build_tasks(9), settings(url), tmp_path / "writer.jsonl")
    assert written.summary.accepted == 9
    assert (written.summary.from_cache, written.summary.asked) == (5, 4)
    assert len(server.received) == 10


def test_failed_requests_are_retried(tmp_path: Path) -> None:
    failures = (
        Reply(status=500, headers=RETRY_IMMEDIATELY),
        Reply(status=429, headers=RETRY_IMMEDIATELY),
        Reply(status=503, headers=RETRY_IMMEDIATELY),
    )
    written, server = run(tmp_path, first(*failures), attempts=4)
    assert (written.summary.accepted, written.summary.failed, written.summary.asked) == (1, {}, 1)
    assert len(server.received) == 4


def test_the_retry_after_header_is_respected(tmp_path: Path) -> None:
    _, server = run(tmp_path, first(Reply(status=429, headers={"Retry-After": "1"})))
    before, after = (received.seconds for received in server.received)
    assert after - before >= 1


def test_a_broken_connection_is_retried(tmp_path: Path) -> None:
    written, server = run(tmp_path, first(Reply(hang_up=True)))
    assert written.summary.accepted == 1
    assert len(server.received) == 2


def test_the_rate_limit_is_respected(tmp_path: Path) -> None:
    # One request per 50 ms, including retries.
    _, server = run(tmp_path, first(Reply(status=500, headers=RETRY_IMMEDIATELY)), 3, requests_per_minute=1200)
    times = [received.seconds for received in server.received]
    assert len(times) == 6
    assert times[-1] - times[0] >= 0.2


def test_the_concurrency_limit_is_respected(tmp_path: Path) -> None:
    meeting = threading.Barrier(3)

    def together(prompt: str, _: int) -> Reply:
        meeting.wait(10)
        return answer_correctly(prompt)

    _, server = run(tmp_path, together, 9, concurrency=3)
    assert server.max_concurrent == 3


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(b"<html>Please log in</html>", headers={"Content-Type": "text/html"}), "not a chat completion"),
        (Reply(b'{"choices": [{"mess'), "not a chat completion"),
        (Reply(b""), "not a chat completion"),
        (Reply(b"[]"), "not a chat completion"),
        (Reply(b'{"error": {"message": "model is overloaded"}}'), "model is overloaded"),
        (Reply(b"\xff\xfe"), "not a chat completion"),
        (completion("", choices=[]), "not a chat completion"),
        (completion({"text": "#### 11"}), "not a chat completion"),
        (Reply(b'{"error": "bad"}', status=400), "HTTP 400"),
        (Reply(status=500, headers=RETRY_IMMEDIATELY), "HTTP 500"),
        (Reply(status=429, headers={"Retry-After": "100000"}), "HTTP 429"),
    ],
)
def test_a_failed_request_leaves_its_row_without_a_text(tmp_path: Path, reply: Reply, reason: str) -> None:
    written, _ = run(
        tmp_path, lambda prompt, _: reply if addend(prompt) == 2 else answer_correctly(prompt), 4, failure_limit=0.5
    )
    assert list(written.texts) == [problem(1), problem(3), problem(4)]
    ((message, count),) = written.summary.failed.items()
    assert reason in message
    assert count == 1
    again, server = run(tmp_path, answer_correctly, 4)
    assert [addend(received.prompt) for received in server.received] == [2]
    assert again.summary.accepted == 4


def test_a_stalling_server_hits_the_deadline(tmp_path: Path) -> None:
    """Single bytes do not extend the deadline."""
    slow = Reply(drip_seconds=20)
    written, server = run(
        tmp_path,
        lambda prompt, _: slow if addend(prompt) == 2 else answer_correctly(prompt),
        2,
        timeout_seconds=0.3,
        failure_limit=0.5,
    )
    assert written.summary.failed == {"no answer within 0.3 seconds": 1}
    assert sum(addend(received.prompt) == 2 for received in server.received) == 2


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (completion("10 + 1 = 12\n12 - 1 = 11\n#### 11"), "wrong step"),
        (completion("10 + 1 = 11\n#### 12"), "wrong answer"),
        (completion("10 + 1 = 11"), "no final answer on the last line"),
        (completion("10 + 1 = 11\n#### 1", "length"), "cut off at max_tokens"),
        (completion("", "content_filter"), "held back by the server"),
        (completion(None), "empty"),
        (completion("  \n"), "empty"),
    ],
)
def test_wrong_answers_are_rejected_and_sampled_again(tmp_path: Path, reply: Reply, reason: str) -> None:
    written, server = run(tmp_path, first(reply), samples=2)
    assert written.texts == {problem(1): solution(1)}
    assert written.summary.rejected == {reason: 1}
    assert len(server.received) == 2
    never, server = run(tmp_path / "other", lambda *_: reply, samples=3)
    assert (never.texts, never.summary.rejected) == ({}, {reason: 3})
    assert len(server.received) == 3


def test_the_final_line_has_the_format_of_the_recipe(tmp_path: Path) -> None:
    written, _ = run(tmp_path, lambda *_: completion("10 + 1 = 11\n#### 11.0 apples"))
    assert written.texts == {problem(1): "10 + 1 = 11\n#### 11"}


def test_texts_with_an_obstacle_are_rejected(tmp_path: Path) -> None:
    (task,) = build_tasks()
    row = TeacherTask(
        task.question, task.answer, task.answer_format, lambda text: "too long" if len(text) > 10 else None
    )
    with serve(answer_correctly) as (url, _):
        written = generate_texts([row], settings(url), tmp_path / "writer.jsonl")
    assert written.summary.rejected == {"too long": 2}


def test_paraphrases_are_verified_by_their_formula(tmp_path: Path) -> None:
    """Paraphrase 1 is correct, 2 is a subtraction, 3 has another number, and the formula of 4 is invalid."""
    words = {
        1: "How much is the sum of 10 and 1?",
        2: "How much is 10 without 2, then?",
        3: "How much is the sum of 10 and 4?",
        4: "How much is the sum of 10 and 4?",
    }
    formulas = {words[1]: "10 + 1", words[2]: "10 - 2", words[4]: "I do not know"}

    def rephrase(prompt: str, _: int) -> Reply:
        match = _ADDEND.search(prompt)
        if match is not None:
            return completion(f'"{words[int(match[1])]}"')
        return completion(next(formula for text, formula in formulas.items() if text in prompt))

    written, server = run(tmp_path, rephrase, 4, task="paraphrase", samples=1)
    assert written.texts == {problem(1): words[1]}
    assert written.summary.rejected == {"another meaning": 2, "other numbers": 1}
    assert len(server.received) == 7


def test_too_many_failures_stop_the_run(tmp_path: Path) -> None:
    with pytest.raises(WriterError) as caught:
        run(
            tmp_path,
            lambda prompt, _: Reply(b"?") if addend(prompt) > 50 else answer_correctly(prompt),
            1000,
            concurrency=2,
        )
    message = str(caught.value)
    assert "data.teacher.failure_limit = 0.1" in message
    assert re.search(r"\n  \d+ × response is not", message)
    assert str(tmp_path / "writer.jsonl") in message
    assert len((tmp_path / "writer.jsonl").read_text(encoding="utf-8").splitlines()) == 50


def test_the_failure_share_of_few_requests_is_checked_at_the_end(tmp_path: Path) -> None:
    with pytest.raises(WriterError, match="1 of 4 requests failed"):
        run(tmp_path, lambda prompt, _: Reply(b"?") if addend(prompt) == 2 else answer_correctly(prompt), 4)


def test_an_unreachable_server_is_an_error(tmp_path: Path) -> None:
    with serve(answer_correctly) as (url, _):
        pass
    with pytest.raises(WriterError) as caught:
        generate_texts(build_tasks(3), settings(url), tmp_path / "writer.jsonl")
    assert f"{url}: not reachable" in str(caught.value)
    assert "2 attempts" in str(caught.value)
    assert "data.teacher.url" in str(caught.value)


@pytest.mark.parametrize(
    ("status", "advice"), [(401, "TEACHER_KEY"), (403, "TEACHER_KEY"), (404, r"data\.teacher\.url")]
)
def test_an_authorization_error_is_final_and_hides_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, advice: str
) -> None:
    monkeypatch.setenv("TEACHER_KEY", "sk-secret")
    rejection = Reply(b'{"error": {"message": "Incorrect API key provided: sk-secret"}}', status)
    with serve(lambda *_: rejection) as (url, server), pytest.raises(WriterError, match=advice) as caught:
        generate_texts(
            build_tasks(9), settings(url, key_variable="TEACHER_KEY", concurrency=1), tmp_path / "writer.jsonl"
        )
    assert len(server.received) == 1
    assert "Incorrect API key provided: …" in str(caught.value)
    assert "sk-secret" not in str(caught.value)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_an_error_and_nothing_is_sent_on(tmp_path: Path, status: int) -> None:
    """F15: rows and key went to any address that the server named."""
    with serve(answer_correctly) as (elsewhere, other):
        redirect = Reply(status=status, headers={"Location": f"{elsewhere}/chat/completions"})
        with serve(lambda *_: redirect) as (url, server), pytest.raises(WriterError) as caught:
            generate_texts(build_tasks(3), settings(url, concurrency=1), tmp_path / "writer.jsonl")
    assert elsewhere in str(caught.value) and "data.teacher.url" in str(caught.value)
    assert (len(server.received), len(other.received)) == (1, 0)


def test_the_key_is_read_from_the_environment_and_not_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TEACHER_KEY", "sk-secret\n")
    with caplog.at_level("DEBUG"):
        written, server = run(tmp_path, answer_correctly, key_variable="TEACHER_KEY")
    assert server.received[0].headers["Authorization"] == "Bearer sk-secret"
    stored = (tmp_path / "writer.jsonl").read_text(encoding="utf-8")
    assert "sk-secret" not in stored + caplog.text + repr(written)


def test_an_invalid_key_is_not_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_KEY", "sk-gehéim")
    with pytest.raises(RecipeError, match="TEACHER_KEY contains") as caught:
        run(tmp_path, answer_correctly, key_variable="TEACHER_KEY")
    assert "geh" not in str(caught.value)


def test_a_missing_package_is_reported_with_the_install_command(tmp_path: Path) -> None:
    """Runs in a separate process in which the package cannot be imported."""
    program = (
        "import sys; sys.modules['openai'] = None\n"
        "from pathlib import Path; from keeptune.data.teacher.text_generation import generate_texts\n"
        "from keeptune.errors import RecipeError\n"
        "from keeptune.config.teacher import TeacherSection\n"
        "settings = TeacherSection(url='http://localhost/v1', model='m', task='reasoning')\n"
        "try: generate_texts([], settings, Path(sys.argv[1]))\n"
        "except RecipeError as error: print(error)\n"
    )
    call = [sys.executable, "-c", program, str(tmp_path / "writer.jsonl")]
    output = subprocess.run(call, capture_output=True, text=True, check=True).stdout
    assert "(openai)" in output
    assert "pip install 'keeptune[writer]'" in output


def test_answers_are_stored_as_readable_text(tmp_path: Path) -> None:
    run(tmp_path, lambda *_: completion("和：10 + 1 = 11\n#### 11"))
    (line,) = (tmp_path / "writer.jsonl").read_text(encoding="utf-8").splitlines()
    assert "和" in line
    assert json.loads(line)["answer"]["text"] == "和：10 + 1 = 11\n#### 11"
