"""Against a real server on the loopback that fails, stalls, raves and lies: only proven texts come through."""

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
from data.teacher.server import Behaviour, Reply, Server, said, serve

from keeptune.config.teacher import TeacherSection
from keeptune.data.teacher.write import Wanted, Written, write
from keeptune.errors import RecipeError, WriterError
from keeptune.progress import SilentReporter
from keeptune.skills.base import Question

# Without it the client waits half a second before it tries again.
AT_ONCE = {"retry-after-ms": "1"}

_ADDEND = re.compile(r"Add 10 and (\d+)")


def problem(number: int) -> str:
    return f"Add 10 and {number}, please."


def wanted(count: int = 1) -> list[Wanted]:
    """Problems 10 + 1, 10 + 2, …"""
    return [
        Wanted(Question("add", problem(number), Fraction(10 + number)), str(10 + number), "plainly", lambda _: None)
        for number in range(1, count + 1)
    ]


def solution(number: int) -> str:
    return f"10 + {number} = {10 + number}\n#### {10 + number}"


def addend(prompt: str) -> int:
    match = _ADDEND.search(prompt)
    assert match is not None
    return int(match[1])


def well(prompt: str, _: int = 0) -> Reply:
    return said(solution(addend(prompt)))


def first(*replies: Reply) -> Behaviour:
    """These replies to a prompt, one after the other, and then good ones."""
    return lambda prompt, before: replies[before] if before < len(replies) else well(prompt)


def settings(url: str, **changes: Any) -> TeacherSection:
    values = {"url": url, "model": "teacher", "task": "reasoning", "attempts": 2, "timeout_seconds": 10, **changes}
    return TeacherSection.model_validate(values)


def run(folder: Path, behaviour: Behaviour, count: int = 1, **changes: Any) -> tuple[Written, Server]:
    with serve(behaviour) as (url, server):
        return write(wanted(count), settings(url, **changes), folder / "writer.jsonl"), server


def test_proven_solutions_come_back_with_a_summary(tmp_path: Path) -> None:
    written, server = run(
        tmp_path, well, 5, prices={"prompt_per_million": 1000, "completion_per_million": 4000}, concurrency=3
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


def test_each_problem_is_counted_once_however_often_it_was_asked_for(tmp_path: Path) -> None:
    told: list[tuple[str, int]] = []

    class Watcher(SilentReporter):
        def counter(self, what: str, total: int) -> Callable[[int], None]:
            return lambda amount: told.append((f"{what} {total}", amount))

    lying = said("10 + 1 = 12\n#### 11")
    with serve(first(lying)) as (url, server):
        write(wanted(3), settings(url, samples=2), tmp_path / "writer.jsonl", Watcher())
    assert len(server.received) == 6
    assert told == [("texts of teacher 3", 1)] * 3


def test_failures_are_judged_by_all_that_was_asked_for_also_before(tmp_path: Path) -> None:
    """Forty problems, of which three always fail: more than a tenth of what is left to ask after an interruption."""

    def mostly(prompt: str, _: int) -> Reply:
        return Reply(status=400) if addend(prompt) in (10, 20, 30) else well(prompt)

    first_time, _ = run(tmp_path, mostly, 40, failure_limit=0.1, concurrency=1)
    again, server = run(tmp_path, mostly, 40, failure_limit=0.1, concurrency=1)
    assert len(again.texts) == len(first_time.texts) == 37
    assert {addend(received.body["messages"][-1]["content"]) for received in server.received} == {10, 20, 30}


def test_a_second_run_asks_nothing_and_says_the_same(tmp_path: Path) -> None:
    lying = said("10 + 1 = 12\n#### 11")
    first_time, _ = run(tmp_path, first(lying), 3)
    second_time, server = run(tmp_path, lambda *_: Reply(status=500), 3)
    assert server.received == []
    assert second_time.texts == first_time.texts
    assert (second_time.summary.asked, second_time.summary.from_cache) == (0, first_time.summary.asked)
    for same in ("rejected", "accepted", "prompt_tokens", "completion_tokens"):
        assert getattr(second_time.summary, same) == getattr(first_time.summary, same)


def test_a_run_that_died_half_way_asks_only_for_the_rest(tmp_path: Path) -> None:
    with pytest.raises(WriterError):
        run(tmp_path, lambda prompt, _: well(prompt) if addend(prompt) <= 4 else Reply(status=401), 9, concurrency=1)
    cache = tmp_path / "writer.jsonl"
    assert len(cache.read_text(encoding="utf-8").splitlines()) == 4
    with cache.open("ab") as file:
        file.write(b'{"key": "torn')
    written, server = run(tmp_path, well, 9)
    assert sorted(addend(received.prompt) for received in server.received) == [5, 6, 7, 8, 9]
    assert written.summary.accepted == 9


def test_a_killed_process_goes_on(tmp_path: Path) -> None:
    """SIGKILL while an answer is awaited: what was answered before it is on the disk."""
    reached = threading.Event()
    server_ended = threading.Event()

    def stalls_at_six(prompt: str, _: int) -> Reply:
        if addend(prompt) == 6 and not reached.is_set():
            reached.set()
            server_ended.wait(20)
            return Reply(hang_up=True)
        return well(prompt)

    program = (
        "import sys; from fractions import Fraction; from pathlib import Path\n"
        "from keeptune.data.teacher.write import Wanted, write; from keeptune.config.teacher import TeacherSection\n"
        "from keeptune.skills.base import Question\n"
        "rows = [Wanted(Question('add', f'Add 10 and {n}, please.', Fraction(10 + n)), str(10 + n), 'plainly',\n"
        "        lambda _: None) for n in range(1, 10)]\n"
        "write(rows, TeacherSection(url=sys.argv[1], model='teacher', task='reasoning', concurrency=1), "
        "Path(sys.argv[2]))\n"
    )
    with serve(stalls_at_six) as (url, server):
        process = subprocess.Popen([sys.executable, "-c", program, url, str(tmp_path / "writer.jsonl")])
        assert reached.wait(20)
        process.kill()
        process.wait()
        server_ended.set()
        written = write(wanted(9), settings(url), tmp_path / "writer.jsonl")
    assert written.summary.accepted == 9
    assert (written.summary.from_cache, written.summary.asked) == (5, 4)
    assert len(server.received) == 10


def test_it_tries_again_after_failures(tmp_path: Path) -> None:
    failures = (
        Reply(status=500, headers=AT_ONCE),
        Reply(status=429, headers=AT_ONCE),
        Reply(status=503, headers=AT_ONCE),
    )
    written, server = run(tmp_path, first(*failures), attempts=4)
    assert (written.summary.accepted, written.summary.failed, written.summary.asked) == (1, {}, 1)
    assert len(server.received) == 4


def test_it_waits_as_long_as_the_server_says(tmp_path: Path) -> None:
    _, server = run(tmp_path, first(Reply(status=429, headers={"Retry-After": "1"})))
    before, after = (received.seconds for received in server.received)
    assert after - before >= 1


def test_a_connection_that_breaks_is_tried_again(tmp_path: Path) -> None:
    written, server = run(tmp_path, first(Reply(hang_up=True)))
    assert written.summary.accepted == 1
    assert len(server.received) == 2


def test_no_more_requests_a_minute_than_allowed(tmp_path: Path) -> None:
    # One every 50 ms, those that are tried again among them.
    _, server = run(tmp_path, first(Reply(status=500, headers=AT_ONCE)), 3, requests_per_minute=1200)
    times = [received.seconds for received in server.received]
    assert len(times) == 6
    assert times[-1] - times[0] >= 0.2


def test_no_more_requests_at_once_than_allowed(tmp_path: Path) -> None:
    meeting = threading.Barrier(3)

    def together(prompt: str, _: int) -> Reply:
        meeting.wait(10)
        return well(prompt)

    _, server = run(tmp_path, together, 9, concurrency=3)
    assert server.most_at_once == 3


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(b"<html>Please log in</html>", headers={"Content-Type": "text/html"}), "no chat completion"),
        (Reply(b'{"choices": [{"mess'), "no chat completion"),
        (Reply(b""), "no chat completion"),
        (Reply(b"[]"), "no chat completion"),
        (Reply(b"\xff\xfe"), "no chat completion"),
        (said("", choices=[]), "no chat completion"),
        (said({"text": "#### 11"}), "no chat completion"),
        (Reply(b'{"error": "bad"}', status=400), "HTTP 400"),
        (Reply(status=500, headers=AT_ONCE), "HTTP 500"),
        (Reply(status=429, headers={"Retry-After": "100000"}), "HTTP 429"),
    ],
)
def test_a_request_that_fails_costs_its_row_the_text(tmp_path: Path, reply: Reply, reason: str) -> None:
    written, _ = run(tmp_path, lambda prompt, _: reply if addend(prompt) == 2 else well(prompt), 4, failure_limit=0.5)
    assert list(written.texts) == [problem(1), problem(3), problem(4)]
    ((told, count),) = written.summary.failed.items()
    assert reason in told
    assert count == 1
    again, server = run(tmp_path, well, 4)
    assert [addend(received.prompt) for received in server.received] == [2]
    assert again.summary.accepted == 4


def test_a_server_that_stalls_is_not_waited_for(tmp_path: Path) -> None:
    """A byte now and then does not put the deadline off."""
    slow = Reply(drip_seconds=20)
    written, server = run(
        tmp_path,
        lambda prompt, _: slow if addend(prompt) == 2 else well(prompt),
        2,
        timeout_seconds=0.3,
        failure_limit=0.5,
    )
    assert written.summary.failed == {"no answer within 0.3 seconds": 1}
    assert sum(addend(received.prompt) == 2 for received in server.received) == 2


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (said("10 + 1 = 12\n12 - 1 = 11\n#### 11"), "wrong step"),
        (said("10 + 1 = 11\n#### 12"), "wrong answer"),
        (said("10 + 1 = 11"), "no final answer on the last line"),
        (said("10 + 1 = 11\n#### 1", "length"), "cut off at max_tokens"),
        (said("", "content_filter"), "held back by the server"),
        (said(None), "empty"),
        (said("  \n"), "empty"),
    ],
)
def test_a_server_that_lies_is_refused_and_asked_again(tmp_path: Path, reply: Reply, reason: str) -> None:
    written, server = run(tmp_path, first(reply), samples=2)
    assert written.texts == {problem(1): solution(1)}
    assert written.summary.rejected == {reason: 1}
    assert len(server.received) == 2
    never, server = run(tmp_path / "other", lambda *_: reply, samples=3)
    assert (never.texts, never.summary.rejected) == ({}, {reason: 3})
    assert len(server.received) == 3


def test_a_final_line_is_written_as_the_recipe_has_it(tmp_path: Path) -> None:
    written, _ = run(tmp_path, lambda *_: said("10 + 1 = 11\n#### 11.0 apples"))
    assert written.texts == {problem(1): "10 + 1 = 11\n#### 11"}


def test_what_cannot_be_trained_on_is_refused(tmp_path: Path) -> None:
    (one,) = wanted()
    row = Wanted(one.question, one.answer, one.form, lambda text: "too long" if len(text) > 10 else None)
    with serve(well) as (url, _):
        written = write([row], settings(url), tmp_path / "writer.jsonl")
    assert written.summary.rejected == {"too long": 2}


def test_paraphrases_are_proven_by_what_they_lead_to(tmp_path: Path) -> None:
    """Row 1 is said well, 2 becomes a subtraction, 3 gets another number, and for 4 the calculation is nonsense."""
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
            return said(f'"{words[int(match[1])]}"')
        return said(next(formula for text, formula in formulas.items() if text in prompt))

    written, server = run(tmp_path, rephrase, 4, task="paraphrase", samples=1)
    assert written.texts == {problem(1): words[1]}
    assert written.summary.rejected == {"another meaning": 2, "other numbers": 1}
    assert len(server.received) == 7


def test_too_many_failures_stop_the_run(tmp_path: Path) -> None:
    with pytest.raises(WriterError) as caught:
        run(tmp_path, lambda prompt, _: Reply(b"?") if addend(prompt) > 50 else well(prompt), 1000, concurrency=2)
    message = str(caught.value)
    assert re.search(
        r"requests failed, more than data\.teacher\.failure_limit = 0\.1 allows:\n  \d+ × a response", message
    )
    assert f"{tmp_path / 'writer.jsonl'} keeps what was answered" in message
    assert len((tmp_path / "writer.jsonl").read_text(encoding="utf-8").splitlines()) == 50


def test_few_requests_are_judged_when_all_are_done(tmp_path: Path) -> None:
    with pytest.raises(WriterError, match="1 of 4 requests failed"):
        run(tmp_path, lambda prompt, _: Reply(b"?") if addend(prompt) == 2 else well(prompt), 4)


def test_no_server_is_one_clear_error(tmp_path: Path) -> None:
    with serve(well) as (url, _):
        pass
    with pytest.raises(WriterError) as caught:
        write(wanted(3), settings(url), tmp_path / "writer.jsonl")
    assert str(caught.value).startswith(f"{url}: not reachable, after 2 attempts (")
    assert "start the server, or correct data.teacher.url" in str(caught.value)


@pytest.mark.parametrize(
    ("status", "advice"), [(401, "TEACHER_KEY"), (403, "TEACHER_KEY"), (404, r"check the path in data\.teacher\.url")]
)
def test_a_refusal_is_final_and_keeps_the_key_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, advice: str
) -> None:
    monkeypatch.setenv("TEACHER_KEY", "sk-secret")
    refusal = Reply(b'{"error": {"message": "Incorrect API key provided: sk-secret"}}', status)
    with serve(lambda *_: refusal) as (url, server), pytest.raises(WriterError, match=advice) as caught:
        write(wanted(9), settings(url, key_variable="TEACHER_KEY", concurrency=1), tmp_path / "writer.jsonl")
    assert len(server.received) == 1
    assert "Incorrect API key provided: …" in str(caught.value)
    assert "sk-secret" not in str(caught.value)


def test_the_key_comes_from_the_environment_and_goes_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TEACHER_KEY", "sk-secret\n")
    with caplog.at_level("DEBUG"):
        written, server = run(tmp_path, well, key_variable="TEACHER_KEY")
    assert server.received[0].headers["Authorization"] == "Bearer sk-secret"
    kept = (tmp_path / "writer.jsonl").read_text(encoding="utf-8")
    assert "sk-secret" not in kept + caplog.text + repr(written)


def test_a_key_that_cannot_be_one_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_KEY", "sk-gehéim")
    with pytest.raises(RecipeError, match="TEACHER_KEY holds no key") as caught:
        run(tmp_path, well, key_variable="TEACHER_KEY")
    assert "geh" not in str(caught.value)


def test_a_missing_package_is_named_with_its_remedy(tmp_path: Path) -> None:
    """In a process of its own, where the package is not to be found."""
    program = (
        "import sys; sys.modules['openai'] = None\n"
        "from pathlib import Path; from keeptune.data.teacher.write import write\n"
        "from keeptune.errors import RecipeError\n"
        "from keeptune.config.teacher import TeacherSection\n"
        "try: write([], TeacherSection(url='http://localhost/v1', model='m', task='reasoning'), Path(sys.argv[1]))\n"
        "except RecipeError as error: print(error)\n"
    )
    call = [sys.executable, "-c", program, str(tmp_path / "writer.jsonl")]
    told = subprocess.run(call, capture_output=True, text=True, check=True).stdout
    assert "a package is missing (openai): pip install 'keeptune[writer]'" in told


def test_answers_are_stored_as_text_that_one_can_read(tmp_path: Path) -> None:
    run(tmp_path, lambda *_: said("和：10 + 1 = 11\n#### 11"))
    (line,) = (tmp_path / "writer.jsonl").read_text(encoding="utf-8").splitlines()
    assert "和" in line
    assert json.loads(line)["answer"]["text"] == "和：10 + 1 = 11\n#### 11"
