"""The bodies of requests: the parameters of OpenAI's API that change an answer, with their limits.

A parameter that the server cannot honor is an error, unless its value asks for nothing. A wrong answer without a
message would be worse.
"""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from keeptune.serving.api_error import ApiError

COMPLETION_TOKENS = 16
"""The default of `max_tokens` in /v1/completions, as OpenAI documents it."""

MAX_STOPS = 4
MAX_TOP_LOGPROBS = 20

_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "reasoning_effort": (),
    "verbosity": (),
    "web_search_options": (),
    "moderation": (),
}
"""Parameters of the API that the server does not implement, and the values at which they ask for nothing."""

_IGNORED = (
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
    "user",
)
"""Parameters of the API that change no answer."""

Stop = Annotated[str, Field(min_length=1, max_length=200)]


class StreamOptions(BaseModel):
    """Options of a streamed response."""

    model_config = ConfigDict(extra="ignore", strict=True)

    include_usage: bool = False


class GenerationRequest(BaseModel, ABC):
    """What both endpoints share: the model, sampling, limits and the form of the response.

    The default temperature is 0, so that the server gives the answers that the run was evaluated on.
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    model: str
    max_tokens: int | None = Field(None, ge=1)
    temperature: float = Field(0.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: list[Stop] = Field(default=[], max_length=MAX_STOPS)
    stream: bool = False
    stream_options: StreamOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _supported(cls, tree: Any) -> Any:
        """The parameters without those that are null or ask for nothing."""
        if not isinstance(tree, dict):
            raise ApiError(400, "the body must be a JSON object, sent with Content-Type: application/json")
        return {name: value for name, value in tree.items() if _is_relevant(name, value, tuple(cls.model_fields))}

    @field_validator("stop", mode="before")
    @classmethod
    def _listed(cls, stop: Any) -> Any:
        return [stop] if isinstance(stop, str) else stop

    @property
    @abstractmethod
    def top_logprobs_count(self) -> int | None:
        """The number of alternatives per token to report; None for no log probabilities."""

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with the numbers of tokens."""
        return self.stream_options is not None and self.stream_options.include_usage


class CompletionRequest(GenerationRequest):
    """The body of /v1/completions."""

    prompt: str
    logprobs: int | None = Field(None, ge=0, le=MAX_TOP_LOGPROBS)

    @field_validator("prompt", mode="before")
    @classmethod
    def _single(cls, prompt: Any) -> Any:
        """A list of one text is that text."""
        if not isinstance(prompt, list):
            return prompt
        if len(prompt) == 1 and isinstance(prompt[0], str):
            return prompt[0]
        raise ApiError(400, "prompt must be one text; send one request per prompt", param="prompt")

    @property
    def top_logprobs_count(self) -> int | None:
        return self.logprobs


class Message(BaseModel):
    """One turn of a conversation. Keys without a value are ignored, as clients send back whole answers."""

    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["system", "user", "assistant"]
    content: str
    name: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, tree: Any) -> Any:
        if not isinstance(tree, dict):
            return tree
        turn = {name: value for name, value in tree.items() if value is not None and value != []}
        if turn.get("role") == "developer":
            turn["role"] = "system"
        if isinstance(turn.get("content"), list):
            turn["content"] = _joined_text(turn["content"])
        return turn


class ChatRequest(GenerationRequest):
    """The body of /v1/chat/completions."""

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0, le=MAX_TOP_LOGPROBS)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise ApiError(400, "top_logprobs needs logprobs: true", param="top_logprobs")
        return self

    @property
    def top_logprobs_count(self) -> int | None:
        return self.top_logprobs if self.logprobs else None


def describe_errors(errors: Sequence[Any], parameters: Sequence[str]) -> ApiError:
    """The first validation error of pydantic as an error of the API.

    Args:
        errors: the errors, with locations that begin with `body`.
        parameters: the names that the endpoint knows, for suggestions.
    """
    first = errors[0]
    path = [str(part) for part in first["loc"][1:]]
    name = ".".join(path) or None
    if first["type"] == "json_invalid":
        return ApiError(400, f"the body is not JSON: {first['ctx']['error']} at character {first['loc'][-1]}")
    if first["type"] == "missing" and name:
        return ApiError(400, f"{name} is required", code="missing_required_parameter", param=name)
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(path[-1], parameters, n=1, cutoff=0.6) if len(path) == 1 else []
        advice = f"; did you mean {near[0]}?" if near else ""
        return ApiError(400, f"{name}: unknown parameter{advice}", code="unknown_parameter", param=name)
    return ApiError(400, f"{name or 'body'}: {first['msg']}", code="invalid_value", param=name)


def _is_relevant(name: str, value: Any, known: Sequence[str]) -> bool:
    """Whether a parameter has to be validated.

    Raises:
        ApiError: the server does not implement the parameter, and its value asks for something.
    """
    if name in known:
        return value is not None
    if name in _IGNORED:
        return False
    if name not in _NEUTRAL:
        return True
    if value is not None and value not in _NEUTRAL[name]:
        raise ApiError(
            400, f"{name} is not supported by this server; leave it out", code="unsupported_parameter", param=name
        )
    return False


def _joined_text(parts: Sequence[Any]) -> str:
    """The text of a message whose content is a list of parts.

    Raises:
        ApiError: a part is no text.
    """
    texts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise ApiError(400, "messages: only parts of type text are supported", param="messages")
    return "".join(text for text in texts if text)
