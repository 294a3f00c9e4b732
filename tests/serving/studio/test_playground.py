"""The model of the playground: loaded when it is asked for, one at a time, and behind OpenAI's interface."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from serving.studio.client import Client, client_of
from serving.studio.conftest import OTHER, RUN

pytest.importorskip("prometheus_client", reason="pip install 'keeptune[serve]'")

if TYPE_CHECKING:
    from serving.expected import Expected

PATIENCE_SECONDS = 60


@pytest.fixture(scope="module")
def playground(playable: Path) -> Iterator[Client]:
    with client_of(playable) as client:
        yield client


@pytest.fixture(scope="module")
def loaded(playground: Client) -> Client:
    playground.post("/api/model", {"run": RUN})
    wait_until_loaded(playground)
    return playground


def wait_until_loaded(client: Client) -> dict[str, Any]:
    last = time.monotonic() + PATIENCE_SECONDS
    while (status := client.get("/api/model"))["state"] == "loading":
        assert time.monotonic() < last
        time.sleep(0.01)
    return dict(status)


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def streamed(client: Client, model: str, problem: str, tokens: int) -> list[dict[str, Any]]:
    body = {"model": model, "messages": user(problem), "max_tokens": tokens, "stream": True, "logprobs": True}
    path, headers = f"/v1/chat/completions?run={RUN}", client.headers
    with client.http.stream("POST", path, json=body, headers=headers) as response:
        assert response.status_code == 200
        events = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    assert events[-1] == "[DONE]"
    return [json.loads(event) for event in events[:-1]]


def test_nothing_is_loaded_before_it_is_asked_for(playable: Path) -> None:
    with client_of(playable) as client:
        client.get("/api/runs")
        client.get("/api/progress", run=RUN)
        assert client.get("/api/model")["state"] == "none"
        assert "load it first" in client.post_refused("/api/prompt", {"run": RUN, "messages": user("1 + 1")}, 409)
        body = {"model": "base", "messages": user("1 + 1")}
        assert "load it first" in client.post_refused(f"/v1/chat/completions?run={RUN}", body, 409)


def test_both_models_stream_the_answers_of_the_evaluation(loaded: Client, expected: Expected) -> None:
    from serving.expected import PROBLEM

    for model in ("base", "tuned"):
        chunks = streamed(loaded, model, PROBLEM, 30)
        text = "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"])
        assert text == expected.answer(PROBLEM, 30, model).text
        logprobs = [choice["logprobs"] for chunk in chunks for choice in chunk["choices"] if choice["logprobs"]]
        assert all(entry["logprob"] <= 0 for part in logprobs for entry in part["content"])


def test_the_prompt_is_shown_as_the_model_sees_it(loaded: Client) -> None:
    import tiny

    prompt = loaded.post("/api/prompt", {"run": RUN, "messages": user("12.5 + 3")})
    words = tiny.tokenizer()
    assert prompt["text"] == words.decode(tiny.PROMPT.encode(words, "12.5 + 3"), skip_special_tokens=False)
    assert tiny.PROMPT.render("12.5 + 3") in prompt["text"]
    assert "".join(prompt["tokens"]) == prompt["text"]


def test_errors_of_the_interface_pass_through(loaded: Client) -> None:
    message = loaded.post_refused(f"/v1/chat/completions?run={RUN}", {"model": "tunde", "messages": user("1")}, 404)
    assert "did you mean tuned?" in message
    assert "not loaded" in loaded.post_refused(f"/v1/chat/completions?run={OTHER}", {}, 409)


def test_a_run_without_adapter_cannot_be_loaded(loaded: Client) -> None:
    assert "no adapter" in loaded.post_refused("/api/model", {"run": OTHER}, 409)
    assert loaded.get("/api/model") == {"run": RUN, "state": "ready", "message": ""}


def test_a_model_that_cannot_be_loaded_says_why(playable: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(playable, tmp_path / "runs"))
    (folder / RUN / "adapter" / "keeptune.json").write_text("{}", encoding="utf-8")
    with client_of(folder) as client:
        client.post("/api/model", {"run": RUN})
        status = wait_until_loaded(client)
        assert status["state"] == "failed"
        assert "keeptune.json" in status["message"]


def test_another_run_replaces_the_model(playable: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(playable, tmp_path / "runs"))
    shutil.copytree(folder / RUN / "adapter", folder / OTHER / "adapter")
    with client_of(folder) as client:
        for run in (RUN, OTHER):
            client.post("/api/model", {"run": run})
            assert wait_until_loaded(client) == {"run": run, "state": "ready", "message": ""}
        assert "not loaded" in client.post_refused("/api/prompt", {"run": RUN, "messages": user("1")}, 409)
        assert client.post("/api/prompt", {"run": OTHER, "messages": user("1")})["tokens"]
