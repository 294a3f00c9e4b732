"""The server as a client has it: the real `openai` client, raw sockets for rude ones, and a real tiny model."""

import asyncio
import json
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import tiny
import torch
from end_to_end.command import ended, process, refused
from serving.expected import PROBLEM, SCALES, WORDS, Expected, questions

pytest.importorskip("fastapi", reason="pip install 'keeptune[serve]'")
pytest.importorskip("prometheus_client", reason="pip install 'keeptune[serve]'")
pytest.importorskip("uvicorn", reason="pip install 'keeptune[serve]'")
pytest.importorskip("openai", reason="pip install 'keeptune[writer]'")

import openai
import uvicorn
from openai.types.chat import ChatCompletionMessageParam
from prometheus_client.parser import text_string_to_metric_families

from keeptune.models import adapters
from keeptune.serving import app as app_module
from keeptune.serving.app import AppSettings, create_app
from keeptune.serving.engine import Engine
from keeptune.serving.metrics import Metrics
from keeptune.serving.served_run import open_run

CONTEXT = 600
LONG = 300
PATIENCE_SECONDS = 60


@dataclass
class Running:
    """A running server."""

    port: int
    engine: Engine

    def client(self, key: str = "none") -> openai.OpenAI:
        return openai.OpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", api_key=key, max_retries=0)

    def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
        """The status and the body of a response, over a plain socket."""
        fields = {"Host": "127.0.0.1", "Connection": "close", "Content-Length": str(len(body)), **headers}
        with self.connect() as connection:
            head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
            connection.sendall(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
            head_bytes, _, content = read_all(connection).partition(b"\r\n\r\n")
        return int(head_bytes.split()[1]), content

    def post(self, path: str, tree: Any, **headers: str) -> tuple[int, Any]:
        status, content = self.request(
            "POST", path, json.dumps(tree).encode(), Content_Type="application/json", **headers
        )
        return status, json.loads(content)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_SECONDS)

    def start_stream(self, tree: Any, receive_bytes: int = 0) -> socket.socket:
        """A connection on which the first bytes of a streamed answer have arrived."""
        connection = socket.socket()
        connection.settimeout(PATIENCE_SECONDS)
        if receive_bytes:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        connection.connect(("127.0.0.1", self.port))
        body = json.dumps(tree).encode()
        head = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        connection.sendall(f"POST /v1/chat/completions HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode() + body)
        return connection

    def wait_until_idle(self) -> None:
        wait_until(lambda: self.engine.running == self.engine.waiting == 0)


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65_536), b""))


def wait_until(happened: Callable[[], bool]) -> None:
    last = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < last, "it never happened"
        time.sleep(0.005)


@contextmanager
def serving(
    folder: Path, slots: int = 4, queue: int = 100, timeout: float = PATIENCE_SECONDS, **settings: Any
) -> Iterator[Running]:
    """A server with a tiny model in a thread."""
    run = open_run(str(folder), [0.5], CONTEXT, slots)
    engine = Engine(run.decoder, run.scales, queue, timeout, Metrics())
    config = uvicorn.Config(
        create_app(run, engine, AppSettings(**settings)), log_level="critical", ws="none", timeout_graceful_shutdown=5
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        wait_until(lambda: server.started)
        try:
            yield Running(listener.getsockname()[1], engine)
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def server(tuned_folder: Callable[[str], Path]) -> Iterator[Running]:
    with serving(tuned_folder("lora")) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[openai.OpenAI]:
    with server.client() as client:
        yield client


@pytest.fixture(scope="module")
def endless_server(endless_folder: Path) -> Iterator[Running]:
    with serving(endless_folder) as running:
        yield running


def user(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize("model", SCALES)
def test_greedy_answers_equal_those_of_the_generator(model: str, client: openai.OpenAI, expected: Expected) -> None:
    for problem in questions(3):
        answer = expected.answer(problem, 24, model)
        completion = client.chat.completions.create(model=model, messages=user(problem), max_tokens=24)
        [choice] = completion.choices
        assert choice.message.content == answer.text
        assert choice.finish_reason == ("stop" if answer.stopped else "length")
        assert completion.usage is not None
        prompt_tokens = len(tiny.PROMPT.encode(WORDS, problem))
        assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (prompt_tokens, answer.tokens)
        assert completion.usage.total_tokens == prompt_tokens + answer.tokens
        text = client.completions.create(model=model, prompt=tiny.PROMPT.render(problem), max_tokens=24)
        assert (text.choices[0].text, text.choices[0].finish_reason) == (answer.text, choice.finish_reason)
        assert text.usage == completion.usage


def test_concurrent_streams_of_all_models(server: Running, expected: Expected) -> None:
    requests = [(problem, list(SCALES)[place % 3], 5 + place) for place, problem in enumerate(questions(18))]

    async def stream(client: openai.AsyncOpenAI, problem: str, model: str, tokens: int) -> tuple[str, str | None, int]:
        text, reason, used = "", None, 0
        async with await client.chat.completions.create(
            model=model, messages=user(problem), max_tokens=tokens, stream=True, stream_options={"include_usage": True}
        ) as chunks:
            async for chunk in chunks:
                if chunk.usage:
                    used = chunk.usage.completion_tokens
                for choice in chunk.choices:
                    text += choice.delta.content or ""
                    reason = choice.finish_reason or reason
        return text, reason, used

    async def all_streams() -> list[tuple[str, str | None, int]]:
        address = f"http://127.0.0.1:{server.port}/v1"
        async with openai.AsyncOpenAI(base_url=address, api_key="none", max_retries=0) as client:
            return await asyncio.gather(*(stream(client, *request) for request in requests))

    answers = [expected.answer(problem, tokens, model) for problem, model, tokens in requests]
    assert asyncio.run(all_streams()) == [
        (answer.text, "stop" if answer.stopped else "length", answer.tokens) for answer in answers
    ]


def test_a_streamed_completion(client: openai.OpenAI, expected: Expected) -> None:
    chunks = list(
        client.completions.create(model="base", prompt=tiny.PROMPT.render(PROBLEM), max_tokens=24, stream=True)
    )
    assert "".join(chunk.choices[0].text for chunk in chunks) == expected.answer(PROBLEM, 24, "base").text
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].choices[0].finish_reason in ("stop", "length")


def test_seed_temperature_and_top_p(client: openai.OpenAI, expected: Expected) -> None:

    def sampled(**settings: Any) -> str | None:
        completion = client.chat.completions.create(model="tuned", messages=user(PROBLEM), max_tokens=24, **settings)
        return completion.choices[0].message.content

    assert sampled(temperature=1, seed=1) == sampled(temperature=1, seed=1)
    assert len({sampled(temperature=1, seed=seed) for seed in range(4)}) == 4
    assert len({sampled(temperature=1) for _ in range(4)}) == 4
    assert sampled(temperature=1, top_p=1e-6) == expected.answer(PROBLEM, 24, "tuned").text


def test_a_stop_text_ends_the_answer(endless_server: Running, endless: Expected) -> None:
    text = endless.answer(PROBLEM, 24, "tuned").text
    stop = text[5:8]
    with endless_server.client() as client:
        completion = client.chat.completions.create(
            model="tuned", messages=user(PROBLEM), max_tokens=24, stop=[stop, "\0\0"]
        )
    [choice] = completion.choices
    assert (choice.message.content, choice.finish_reason) == (text[: text.index(stop)], "stop")


def test_log_probabilities_are_those_of_the_model(client: openai.OpenAI, expected: Expected) -> None:
    prompt = tiny.PROMPT.encode(WORDS, PROBLEM)
    completion = client.chat.completions.create(
        model="tuned", messages=user(PROBLEM), max_tokens=12, logprobs=True, top_logprobs=3
    )
    logprobs = completion.choices[0].logprobs
    assert logprobs is not None and logprobs.content is not None
    text = bytes(byte for entry in logprobs.content for byte in entry.bytes or []).decode(errors="replace")
    assert text.replace(tiny.BEGIN, "") == completion.choices[0].message.content  # without special tokens
    # The most likely token is the answer, so the tokens follow from the model alone.
    tokens = list(prompt)
    for entry in logprobs.content:
        with adapters.scaled(expected.generator.model, 1.0), torch.no_grad():
            values, ids = expected.generator.model(torch.tensor([tokens])).logits[0, -1].log_softmax(-1).topk(3)
        assert [top.token for top in entry.top_logprobs] == [WORDS.decode([token]) for token in ids.tolist()]
        assert [top.logprob for top in entry.top_logprobs] == pytest.approx(values.tolist(), abs=1e-4)
        assert entry.logprob == pytest.approx(float(values[0]), abs=1e-4)
        tokens.append(int(ids[0]))
    completed = client.completions.create(model="tuned", prompt=tiny.PROMPT.render(PROBLEM), max_tokens=12, logprobs=3)
    plain = completed.choices[0].logprobs
    assert plain is not None and plain.tokens is not None
    assert plain.tokens == [entry.token for entry in logprobs.content]
    assert plain.token_logprobs == pytest.approx([entry.logprob for entry in logprobs.content])
    assert plain.text_offset == [len("".join(plain.tokens[:place])) for place in range(len(plain.tokens))]


def test_streamed_log_probabilities_are_complete(client: openai.OpenAI) -> None:
    settings: Any = {"model": "tuned", "messages": user(questions(2)[1]), "max_tokens": 12, "logprobs": True}
    whole = client.chat.completions.create(**settings).choices[0].logprobs
    streamed = [
        entry
        for chunk in client.chat.completions.create(**settings, stream=True)
        if chunk.choices[0].logprobs
        for entry in chunk.choices[0].logprobs.content or []
    ]
    assert whole is not None
    assert [entry.model_dump() for entry in streamed] == [entry.model_dump() for entry in whole.content or []]


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == list(SCALES)
    assert client.models.retrieve("tuned@0.5").owned_by == "keeptune"
    for call in (
        lambda: client.models.retrieve("tunde"),
        lambda: client.completions.create(model="tunde", prompt="x"),
    ):
        with pytest.raises(openai.NotFoundError, match="did you mean tuned") as caught:
            call()
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_the_stored_prompt_is_enforced(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="tuned", prompt="1 + 1")
    assert caught.value.code == "prompt_mismatch"
    assert client.completions.create(model="base", prompt="1 + 1").usage is not None
    turns: list[ChatCompletionMessageParam] = [{"role": "system", "content": "Be brief."}, *user("1 + 1")]
    for model in ("base", "tuned"):
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model=model, messages=turns)
        assert caught.value.code == "prompt_mismatch"


def test_prompt_and_answer_must_fit_the_context(client: openai.OpenAI) -> None:
    for settings in ({"prompt": "1 " * CONTEXT}, {"prompt": "1 + 1", "max_tokens": CONTEXT}):
        with pytest.raises(openai.BadRequestError) as caught:
            client.completions.create(model="base", **settings)
        assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize(
    ("body", "headers", "status", "param"),
    [
        (b"{", {}, 400, None),
        (b"[1]", {}, 400, None),
        (b"", {}, 400, None),
        (b'{"model": "tuned", "messages": []}', {}, 400, "messages"),
        (b'{"model": "tuned", "messages": [{"role": "user", "content": "x"}], "n": 3}', {}, 400, "n"),
        (b'{"model": "tuned"}', {}, 400, "messages"),
        (b'{"model": "tuned"}', {"Content-Type": "text/plain"}, 400, None),
        (b'{"model": "' + b"x" * 2**20 + b'"}', {}, 413, None),
    ],
)
def test_bad_requests_get_openai_errors(
    body: bytes, headers: dict[str, str], status: int, param: str | None, server: Running
) -> None:
    fields = {"Content-Type": "application/json", **headers}
    found, content = server.request("POST", "/v1/chat/completions", body, **fields)
    error = json.loads(content)["error"]
    assert (found, error["param"], error["type"]) == (status, param, "invalid_request_error")
    assert error["message"]


def test_unknown_addresses_get_openai_errors(server: Running) -> None:
    for method, path, status in (("GET", "/v1/embeddings", 404), ("GET", "/v1/completions", 405)):
        found, content = server.request(method, path)
        assert found == status
        assert json.loads(content)["error"]["message"]


@pytest.mark.parametrize("is_streamed", [True, False])
def test_a_dropped_client_cancels_its_answer(is_streamed: bool, endless_server: Running) -> None:
    server = endless_server
    cancelled = server.engine.metrics.requests.labels("tuned", "cancelled")._value
    before = cancelled.get()
    body = {"model": "tuned", "messages": user(PROBLEM), "max_tokens": LONG, "stream": is_streamed}
    with server.start_stream(body) as connection:
        if is_streamed:
            assert connection.recv(9) == b"HTTP/1.1 "
        else:
            wait_until(lambda: server.engine.running == 1)
    server.wait_until_idle()
    assert cancelled.get() == before + 1


def test_a_slow_client_delays_nobody_and_gets_all(endless_server: Running, endless: Expected) -> None:
    server = endless_server
    body = {"model": "tuned", "messages": user(PROBLEM), "max_tokens": LONG, "stream": True}
    with server.start_stream(body, receive_bytes=16_384) as connection, server.client() as client:
        first = connection.recv(100)
        quick = client.chat.completions.create(model="base", messages=user(PROBLEM), max_tokens=3)
        assert quick.choices[0].message.content == endless.answer(PROBLEM, 3, "base").text
        server.wait_until_idle()  # the answer is complete, and most of it unread
        rest = first + read_all(connection)
    assert b"data: [DONE]" in rest
    events = [json.loads(line[6:]) for line in rest.split(b"\n") if line.startswith(b"data: {")]
    text = "".join(event["choices"][0]["delta"].get("content", "") for event in events)
    assert text == endless.answer(PROBLEM, LONG, "tuned").text


def test_a_client_that_never_reads_is_cut_off(endless_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_module, "SLOW_READER_SECONDS", 0.1)
    run = open_run(str(endless_folder), [], CONTEXT, 1)
    engine = Engine(run.decoder, run.scales, 5, 0.2, Metrics())
    app = create_app(run, engine, AppSettings())
    body = {"model": "tuned", "messages": user(PROBLEM), "max_tokens": LONG, "stream": True}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/v1/chat/completions",
        "raw_path": b"/v1/chat/completions",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }
    messages = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]

    async def receive() -> Any:
        return messages.pop() if messages else await asyncio.Event().wait()

    async def never_sends(message: Any) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    engine.start()
    try:
        asyncio.run(asyncio.wait_for(app(scope, receive, never_sends), PATIENCE_SECONDS))
        wait_until(lambda: engine.running == 0)
    finally:
        engine.stop()


def test_a_deadline_is_an_error_also_within_a_stream(endless_folder: Path) -> None:
    settings: Any = {"model": "tuned", "messages": user(PROBLEM), "max_tokens": LONG}
    with serving(endless_folder, timeout=0.1) as server, server.client() as client:
        with pytest.raises(openai.APIStatusError) as caught:
            client.chat.completions.create(**settings)
        assert (caught.value.status_code, caught.value.code) == (504, "timeout")
        with pytest.raises(openai.APIError, match="longer than"):
            list(client.chat.completions.create(**settings, stream=True))


def test_a_full_queue_is_a_rate_limit(endless_folder: Path) -> None:
    body = {"model": "tuned", "messages": user(PROBLEM), "max_tokens": LONG, "stream": True}
    with serving(endless_folder, slots=1, queue=1) as server, server.client() as client:
        first = server.start_stream(body)
        wait_until(lambda: server.engine.running == 1)
        with first, server.start_stream(body):
            wait_until(lambda: server.engine.waiting == 1)
            with pytest.raises(openai.RateLimitError):
                client.chat.completions.create(model="base", messages=user(PROBLEM), max_tokens=3)


def test_key_host_and_body(tuned_folder: Callable[[str], Path]) -> None:
    folder = tuned_folder("lora")
    with serving(folder, api_key="secret", body_seconds=0.2) as server:
        for key in ("wrong", "secre"):
            with server.client(key) as client, pytest.raises(openai.AuthenticationError):
                client.models.list()
        assert server.request("GET", "/metrics")[0] == 401
        assert server.request("GET", "/health")[0] == 200
        with server.client("secret") as client:
            assert len(list(client.models.list())) == 3
        fields = {"Authorization": "Bearer secret", "Content-Type": "application/json", "Content-Length": "100"}
        status, content = server.request("POST", "/v1/completions", b"{", **fields)
        assert (status, json.loads(content)["error"]["code"]) == (408, "timeout")
    with serving(folder, hosts=("127.0.0.1", "localhost", "::1")) as server:
        for host, status in (("127.0.0.1:80", 200), ("localhost", 200), ("[::1]:8000", 200), ("evil.example:80", 403)):
            assert server.request("GET", "/v1/models", Host=host)[0] == status


def test_health_and_metrics(server: Running, client: openai.OpenAI) -> None:
    def metrics() -> dict[str, float]:
        status, content = server.request("GET", "/metrics")
        assert status == 200
        families = text_string_to_metric_families(content.decode())
        return {
            f"{sample.name} {sample.labels.get('model', '')} {sample.labels.get('outcome', '')}".strip(): sample.value
            for family in families
            for sample in family.samples
        }

    server.wait_until_idle()
    before = metrics()
    completion = client.chat.completions.create(model="base", messages=user(PROBLEM), max_tokens=7)
    after, used = metrics(), completion.usage
    assert used is not None
    outcome = completion.choices[0].finish_reason
    for name, difference in {
        f"keeptune_requests_total base {outcome}": 1,
        "keeptune_prompt_tokens_total base": used.prompt_tokens,
        "keeptune_generated_tokens_total base": used.completion_tokens,
        "keeptune_request_seconds_count": 1,
        "keeptune_first_token_seconds_count": 1,
    }.items():
        assert after[name] - before.get(name, 0) == difference, name
    assert (after["keeptune_slots"], after["keeptune_running"], after["keeptune_waiting"]) == (4, 0, 0)
    assert after.get("process_resident_memory_bytes", 1) > 0
    status, content = server.request("GET", "/health")
    assert (status, json.loads(content)["status"]) == (200, "ok")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, tuned_folder: Callable[[str], Path]) -> None:
    for name in [name for name in sys.modules if name.startswith("keeptune.serving")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert "keeptune[serve]" in refused(2, "serve", tuned_folder("lora"))


def test_wrong_arguments_are_errors(tuned_folder: Callable[[str], Path], model_folder: Path) -> None:
    folder = tuned_folder("lora")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "cannot listen" in refused(2, "serve", folder, "--port", taken.getsockname()[1])
    assert "no adapter" in refused(2, "serve", model_folder, "--port", 0)
    assert "--scale" in refused(2, "serve", folder, "--port", 0, "--scale", 1)
    assert "--context" in refused(2, "serve", folder, "--port", 0, "--context", 4096)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_command_after_the_running_answers(
    number: signal.Signals, endless_folder: Path, endless: Expected
) -> None:
    with process("serve", endless_folder, "--port", 0, "--scale", 0.5) as running:
        assert running.stderr is not None
        line = next(line for line in running.stderr if "serving on" in line)
        address = line.partition("serving on ")[2].split()[0]
        if sys.platform == "linux":  # where 127.0.0.2 is this machine, too, and a server on all addresses would answer
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.2", urlsplit(address).port or 0))
        with openai.OpenAI(base_url=address, api_key="none", max_retries=20) as client:
            assert [model.id for model in client.models.list()] == list(SCALES)
            chunks = client.chat.completions.create(model="tuned", messages=user(PROBLEM), max_tokens=LONG, stream=True)
            text = next(chunks).choices[0].delta.content or ""
            running.send_signal(number)
            text += "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        outcome = ended(running)
    assert text == endless.answer(PROBLEM, LONG, "tuned").text
    assert (outcome.code, outcome.out) == (0, "")
    assert "Traceback" not in outcome.err
