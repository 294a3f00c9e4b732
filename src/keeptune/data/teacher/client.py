"""One OpenAI-compatible server: a prompt in, an answer out, or a clear reason why not.

The only module that imports `openai`, which is an optional dependency. That package repeats what failed for a while
(connections, timeouts, 429, 5xx) and waits as long as `Retry-After` says; what it lacks is added below it, so that
it holds for every attempt: a pace, and a deadline that a server cannot put off by sending a byte now and then.
"""

from __future__ import annotations

import asyncio
import os
import time
from types import TracebackType
from typing import Any

import httpx2
import openai
from pydantic import BaseModel, Field, ValidationError

from keeptune.config.teacher import TeacherSection
from keeptune.data.teacher.exchange import Answer, Request, Unanswered
from keeptune.errors import RecipeError, WriterError

QUOTED_CHARACTERS = 200
"""So much of what a server says is repeated in an error."""

NO_KEY = "none"
"""Sent in place of a key where there is none; servers on one's own machine do not look at it."""


class Client:
    """A server as the recipe names it. Used as `async with`, and only there.

    errors: RecipeError when the key in the environment cannot be a key.
    """

    def __init__(self, settings: TeacherSection) -> None:
        self._settings = settings
        self._key = os.environ.get(settings.key_variable, "").strip() or NO_KEY
        if not (self._key.isascii() and self._key.isprintable()):
            raise RecipeError(
                f"the environment variable {settings.key_variable} holds no key: it has characters that a key cannot "
                "have; set it again, or name another one in data.teacher.key_variable"
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
        """The server's answer.

        errors: Unanswered when this request failed; WriterError when no request can succeed: the server cannot be
        reached, refuses the key, or has no such model.
        """
        try:
            raw = await self._server.chat.completions.with_raw_response.create(
                model=request.model,
                messages=[{"role": "user", "content": request.prompt}],
                temperature=request.temperature,
                max_tokens=request.max_tokens,
            )
        except openai.APITimeoutError:
            raise Unanswered(f"no answer within {self._settings.timeout_seconds:g} seconds") from None
        except openai.APIConnectionError as error:
            raise WriterError(
                f"{self._settings.url}: not reachable, after {self._settings.attempts} attempts "
                f"({error.__cause__ or error}); start the server, or correct data.teacher.url"
            ) from None
        except openai.APIStatusError as error:
            raise self._refusal(error) from None
        return _parse(raw.content)

    def _refusal(self, error: openai.APIStatusError) -> WriterError | Unanswered:
        """What an HTTP error means: for this request, or for all."""
        advice = {
            401: f"put its key into the environment variable {self._settings.key_variable}",
            403: f"the key in the environment variable {self._settings.key_variable} is not allowed to do this",
            404: "check the path in data.teacher.url, which mostly ends in /v1, and data.teacher.model",
        }.get(error.status_code)
        if advice is None:
            return Unanswered(f"HTTP {error.status_code}")
        # Some servers repeat the key that they refuse.
        said = " ".join(error.response.text.replace(self._key, "…").split())[:QUOTED_CHARACTERS]
        return WriterError(f"{self._settings.url}: HTTP {error.status_code} ({said}); {advice}")


class _PacedClient(openai.DefaultAsyncHttpxClient):
    """Sends no more requests a minute than allowed, and gives each attempt its time and no more."""

    def __init__(self, settings: TeacherSection) -> None:
        super().__init__(timeout=settings.timeout_seconds)
        self._seconds = settings.timeout_seconds
        self._pause_seconds = 60 / settings.requests_per_minute if settings.requests_per_minute else 0.0
        self._next = 0.0

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """The response, its body included."""
        now = time.monotonic()
        turn = max(now, self._next)
        self._next = turn + self._pause_seconds
        await asyncio.sleep(turn - now)
        try:
            async with asyncio.timeout(self._seconds):
                return await super().send(request, **options)
        except TimeoutError:
            raise httpx2.ReadTimeout(f"no whole answer within {self._seconds:g} seconds", request=request) from None


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int = Field(0, ge=0)
    completion_tokens: int = Field(0, ge=0)


class _Reply(BaseModel):
    """What keeptune needs of a chat completion; whatever else a server adds is its own business."""

    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


def _parse(content: bytes) -> Answer:
    """The answer in the body of a response. errors: Unanswered when there is none in it."""
    try:
        reply = _Reply.model_validate_json(content)
    except ValidationError:
        raise Unanswered("a response that is no chat completion") from None
    choice, usage = reply.choices[0], reply.usage or _Usage()
    return Answer(
        text=choice.message.content or "",
        finish_reason=choice.finish_reason or "",
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
    )
