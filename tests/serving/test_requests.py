"""Request bodies: what is accepted, what is ignored, and which error names which parameter."""

from typing import Any

import pytest
from pydantic import ValidationError

from keeptune.serving.api_error import ApiError
from keeptune.serving.requests import ChatRequest, CompletionRequest, describe_errors

CHAT: dict[str, Any] = {"model": "tuned", "messages": [{"role": "user", "content": "1 + 1"}]}


def chat(**changes: Any) -> ChatRequest:
    return ChatRequest.model_validate({**CHAT, **changes})


def refused(**changes: Any) -> ApiError:
    """The error that a client receives for a chat request with these changes."""
    tree = {name: value for name, value in {**CHAT, **changes}.items() if value != "absent"}
    try:
        ChatRequest.model_validate(tree)
    except ApiError as error:
        return error
    except ValidationError as error:
        found = [{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors()]
        return describe_errors(found, tuple(ChatRequest.model_fields))
    raise AssertionError("the request was accepted")


def test_the_defaults_are_those_of_the_evaluation() -> None:
    request = chat()
    assert (request.temperature, request.top_p, request.stop, request.stream) == (0, 1, [], False)
    assert request.top_logprobs_count is None
    assert not request.includes_usage


def test_null_is_the_default() -> None:
    assert chat(temperature=None, stop=None, seed=None, stream_options=None, logit_bias=None) == chat()


@pytest.mark.parametrize(
    "neutral",
    [
        {"n": 1},
        {"frequency_penalty": 0.0, "presence_penalty": 0},
        {"response_format": {"type": "text"}},
        {"tools": [], "tool_choice": "none"},
        {"user": "someone", "metadata": {"a": "b"}, "store": True},
    ],
)
def test_parameters_that_ask_for_nothing_are_accepted(neutral: dict[str, Any]) -> None:
    assert chat(**neutral) == chat()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 2),
        ("frequency_penalty", 0.5),
        ("logit_bias", {"5": 100}),
        ("tools", [{"type": "function"}]),
        ("response_format", {"type": "json_object"}),
    ],
)
def test_parameters_that_would_change_the_answer_are_refused(name: str, value: Any) -> None:
    error = refused(**{name: value})
    assert (error.status, error.code, error.param) == (400, "unsupported_parameter", name)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"seed": 2**63}, "seed"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": [""]}, "stop.0"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages"),
        ({"model": "absent"}, "model"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ],
)
def test_the_error_names_the_parameter(changes: dict[str, Any], param: str) -> None:
    error = refused(**changes)
    assert (error.status, error.param, error.kind) == (400, param, "invalid_request_error")


def test_an_unknown_parameter_gets_a_suggestion() -> None:
    error = refused(max_token=5)
    assert error.code == "unknown_parameter"
    assert "max_tokens" in error.message


def test_messages_of_every_form() -> None:
    parts = [{"type": "text", "text": "1 +"}, {"type": "text", "text": " 1"}]
    answered = {"role": "assistant", "content": "2", "refusal": None, "tool_calls": None, "annotations": []}
    turns = [{"role": "developer", "content": "s"}, answered, {"role": "user", "content": parts}]
    messages = chat(messages=turns).messages
    assert [(turn.role, turn.content) for turn in messages] == [("system", "s"), ("assistant", "2"), ("user", "1 + 1")]


def test_prompts_of_completions() -> None:
    body = {"model": "base", "prompt": ["one"], "logprobs": 0}
    request = CompletionRequest.model_validate(body)
    assert (request.prompt, request.top_logprobs_count) == ("one", 0)
    for prompt in (["one", "two"], [1, 2]):
        with pytest.raises(ApiError, match="one text"):
            CompletionRequest.model_validate({**body, "prompt": prompt})


@pytest.mark.parametrize("body", [b"model=tuned", [], "text"])
def test_a_body_that_is_no_object_is_refused(body: Any) -> None:
    with pytest.raises(ApiError, match="JSON object"):
        ChatRequest.model_validate(body)
