"""`keeptune gate RUN --artefact`: the skill test and the retention suite through the program that serves an artefact.

There are four checks, each of which presupposes the ones before it: the files and their origin, the tokens of every
prompt, the answers of the skill test, the abilities. If one of the first two fails, the gate ends there, because
answers of other weights or to other prompts show nothing about the run.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from keeptune.config.ability_names import ALL, READING_ABILITY, chosen_names, unknown_name
from keeptune.errors import RecipeError, RunError
from keeptune.evaluation import reading_score, skill_score
from keeptune.evaluation.abilities.base import Ability, Subject
from keeptune.evaluation.run_integrity import check_files
from keeptune.evaluation.suite.loader import Size
from keeptune.files import Record, file_sha256, read_json, read_records, write_json, write_records
from keeptune.generation.answer_source import AnswerSource
from keeptune.generation.served_model import NotMeasurableError, ServedModel
from keeptune.pipeline.artefact_differences import first_differences
from keeptune.pipeline.artefact_files import ArtefactFiles, faults_of, faults_of_base, find_files
from keeptune.pipeline.artefact_program import OpenArtefact, is_address, open_address, open_files
from keeptune.pipeline.artefact_result import (
    DIFFERENCES_FILE,
    READING_FILE,
    SKILL_FILE,
    ability_file,
    base_records,
    compute_figures,
)
from keeptune.pipeline.context import RunContext
from keeptune.pipeline.final_evaluation import READING, SKILL
from keeptune.pipeline.report_stage import run_report_stage
from keeptune.pipeline.run import Run
from keeptune.progress import Reporter, SilentReporter
from keeptune.prompts.chat import ChatLayout
from keeptune.run_files.artefact import Artefact

REQUEST_FILE = "request.json"
"""The file with the request, so that only the same request resumes in a folder."""

_CHATS = 20
"""Problems whose rendering by the chat template is compared."""

_NOT_IN_A_NAME = re.compile(r"[^\w.-]+")


@dataclass(frozen=True, slots=True)
class ArtefactRequest:
    """The artefact of a run to judge.

    Attributes:
        run: the run directory.
        artefact: an export folder, a GGUF file, or the address of a server.
        base: the GGUF export of the base, for a GGUF adapter.
        model: the name of the model on the server.
        abilities: the abilities to measure, of those that the run measured.
        size: the size of the suite; None for that of the run.
    """

    run: Path
    artefact: str
    base: str | None = None
    model: str | None = None
    abilities: tuple[str, ...] = (ALL,)
    size: Size | None = None

    @property
    def name(self) -> str:
        """The name of the artefact's folder in the run directory."""
        if is_address(self.artefact):
            parts = self.artefact.partition("://")[2], self.model or ""
            return _NOT_IN_A_NAME.sub("-", "-".join(filter(None, parts))).strip("-")
        return Path(self.artefact).expanduser().resolve().name


def gate_artefact(request: ArtefactRequest, reporter: Reporter | None = None) -> Record:
    """Judges an artefact and returns the content of its artefact.json. The report of the run then shows it.

    Answers of an interrupted check are used again.

    Raises:
        RunError: the run is not finished, or its files were changed.
        RecipeError: an ability is unknown, or the run did not measure it.
        ModelError: the artefact cannot be opened.
    """
    run = Run.open(request.run, reporter)
    context = run.context
    if not context.directory.result.is_file() or not context.final.complete():
        raise RunError(f"{request.run}: the run is not finished; finish it with `keeptune run` first")
    check_files(context.directory)
    check = _Check(context, request, reporter or SilentReporter())
    record = check.run()
    run_report_stage(context)
    return record


class _Check:
    """One check of an artefact. Its answers go to a folder in the run directory."""

    def __init__(self, context: RunContext, request: ArtefactRequest, reporter: Reporter) -> None:
        self.context, self.request, self.reporter = context, request, reporter
        self.path = context.directory.artefact(request.name)
        self.folder = self.path.parent
        self.abilities = self._abilities()
        self.left_out: dict[str, str] = {}

    def run(self) -> Record:
        """The content of artefact.json, which is also written."""
        request, context = self.request, self.context
        files = None if is_address(request.artefact) else find_files(request.artefact)
        base = find_files(request.base) if request.base else None
        if base and (files is None or files.form != "gguf-lora"):
            raise RecipeError(f"--base is for a GGUF adapter, and {request.artefact} is none; remove it")
        faults = faults_of(files, context.directory, context.prompt.sha256) if files else []
        faults += faults_of_base(base, context.directory) if base else []
        hashes = {**(files.hashes() if files else {}), **(base.hashes() if base else {})}
        facts: Record = {
            "schema_version": 1,
            "artefact": request.artefact,
            "program": "",
            "form": files.form if files else None,
            "gguf_type": files.export.gguf_type if files and files.export else None,
            "size": request.size or context.recipe.score.suite,
            "finished": "",
            "command": " ".join(["keeptune", *sys.argv[1:]]),
            "keeptune": metadata.version("keeptune"),
            "adapter_sha256": file_sha256(context.directory.adapter_weights),
            "files": hashes,
            "faults": faults,
            "prompts": None,
        }
        if faults:
            self._claim(hashes)
        else:
            with self._opened(files, base) as opened:
                # Not before the program answers: an earlier verdict would be lost for nothing.
                self._claim(hashes)
                facts |= self._evaluate(opened, files)
        facts |= {
            "left_out": self.left_out,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "hashes": {path.name: file_sha256(path) for path in sorted(self.folder.glob("*.jsonl"))},
        }
        record = Artefact.checked(facts | compute_figures(context, self.folder, facts))
        write_json(self.path, record)
        return record

    @contextmanager
    def _opened(self, files: ArtefactFiles | None, base: ArtefactFiles | None) -> Iterator[OpenArtefact]:
        self.reporter.stage("load")
        if files is None:
            yield open_address(self.request.artefact, self.request.model, self.context)
            return
        with open_files(files, base, self.context) as opened:
            yield opened

    def _evaluate(self, opened: OpenArtefact, files: ArtefactFiles | None) -> Record:
        """Compares prompts and collects answers; the fields of artefact.json that only the program knows."""
        context = self.context
        questions = context.final.problems("test")
        problems = [(question.problem, question.conversation) for question in questions]
        self.reporter.stage("evaluate")
        opened.compare_prompts(context.prompt, context.models.tokenizer, problems)
        faults = self._template_faults(opened, problems[:_CHATS]) if files and files.form in ("gguf", "ollama") else []
        if not faults and not opened.tokens.differences:
            self._collect_answers(opened, questions)
        return {"program": opened.program, "faults": faults, "prompts": opened.prompts().model_dump(mode="json")}

    def _template_faults(self, opened: OpenArtefact, problems: Sequence[tuple[str, str | None]]) -> list[str]:
        """The first problem that the chat template of the file renders differently from the prompt of the run."""
        for problem, conversation in problems:
            if conversation is not None or not isinstance(opened.source, ServedModel):
                continue
            rendered, expected = opened.source.render_chat(problem), self.context.prompt.render(problem)
            if rendered is not None and rendered != expected:
                return [
                    f"the chat template of the file renders {rendered!r:.200}, and the prompt of the run is "
                    f"{expected!r:.200}"
                ]
        return []

    def _collect_answers(self, opened: OpenArtefact, questions: Sequence[skill_score.SkillQuestion]) -> None:
        """The records that are not stored yet: the skill test, reading questions, and abilities."""
        final, source, count = self.context.final, opened.source, self.reporter.counter
        self._records(
            SKILL_FILE,
            lambda: skill_score.score_skill(
                source, final.prompt, questions, final.budgets(), count("test questions", len(questions)), final.grader
            ),
        )
        self._measure("first differing tokens", DIFFERENCES_FILE, lambda: self._differences(source, questions))
        if READING_ABILITY in self._names():
            items, layout = final.reading()[1], final.layouts()[READING]
            self._measure(
                READING_ABILITY,
                READING_FILE,
                lambda: reading_score.score_reading(source, items, layout, count("reading questions", len(items))),
            )
        tokenizer = source.tokenizer
        subject = Subject(source, ChatLayout(tokenizer, final.fallback))
        for ability in self.abilities:
            self._measure(ability.name, ability_file(self.folder, ability.name).name, self._asks(subject, ability))

    def _differences(self, source: AnswerSource, questions: Sequence[skill_score.SkillQuestion]) -> list[Record]:
        """The first differing token of each answer that is not the run's."""
        final, tokenizer = self.context.final, self.context.models.tokenizer
        prompts = [final.prompt.encode(tokenizer, one.problem, one.conversation) for one in questions]
        return first_differences(source, prompts, final.records(SKILL, "tuned"), read_records(self.folder / SKILL_FILE))

    def _asks(self, subject: Subject, ability: Ability) -> Callable[[], list[Record]]:
        """A function that evaluates the artefact on the items of an ability.

        Raises:
            RecipeError: the run did not ask the base all items of the requested size.
        """
        size = self.request.size or self.context.recipe.score.suite
        assert size != "none"
        base, items = base_records(self.context, ability), ability.items("final", size)
        ids = [str(ability.item_fields(item)["id"]) for item in items]
        if missing := [name for name in ids if name not in base]:
            raise RecipeError(
                f"--suite {size}: {len(missing)} of {len(ids)} items of {ability.name} were not asked the base in the "
                f"run, which used the size {self.context.recipe.score.suite}; leave --suite out"
            )
        counter = self.reporter.counter
        return lambda: ability.collect_records(
            subject, items, [base[name] for name in ids], counter(ability.name, len(ids))
        )

    def _measure(self, name: str, file: str, ask: Callable[[], list[Record]]) -> None:
        """As `_records`; what the program cannot do is left out with the reason."""
        try:
            self._records(file, ask)
        except NotMeasurableError as error:
            self.left_out[name] = f"not measurable through this server: {error}"
            self.reporter.info(f"{name}: {self.left_out[name]}")

    def _records(self, file: str, ask: Callable[[], list[Record]]) -> None:
        """Writes the records of a measurement, unless an interrupted check has written them."""
        if not (self.folder / file).is_file():
            write_records(self.folder / file, ask())

    def _names(self) -> set[str]:
        """The abilities that are requested and that the run measured."""
        requested = chosen_names(self.request.abilities)
        return set(requested) & set(chosen_names(self.context.recipe.score.abilities))

    def _abilities(self) -> list[Ability]:
        """The abilities to measure, except reading, whose items the recipe names.

        Raises:
            RecipeError: an ability is unknown, or was not measured by the run.
        """
        if fault := unknown_name(self.request.abilities):
            raise RecipeError(f"--abilities: {fault}")
        measured = {ability.name: ability for ability in self.context.final.abilities()}
        for name in self.request.abilities:
            if name not in (ALL, READING_ABILITY) and name not in measured:
                raise RecipeError(
                    f"--abilities {name}: the run did not measure it on the base; choose among "
                    f"{', '.join([READING_ABILITY, *measured])}"
                )
        return [ability for name, ability in measured.items() if name in chosen_names(self.request.abilities)]

    def _claim(self, hashes: dict[str, str]) -> None:
        """Prepares the folder: that of an interrupted check of the same artefact is used again."""
        request = {
            "artefact": self.request.artefact,
            "model": self.request.model,
            "abilities": sorted(self.request.abilities),
            "size": self.request.size,
            "files": hashes,
            "adapter_sha256": file_sha256(self.context.directory.adapter_weights),
        }
        path = self.folder / REQUEST_FILE
        if self.path.is_file() or not path.is_file() or read_json(path) != request:
            shutil.rmtree(self.folder, ignore_errors=True)
            write_json(path, request)
