"""A client for an OpenAI-compatible server that sends a prompt and returns the answer.

This is the only module that imports `openai`, which is an optional dependency. The package retries temporary failures
(connections, timeouts, 429, 5xx) and respects `Retry-After`. This module adds a rate limit and a deadline for every
attempt, which a server cannot extend by sending single bytes. Redirects are errors: a server does not decide who else
gets the rows and the key.
"""

from __future__ import annotations

import asyncio
import os
import time
from types import TracebackType
from typing import Any, Protocol

import httpx2
import openai
from pydantic import BaseModel, Field, ValidationError

from keeptune.errors import RecipeError, WriterError
from keeptune.remote_models.exchange import Answer, Request, RequestError

QUOTED_CHARACTERS = 200
"""The number of characters of a server's response that an error message quotes."""

NO_KEY = "none"
"""Sent if there is no key. Servers on the local machine usually ignore it."""


class ServerSettings(Protocol):
    """The address of a server, and the limits of requests to it. Recipe sections and graders have these options."""

    @property
    def url(self) -> str:
        """The base address, such as `http://localhost:8000/v1`."""

    @property
    def key_variable(self) -> str:
        """The environment variable with the API key."""

    @property
    def timeout_seconds(self) -> float:
        """The time limit of an attempt."""

    @property
    def attempts(self) -> int:
        """The attempts per request."""

    @property
    def requests_per_minute(self) -> float | None:
        """The rate limit; None for none."""


class Client:
    """A client for a server. It must be used in an `async with` block.

    Args:
        settings: the address of the server, and the limits of requests to it.
        section: the place of the settings in a recipe, for error messages.

    Raises:
        RecipeError: the environment variable for the key contains characters that a key cannot have.
    """

    def __init__(self, settings: ServerSettings, section: str) -> None:
        self._settings, self._section = settings, section
        self._key = os.environ.get(settings.key_variable, "").strip() or NO_KEY
        if not (self._key.isascii() and self._key.isprintable()):
            raise RecipeError(
                f"the environment variable {settings.key_variable} contains characters that a key cannot have; set it "
                f"again, or name another variable in {section}.key_variable"
            )
        self._server = openai.AsyncOpenAI(
            base_url=settings.url,
            api_key=self._key,
            max_retries=settings.attempts - 1,
            timeout=settings.timeout_seconds,
            http_client=_PacedClient(settings),
        )

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._server.close()

    async def ask(self, request: Request) -> Answer:
        """Send a request and return the server's answer.

        Raises:
            RequestError: this request failed.
            WriterError: no request can succeed, because the server cannot be reached, rejects the key, or does not have
                the model.
        """
        try:
            raw = await self._server.chat.completions.with_raw_response.create(
                model=request.model,
                messages=[{"role": "user", "content": request.prompt}],
                temperature=request.temperature,
                max_tokens=request.max_tokens,
            )
        except openai.APITimeoutError:
            raise RequestError(f"no answer within {self._settings.timeout_seconds:g} seconds") from None
        except openai.APIConnectionError as error:
            raise WriterError(
                f"{self._settings.url}: not reachable after {self._settings.attempts} attempts "
                f"({error.__cause__ or error}); start the server, or correct {self._section}.url"
            ) from None
        except openai.APIStatusError as error:
            raise self._status_error(error) from None
        return _parse(raw.content, self._key)

    def _status_error(self, error: openai.APIStatusError) -> WriterError | RequestError:
        """Return the error for an HTTP status: a WriterError if no request can succeed, or else a RequestError."""
        if error.response.has_redirect_location:
            target = _quote(error.response.headers["location"], self._key)
            return WriterError(
                f"{self._settings.url}: HTTP {error.status_code}, a redirect to {target}; rows are not sent to another "
                f"address, so set {self._section}.url to the one that answers"
            )
        advice = {
            401: f"set the environment variable {self._settings.key_variable} to its key",
            403: f"the key in the environment variable {self._settings.key_variable} lacks the permission",
            404: f"check the path in {self._section}.url, which usually ends in /v1, and {self._section}.model",
        }.get(error.status_code)
        if advice is None:
            return RequestError(f"HTTP {error.status_code}")
        quoted = _quote(error.response.text, self._key)
        return WriterError(f"{self._settings.url}: HTTP {error.status_code} ({quoted}); {advice}")


def _quote(text: str, key: str) -> str:
    """Return the beginning of a response in one line, without the key, which some servers repeat."""
    return " ".join(text.replace(key, "…").split())[:QUOTED_CHARACTERS]


class _PacedClient(openai.DefaultAsyncHttpxClient):
    """Limits the requests per minute, enforces a deadline for each attempt, and follows no redirect."""

    def __init__(self, settings: ServerSettings) -> None:
        super().__init__(timeout=settings.timeout_seconds, follow_redirects=False)
        self._timeout_seconds = settings.timeout_seconds
        self._interval_seconds = 60 / settings.requests_per_minute if settings.requests_per_minute else 0.0
        self._next_start = 0.0

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Return the response, including its body."""
        now = time.monotonic()
        start = max(now, self._next_start)
        self._next_start = start + self._interval_seconds
        await asyncio.sleep(start - now)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await super().send(request, **options)
        except TimeoutError:
            raise httpx2.ReadTimeout(
                f"no complete answer within {self._timeout_seconds:g} seconds", request=request
            ) from None


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int = Field(0, ge=0)
    completion_tokens: int = Field(0, ge=0)


class _Reply(BaseModel):
    """The fields of a chat completion that keeptune uses. Other fields are ignored."""

    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


def _parse(content: bytes, key: str) -> Answer:
    """Return the answer in the body of a response.

    Raises:
        RequestError: the body is not a chat completion, with its beginning: some servers report errors under HTTP 200.
    """
    try:
        reply = _Reply.model_validate_json(content)
    except ValidationError:
        raise RequestError(
            f"response is not a chat completion ({_quote(content.decode(errors='replace'), key)})"
        ) from None
    choice, usage = reply.choices[0], reply.usage or _Usage()
    return Answer(
        text=choice.message.content or "",
        finish_reason=choice.finish_reason or "",
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
    )
