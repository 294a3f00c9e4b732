"""The HTTP interface of the studio: the page, JSON about runs and answers, and control of runs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import fastapi
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from keeptune.errors import KeeptuneError
from keeptune.files import Record
from keeptune.serving.api_error import ApiError
from keeptune.serving.guard import Guard
from keeptune.serving.requests import Message, describe_errors
from keeptune.serving.studio.guard import REPORT_POLICY, StudioGuard
from keeptune.serving.studio.jobs import Jobs
from keeptune.serving.studio.live import progress
from keeptune.serving.studio.model_host import ModelHost
from keeptune.serving.studio.pairs import PairCache
from keeptune.serving.studio.queries import Query, select, summarize
from keeptune.serving.studio.runs import RunFolder, contained
from keeptune.serving.studio.runs import summarize as summarize_run

STATIC = Path(__file__).parent / "static"

RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

BODY_BYTES, BODY_SECONDS = 2**20, 30.0


@dataclass(frozen=True, slots=True)
class Studio:
    """What the studio shows and may do.

    Attributes:
        folder: the runs.
        recipes: the recipe files that the page may start, by name.
        is_read_only: whether runs cannot be started, resumed or stopped.
        token: the token of this process.
        hosts: the host names that are allowed; None for all.
        models: the model of the playground.
    """

    folder: RunFolder
    recipes: Mapping[str, Path]
    is_read_only: bool
    token: str
    hosts: Sequence[str] | None
    models: ModelHost
    jobs: Jobs = field(default_factory=Jobs)
    pairs: PairCache = field(default_factory=PairCache)

    def summaries(self) -> list[Record]:
        """The list of runs, and whether this studio can stop them."""
        return [
            {**summarize_run(run, directory), **self._control(run)} for run, directory in self.folder.runs().items()
        ]

    def progress(self, run: str) -> Record:
        """The state of a run, with what its command has printed."""
        record = progress(run, self.folder.require(run))
        return {**record, **self._control(run), "output": self.jobs.output(run), "exit_code": self.jobs.exit_code(run)}

    def _control(self, run: str) -> Record:
        is_ours = self.jobs.is_running(run)
        return {"can_stop": is_ours, **({"is_running": True} if is_ours else {})}

    def require_control(self) -> None:
        """Raises ApiError if the studio is read-only."""
        if self.is_read_only:
            raise ApiError(403, "this studio is read-only; start it without --read-only", code="read_only")


class RunQuery(Query):
    """A query over base and tuned of one run."""

    run: str


class ComparisonQuery(Query):
    """A query over the tuned models of two runs."""

    first: str
    second: str


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class RunBody(_Body):
    """A request about one run."""

    run: str


class StartBody(_Body):
    """A request for a new run."""

    recipe: str
    name: str


class PromptBody(_Body):
    """A conversation to render."""

    run: str
    messages: list[Message] = Field(min_length=1)


def create_studio(studio: Studio) -> FastAPI:
    """The application. Its end stops the runs that it has started, and drops the model."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(studio.jobs.stop_all)
        await asyncio.to_thread(studio.models.stop)

    app = FastAPI(title="keeptune studio", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard, api_key=None, hosts=studio.hosts, body_bytes=BODY_BYTES, body_seconds=BODY_SECONDS)
    app.add_middleware(StudioGuard, token=studio.token)
    _add_error_handlers(app)
    _add_runs(app, studio)
    _add_answers(app, studio)
    _add_playground(app, studio)
    _add_control(app, studio)
    app.mount("/", StaticFiles(directory=STATIC, html=True))
    return app


def _add_error_handlers(app: FastAPI) -> None:
    """Gives all errors one form, with a message that the page shows."""

    def add(kind: type[Exception], convert: Callable[[Any], ApiError]) -> None:
        async def handle(_: Request, error: Exception) -> Response:
            answer = convert(error)
            return JSONResponse(answer.body(), answer.status)

        app.add_exception_handler(kind, handle)

    add(ApiError, lambda error: error)
    add(KeeptuneError, lambda error: ApiError(422, str(error)))
    add(RequestValidationError, lambda error: describe_errors(error.errors(), ()))
    add(HTTPException, _http_error)


def _http_error(error: HTTPException) -> ApiError:
    # Guard raises an ApiError while FastAPI reads the body.
    return error.__cause__ if isinstance(error.__cause__, ApiError) else ApiError(error.status_code, str(error.detail))


def _add_runs(app: FastAPI, studio: Studio) -> None:
    @app.get("/api/state")
    def state() -> Record:
        return {
            "version": metadata.version("keeptune"),
            "folder": studio.folder.root.name,
            "read_only": studio.is_read_only,
            "recipes": list(studio.recipes),
            "model": studio.models.status(),
        }

    @app.get("/api/runs")
    def runs() -> Record:
        return {"runs": studio.summaries()}

    @app.get("/api/progress")
    def run_progress(run: str) -> Record:
        return studio.progress(run)

    @app.get("/api/report", response_model=None)
    def report(run: str) -> Response:
        directory = studio.folder.require(run)
        path = contained(directory, directory.report_html)
        return FileResponse(path, media_type="text/html", headers={"Content-Security-Policy": REPORT_POLICY})


def _add_answers(app: FastAPI, studio: Studio) -> None:
    @app.get("/api/answers")
    def answers(query: Annotated[RunQuery, fastapi.Query()]) -> Record:
        return select(studio.pairs.of_run(studio.folder.require(query.run)), query)

    @app.get("/api/answers/summary")
    def answers_summary(run: str) -> Record:
        return {"sources": summarize(studio.pairs.of_run(studio.folder.require(run)))}

    @app.get("/api/comparison")
    def comparison(query: Annotated[ComparisonQuery, fastapi.Query()]) -> Record:
        first, second = studio.folder.require(query.first), studio.folder.require(query.second)
        return select(studio.pairs.of_runs(first, second), query)

    @app.get("/api/comparison/summary")
    def comparison_summary(first: str, second: str) -> Record:
        pairs = studio.pairs.of_runs(studio.folder.require(first), studio.folder.require(second))
        return {"sources": summarize(pairs)}


def _add_playground(app: FastAPI, studio: Studio) -> None:
    @app.get("/api/model")
    def model() -> Record:
        return studio.models.status()

    @app.post("/api/model")
    def load(body: RunBody) -> Record:
        studio.models.load(body.run, studio.folder.require(body.run))
        return studio.models.status()

    @app.post("/api/prompt")
    def prompt(body: PromptBody) -> Record:
        return studio.models.prompt(body.run, body.messages)

    app.mount("/v1", studio.models)


def _add_control(app: FastAPI, studio: Studio) -> None:
    @app.post("/api/start")
    def start(body: StartBody) -> Record:
        studio.require_control()
        folder = _new_run_folder(studio, body.name)
        if body.recipe not in studio.recipes:
            raise ApiError(404, f"{body.recipe!r:.80}: start the studio with --recipe FILE for it", param="recipe")
        recipe = studio.recipes[body.recipe]
        studio.jobs.start(body.name, ["run", str(recipe), "--run", str(folder)])
        return {"run": body.name}

    @app.post("/api/resume")
    def resume(body: RunBody) -> Record:
        studio.require_control()
        # The last stage, which runs the stages before it that are not complete.
        studio.jobs.start(body.run, ["report", str(studio.folder.require(body.run).root)])
        return {"run": body.run}

    @app.post("/api/stop")
    def stop(body: RunBody) -> Record:
        studio.require_control()
        studio.jobs.stop(body.run)
        return {"run": body.run}

    @app.get("/api/output")
    def output(run: str) -> Record:
        """What the command of a run has printed. It has no folder yet while its recipe is read."""
        is_running, code = studio.jobs.is_running(run), studio.jobs.exit_code(run)
        return {"is_running": is_running, "exit_code": code, "output": studio.jobs.output(run)}


def _new_run_folder(studio: Studio, name: str) -> Path:
    """The folder of a new run.

    Raises:
        ApiError: the name is no plain file name, it is taken, or the studio shows a single run.
    """
    if not RUN_NAME.fullmatch(name):
        raise ApiError(400, "name: use letters, digits, - and _ only, at most 64", param="name")
    if studio.folder.is_single_run:
        raise ApiError(409, "this studio shows a single run; start it with a folder of runs", param="name")
    folder = studio.folder.root / name
    if folder.exists():
        raise ApiError(409, f"{name}: already exists; choose another name, or resume that run", param="name")
    return folder
