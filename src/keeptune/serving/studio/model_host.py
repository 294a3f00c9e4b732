"""Loads the model of one run when the playground asks for it, and hands requests of OpenAI's API to it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qs

from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from keeptune.errors import KeeptuneError
from keeptune.files import Record
from keeptune.run_files.directory import RunDirectory
from keeptune.serving.api_error import ApiError
from keeptune.serving.requests import Message

if TYPE_CHECKING:  # they import torch, which the other pages do not need
    from keeptune.serving.engine import Engine
    from keeptune.serving.served_run import ServedRun

logger = logging.getLogger("keeptune.serving")

State = Literal["none", "loading", "ready", "failed"]

QUEUE_LIMIT = 16
TIMEOUT_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Loaded:
    """A loaded run, its engine, and the application that answers for them."""

    run: ServedRun
    engine: Engine
    app: ASGIApp


class ModelHost:
    """The model of at most one run. Loading another one drops it.

    Args:
        context_tokens: the maximum tokens of prompt and answer; None for the server's default.
        slots: answers that are decoded together.
    """

    def __init__(self, context_tokens: int | None, slots: int) -> None:
        self._context_tokens, self._slots = context_tokens, slots
        self._lock = threading.Lock()
        self._run, self._state, self._message = "", "none", ""
        self._loaded: Loaded | None = None
        self._thread: threading.Thread | None = None

    def status(self) -> Record:
        """The run whose model is loaded or being loaded, and how far that is."""
        with self._lock:
            return {"run": self._run, "state": self._state, "message": self._message}

    def load(self, run: str, directory: RunDirectory) -> None:
        """Starts to load the model of a run, unless it is there.

        Raises:
            ApiError: the run has no adapter yet, or another model is being loaded.
        """
        if not directory.has_adapter:
            raise ApiError(409, f"{run}: there is no adapter yet; wait until the run has selected one", param="run")
        with self._lock:
            if self._run == run and self._state in ("loading", "ready"):
                return
            if self._state == "loading":
                raise ApiError(409, f"the model of {self._run} is being loaded; wait for it", code="loading")
            self._run, self._state, self._message = run, "loading", ""
            self._thread = threading.Thread(target=self._load, args=(run, directory), daemon=True)
            self._thread.start()

    def prompt(self, run: str, messages: Sequence[Message]) -> Record:
        """The prompt of a conversation as the model sees it: the text, and the text of each token.

        Raises:
            ApiError: the model of the run is not loaded, or its prompt cannot hold the conversation.
        """
        loaded = self._require(run)
        tokens = loaded.run.prompt.encode_chat(messages, is_tuned=False)
        decode = loaded.run.decoder.tokenizer.decode
        texts = [str(decode([token], skip_special_tokens=False)) for token in tokens]
        return {"text": str(decode(tokens, skip_special_tokens=False)), "tokens": texts}

    def stop(self) -> None:
        """Drops the model; answers that run get an error."""
        if self._thread is not None:
            self._thread.join()
        self._drop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands a request to the loaded model. The query parameter `run` names the run that it is meant for."""
        query = parse_qs(scope["query_string"].decode("latin-1"))
        try:
            loaded = self._require(query.get("run", [""])[0])
        except ApiError as error:
            await JSONResponse(error.body(), error.status)(scope, receive, send)
            return
        await loaded.app({**scope, "root_path": ""}, receive, send)

    def _require(self, run: str) -> Loaded:
        with self._lock:
            if self._loaded is None or self._run != run:
                raise ApiError(409, f"the model of {run!r:.80} is not loaded; load it first", code="model_not_loaded")
            return self._loaded

    def _load(self, run: str, directory: RunDirectory) -> None:
        self._drop()
        try:
            loaded, message = _open(directory, self._context_tokens, self._slots), ""
        except KeeptuneError as error:
            loaded, message = None, str(error)
        except Exception as error:
            logger.exception("the model of %s was not loaded", run)
            loaded, message = None, f"the model was not loaded ({type(error).__name__}: {error})"
        with self._lock:
            self._loaded, self._message = loaded, message
            self._state = "ready" if loaded else "failed"

    def _drop(self) -> None:
        with self._lock:
            loaded, self._loaded = self._loaded, None
        if loaded is not None:
            loaded.engine.stop()


def _open(directory: RunDirectory, context_tokens: int | None, slots: int) -> Loaded:
    from keeptune.serving.app import AppSettings, create_app
    from keeptune.serving.engine import Engine
    from keeptune.serving.metrics import Metrics
    from keeptune.serving.served_run import open_run

    run = open_run(str(directory.root), (), context_tokens, slots)
    engine = Engine(run.decoder, run.scales, QUEUE_LIMIT, TIMEOUT_SECONDS, Metrics())
    app: Any = create_app(run, engine, AppSettings())
    engine.start()  # the application of the studio starts, not this one
    return Loaded(run, engine, app)
