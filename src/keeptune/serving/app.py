"""The HTTP interface: endpoints of OpenAI's API, health and metrics. All work is done elsewhere."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from keeptune.generation.sampling import Sampling
from keeptune.serving.api_error import ApiError
from keeptune.serving.engine import Engine
from keeptune.serving.generation import Event, Finished, Generation, Part
from keeptune.serving.guard import Guard
from keeptune.serving.requests import (
    COMPLETION_TOKENS,
    ChatRequest,
    CompletionRequest,
    GenerationRequest,
    describe_errors,
)
from keeptune.serving.responses import ChatForm, CompletionForm, Form, Json, TokenTexts
from keeptune.serving.served_run import ServedRun

MAX_BODY_BYTES = 2**20
BODY_SECONDS = 30.0
SLOW_READER_SECONDS = 10.0
"""How much longer than its answer may take a stream stays open for a client that reads slowly."""

CLIENT_CLOSED_REQUEST = 499
"""The status of a request whose client has gone, as in nginx. Nobody receives it."""


@dataclass(frozen=True, slots=True)
class AppSettings:
    """Settings of the HTTP interface.

    Attributes:
        api_key: the key that clients have to send; None for none.
        hosts: the host names that are allowed; None for all.
        body_bytes, body_seconds: the limits of a request's body.
    """

    api_key: str | None = None
    hosts: Sequence[str] | None = None
    body_bytes: int = MAX_BODY_BYTES
    body_seconds: float = BODY_SECONDS


class Answer:
    """The events of one request on the side of the event loop."""

    def __init__(self, engine: Engine, prompt: list[int], budget: int, request: GenerationRequest) -> None:
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def deliver(event: Event) -> None:
            with suppress(RuntimeError):  # the loop has ended, and the server with it
                loop.call_soon_threadsafe(self._events.put_nowait, event)

        seed = secrets.randbits(63) if request.seed is None else request.seed
        sampling = Sampling(request.temperature, request.top_p, seed, request.top_logprobs_count)
        self._generation: Generation = engine.submit(prompt, budget, request.model, sampling, request.stop, deliver)

    async def events(self) -> AsyncIterator[Part | Finished]:
        """The parts of the answer, and its end.

        Raises:
            ApiError: the answer failed.
        """
        while True:
            event = await self._events.get()
            if isinstance(event, ApiError):
                raise event
            yield event
            if isinstance(event, Finished):
                return

    def cancel(self) -> None:
        """Tells the engine that nobody waits for the answer."""
        self._generation.is_cancelled = True


class EventStream(StreamingResponse):
    """Server-sent events of one answer. It ends with the client, or when the client reads too slowly."""

    media_type = "text/event-stream"

    def __init__(self, answer: Answer, form: Form, includes_usage: bool, timeout_seconds: float) -> None:
        super().__init__(_stream(answer, form, includes_usage), headers={"Cache-Control": "no-store"})
        self._answer, self._timeout_seconds = answer, timeout_seconds

    async def stream_response(self, send: Send) -> None:
        """Sends the events, within the time limit."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeout_seconds):
                await super().stream_response(send)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the response, and cancels the answer however that ends."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._answer.cancel()


async def _stream(answer: Answer, form: Form, includes_usage: bool) -> AsyncIterator[str]:
    for chunk in form.first_chunks():
        yield _event(chunk)
    try:
        async for event in answer.events():
            if isinstance(event, Part):
                yield _event(form.chunk(event))
                continue
            yield _event(form.last_chunk(event))
            if includes_usage:
                yield _event(form.usage_chunk(event))
    except ApiError as error:
        yield _event(error.body())
        return
    yield "data: [DONE]\n\n"


def _event(tree: Json) -> str:
    return f"data: {json.dumps(tree)}\n\n"


async def _respond(http: Request, answer: Answer, request: GenerationRequest, form: Form, engine: Engine) -> Response:
    """The response to a request, in one piece or as a stream."""
    if request.stream:
        limit = engine.timeout_seconds + SLOW_READER_SECONDS
        return EventStream(answer, form, request.includes_usage, limit)

    async def collect() -> Response:
        parts: list[Part] = []
        async for event in answer.events():
            if isinstance(event, Finished):
                return JSONResponse(form.complete(parts, event))
            parts.append(event)
        raise AssertionError("an answer ends with Finished or an error")

    try:
        return await _while_connected(http, collect())
    finally:
        answer.cancel()


async def _while_connected(http: Request, work: Awaitable[Response]) -> Response:
    """The result of `work`, which ends early if the client disconnects."""

    async def disconnected() -> None:
        while (await http.receive())["type"] != "http.disconnect":
            pass

    tasks = asyncio.ensure_future(work), asyncio.ensure_future(disconnected())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks[0].result() if tasks[0].done() else Response(status_code=CLIENT_CLOSED_REQUEST)
    finally:
        for task in tasks:
            task.cancel()


def create_app(run: ServedRun, engine: Engine, settings: AppSettings) -> FastAPI:
    """The application. It starts and stops the engine with itself."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        engine.start()
        yield
        await asyncio.to_thread(engine.stop)

    app = FastAPI(title="keeptune", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(
        Guard,
        api_key=settings.api_key,
        hosts=settings.hosts,
        body_bytes=settings.body_bytes,
        body_seconds=settings.body_seconds,
    )
    _add_error_handlers(app)
    _add_generation(app, run, engine)
    _add_information(app, run, engine)
    return app


def _add_error_handlers(app: FastAPI) -> None:
    """Gives all errors the form of OpenAI's API."""

    async def api_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        headers = {"Retry-After": "1"} if error.status in (429, 503) else None
        return JSONResponse(error.body(), error.status, headers)

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if isinstance(error.__cause__, ApiError):  # raised while FastAPI read the body
            return await api_error(request, error.__cause__)
        message = str(error.detail)
        if error.status_code == 404:
            message = f"there is no {request.url.path}; use /v1/chat/completions, /v1/completions or /v1/models"
        return JSONResponse(ApiError(error.status_code, message).body(), error.status_code, error.headers)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        schema = ChatRequest if request.url.path.endswith("/chat/completions") else CompletionRequest
        return await api_error(request, describe_errors(error.errors(), tuple(schema.model_fields)))

    async def unexpected(request: Request, error: Exception) -> Response:
        return await api_error(request, ApiError(500, f"internal error ({type(error).__name__})"))

    app.add_exception_handler(ApiError, api_error)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, unexpected)


def _add_generation(app: FastAPI, run: ServedRun, engine: Engine) -> None:
    texts = TokenTexts(run.decoder.tokenizer)

    @app.post("/v1/chat/completions", response_model=None)
    async def chat(body: ChatRequest, http: Request) -> Response:
        model = run.require_model(body.model)
        prompt = run.prompt.encode_chat(body.messages, run.scales[model] != 0)
        requested_tokens = body.max_completion_tokens or body.max_tokens
        answer = Answer(engine, prompt, _budget(run, prompt, requested_tokens, run.decoder.context_tokens), body)
        return await _respond(http, answer, body, ChatForm(model, texts), engine)

    @app.post("/v1/completions", response_model=None)
    async def complete(body: CompletionRequest, http: Request) -> Response:
        model = run.require_model(body.model)
        prompt = run.prompt.encode_text(body.prompt, run.scales[model] != 0)
        answer = Answer(engine, prompt, _budget(run, prompt, body.max_tokens, COMPLETION_TOKENS), body)
        return await _respond(http, answer, body, CompletionForm(model, texts), engine)


def _budget(run: ServedRun, prompt: Sequence[int], max_tokens: int | None, default: int) -> int:
    """The maximum number of new tokens.

    Raises:
        ApiError: prompt and answer do not fit into the context.
    """
    context = run.decoder.context_tokens
    free = context - len(prompt)
    if free < (max_tokens or 1):
        raise ApiError(
            400,
            f"the prompt has {len(prompt)} tokens and the answer up to {max_tokens or 1}, but the context has "
            f"{context}; shorten the prompt, lower max_tokens, or start the server with a larger --context",
            code="context_length_exceeded",
            param="max_tokens" if free > 0 else None,
        )
    return max_tokens or min(default, free)


def _add_information(app: FastAPI, run: ServedRun, engine: Engine) -> None:
    created = int(time.time())

    def describe(name: str) -> dict[str, Any]:
        return {
            "id": name,
            "object": "model",
            "created": created,
            "owned_by": "keeptune",
            "root": run.base,
            "scale": run.scales[name],
            "max_model_len": run.decoder.context_tokens,
        }

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [describe(name) for name in run.scales]}

    @app.get("/v1/models/{name}")
    async def model(name: str) -> dict[str, Any]:
        return describe(run.require_model(name))

    @app.get("/health", response_model=None)
    async def health() -> Response:
        state = {"run": run.name, "running": engine.running, "waiting": engine.waiting, "slots": run.decoder.slots}
        if not engine.is_alive:
            return JSONResponse({"status": "stopped", **state}, 503)
        return JSONResponse({"status": "ok", **state})

    @app.get("/metrics", response_model=None)
    async def metrics() -> Response:
        return Response(engine.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
