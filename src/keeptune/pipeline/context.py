"""What the stages of a run share: its files, recipe, models and observers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

from keeptune.config.recipe import Recipe
from keeptune.data.workers import WorkerConfig
from keeptune.event_log import EventLog
from keeptune.files import read_json, remove_temporary_files
from keeptune.models import adapter_metadata
from keeptune.models.base_identity import check_equal
from keeptune.models.out_of_memory import explain_out_of_memory
from keeptune.pipeline.dev_evaluation import DevEvaluation
from keeptune.pipeline.final_evaluation import FinalEvaluation
from keeptune.pipeline.input_files import check_input_files
from keeptune.pipeline.model_session import ModelSession
from keeptune.pipeline.run_lock import run_lock
from keeptune.progress import Reporter, SilentReporter
from keeptune.prompts.template import Prompt
from keeptune.run_files.directory import RunDirectory
from keeptune.run_files.manifest import Manifest
from keeptune.training.batches import TokenizedExample
from keeptune.training.distributed import distributed_context
from keeptune.training.examples import load_skill_examples


class RunContext:
    """One run directory with its recipe. With several processes, only the first reports progress and writes files."""

    def __init__(
        self,
        directory: RunDirectory,
        recipe: Recipe,
        reporter: Reporter | None = None,
        workers: WorkerConfig = WorkerConfig(),  # noqa: B008  (frozen)
    ) -> None:
        self.directory, self.recipe, self.workers = directory, recipe, workers
        self.processes = distributed_context()
        self.reporter = reporter if reporter and self.processes.is_main else SilentReporter()
        self.prompt = Prompt(recipe.prompt.template)
        self.events = EventLog(directory.event_log)
        self.models = ModelSession(recipe.model, self.reporter)
        self.final = FinalEvaluation(directory, recipe, self.reporter)

    @cached_property
    def dev(self) -> DevEvaluation:
        """The dev evaluation, for checkpoint selection."""
        return DevEvaluation(self.final, self.models.tokenizer, self.events)

    def examples(self) -> list[TokenizedExample]:
        """The training rows of the data stage as tokens, labeled on their solutions."""
        return load_skill_examples(self.directory.examples("train"), self.prompt, self.models.tokenizer)

    def _check_inputs(self) -> None:
        """Raises RunError or ModelError when an input file or the base model is not that of earlier stages."""
        name = self.recipe.model.name
        if self.directory.has_data:
            check_input_files(self.directory, self.recipe)
        if self.directory.manifest.is_file():
            stored = Manifest.model_validate(read_json(self.directory.manifest, Manifest)).base
            if stored:
                check_equal(stored, self.models.identity, name, str(self.directory.root))
        start = self.recipe.adapter.start
        if start and (metadata := adapter_metadata.load_if_present(start)) and metadata.base:
            check_equal(metadata.base, self.models.identity, name, f"adapter.start: {start}")

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Announces a stage, locks the run directory and logs the stage's time and memory.

        Raises:
            RunError: when another process works in the directory, or an input file changed since the data stage.
            ModelError: when the base model changed since the training stage, or is not that of the start adapter.
        """
        with explain_out_of_memory(f"the stage `{name}` of {self.directory.root}"):
            if not self.processes.is_main:
                yield
                return
            with run_lock(self.directory.root):
                remove_temporary_files(self.directory.root)
                self._check_inputs()
                self.reporter.stage(name)
                with self.events.stage(name):
                    yield
