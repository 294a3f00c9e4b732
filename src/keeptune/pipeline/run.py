"""The run directory and the stages in their order: the only place where stages meet.

Every stage leaves a file that says it is complete; running the same recipe into the same directory skips what is
complete and goes on with what is not. A stage reads what the stages before it left, so each can be run on its own.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from keeptune.config import recipe as recipes
from keeptune.config.recipe import Recipe
from keeptune.config.retain import SELF
from keeptune.data import card as cards
from keeptune.data.preparation import prepare
from keeptune.data.split import PARTS
from keeptune.data.teacher.rows import writer_summary
from keeptune.data.workers import Staffing
from keeptune.environment import manifest
from keeptune.errors import ModelError, RunError
from keeptune.evaluation import unchanged_prompts as unchanged
from keeptune.evaluation.fingerprint import record_cache
from keeptune.evaluation.model_pair import WHO
from keeptune.event_log import Journal
from keeptune.files import file_sha256, read_json, read_records, whole_folder, write_json, write_records, write_text
from keeptune.generation import vllm as vllm_engine
from keeptune.generation.distributed import SharedGenerator, help_out
from keeptune.generation.engine import Generator
from keeptune.generation.self_answers import own_answers, own_examples
from keeptune.models import adapter as adapters
from keeptune.models import adapter_metadata as adapter_card
from keeptune.models import load as models
from keeptune.models.out_of_memory import memory_for
from keeptune.models.prepacked_linear import drop_layouts
from keeptune.pipeline.checkpoint_selection import handover
from keeptune.pipeline.dev_evaluation import DevScores
from keeptune.pipeline.evaluation_stage import FinalScores
from keeptune.pipeline.preflight import require_sources, require_tools
from keeptune.pipeline.result import SuiteScores, result
from keeptune.pipeline.run_lock import alone_in
from keeptune.progress import Listener, Silent
from keeptune.prompts.chat import Layout
from keeptune.prompts.invocation import invocation_tokens, last_occurrence
from keeptune.prompts.template import Prompt
from keeptune.prompts.token_count import TokenCounter
from keeptune.report.page import write_report
from keeptune.skills.registry import skill_of
from keeptune.training import checkpoints as checkpoint
from keeptune.training.batches import Example
from keeptune.training.distributed import processes
from keeptune.training.engine import trainer_of
from keeptune.training.examples import skill_examples, training_examples
from keeptune.training.loop import Step
from keeptune.training.projection import project
from keeptune.training.trackers import Trackers

Record = dict[str, Any]

OWN_ANSWERS = "replay/self.jsonl"
"""The base's own answers that are replayed."""

SHOWN = ("loss", "loss_by_kind", "divergence", "learning_rate", "grad_norm", "tokens_per_second")
"""Of a step, what trackers show."""


class Run:
    """One job in one directory. `Run.create` starts or resumes it, `Run.open` looks at one that is there."""

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        listener: Listener | None = None,
        staffing: Staffing = Staffing(),  # noqa: B008  (frozen)
    ) -> None:
        self.folder, self.recipe, self.staffing = folder, recipe, staffing
        self.processes = processes()
        self.listener = listener if listener and self.processes.first else Silent()
        self.prompt = Prompt(recipe.prompt.template)
        self.journal = Journal(folder / "log.jsonl")
        self.final = FinalScores(folder, recipe, self.listener)
        self._tuned: Any = None

    @classmethod
    def create(
        cls,
        folder: Path,
        recipe: Recipe,
        listener: Listener | None = None,
        staffing: Staffing = Staffing(),  # noqa: B008  (frozen)
    ) -> Self:
        """A new run, or the one that is in `folder` already.

        errors: RunError when that is of another recipe, and those of beforehand.py.
        """
        if recipes.is_before_the_suite(folder / "recipe.yaml"):
            recipe = recipes.as_before_the_suite(recipe)
        require_tools(folder, recipe)
        processes().once(lambda: cls._lay_out(folder, recipe))
        return cls(folder, recipe, listener, staffing)

    @staticmethod
    def _lay_out(folder: Path, recipe: Recipe) -> None:
        stored = folder / "recipe.yaml"
        # Until there is data, a recipe can be mended: an impossible quota should not cost a new directory.
        if (folder / "data" / "card.json").is_file() and stored.is_file():
            # Compared as it is understood: an older keeptune stored fewer settings, and its file has a hash.
            if recipes.load_stored(stored) != recipe:
                raise RunError(
                    f"{folder}: holds a run of another recipe; choose another directory with --run, or delete this one"
                )
            return
        if not stored.is_file() and folder.is_dir() and any(folder.iterdir()):
            raise RunError(f"{folder}: holds files that are no run; choose an empty or a new directory with --run")
        require_sources(recipe)
        with alone_in(folder) if stored.is_file() else nullcontext():
            write_text(stored, recipes.dump(recipe))

    @classmethod
    def open(cls, folder: Path, listener: Listener | None = None) -> Self:
        """The run in `folder`. errors: RunError when there is none."""
        stored = folder / "recipe.yaml"
        if not stored.is_file():
            raise RunError(f"{folder}: no recipe.yaml there, so it is no run directory; start one with `keeptune run`")
        return cls(folder, recipes.load_stored(stored), listener)

    def all(self) -> Record | None:
        """result.json, after every stage that was not complete; None on a process that only helps."""
        self.data()
        self.train()
        if not self.processes.first:
            help_out(self.processes, self.adapted)
            return None
        for stage in (self.select, self.score):
            stage()
        self.processes.gather(None)  # the others need not wait for questions any more
        return self.report()

    def data(self) -> None:
        """Rows to examples: data/*.parquet, rejected.jsonl, card.json."""
        self.processes.once(self._data)

    def _data(self) -> None:
        if (self.folder / "data" / "card.json").is_file():
            return
        with self._stage("data"):
            counter = TokenCounter.of(self.tokenizer, self.prompt)
            skill, folder = skill_of(self.recipe.data), self.folder / "data"
            card = prepare(self.recipe, skill, counter, folder, self.staffing, self.listener)
            for line in (*cards.summary(card), *writer_summary(self.folder / "data")):
                self.listener.say(line)

    def train(self) -> None:
        """Examples to checkpoints and log.jsonl; resumes from the newest whole checkpoint."""
        # All by what the first sees: on a shared disk another may not see the file yet, and would wait alone.
        if self.processes.gather(self._trained())[0]:
            return
        self.data()
        with self._stage("train"):
            taught = self.examples()
            invocation = self._invocation(taught)
            examples = training_examples(taught, self.recipe, self.tokenizer, self._own_rows)
            divided = self.recipe.train.shard and self.processes.count > 1
            base = self._load(placed=False) if divided else self.model
            # Before the adapter is put in: its random start is not part of the base.
            weights = models.weights_sha256(base) if self.processes.first else ""
            model = adapters.attach(base, self.recipe.adapter, self.recipe.seed, invocation)
            self._tuned = model
            if (strength := self.recipe.retain.project_start) and not checkpoint.whole(self.folder / "checkpoints"):
                self.listener.say("projecting the adapter away from the inputs of replayed rows")
                project(model, examples, strength, self.recipe.seed)
            trainer = trainer_of(self.recipe, model, examples, self.folder)
            if self.processes.first:
                write_json(self.folder / "manifest.json", self._manifest(weights))
            self.listener.say(
                f"{len(examples):,} examples, {sum(trainer.lengths):,} tokens, {len(trainer.plan):,} steps; "
                f"{adapters.count(model).trainable:,} trainable parameters"
            )
            if self.processes.count > 1:  # a launcher may start fewer than were asked for, and say nothing
                self.listener.say(f"{self.processes.count} processes train together")
            if twice := trainer.recomputed_batches:
                self.listener.say(f"{twice:,} batches compute their activations twice (train.recompute)")
            patience = self.recipe.train.patience
            with self._tracked():
                reached = trainer.run(self._on_step, self._score_dev, self._is_enough if patience else None)
            drop_layouts(model)
            if reached.step < len(trainer.plan):
                self.listener.say(f"ended at step {reached.step}: {patience} dev scores brought nothing better")
            if self.processes.first:
                write_json(self.folder / "checkpoints" / "trained.json", {"steps": reached.step})
            if divided:
                self._tuned = None  # from here on one process needs it whole: it is loaded anew

    def select(self) -> None:
        """Checkpoints to adapter/, the one that is handed over, with its prompt beside it."""
        if (self.folder / "adapter" / adapter_card.FILE).is_file():
            return
        if not self._trained():  # of several processes the first is alone here, and the others wait for questions
            self.train()
        with self._stage("select"):
            chosen = handover(self.folder / "checkpoints", self.recipe, self.dev, self._tuned, self._tuned_by)
            checkpoint_folder = self.folder / "checkpoints" / chosen["checkpoint"]
            with whole_folder(self.folder / "adapter") as scratch:
                for name in ("adapter_config.json", "adapter_model.safetensors"):
                    shutil.copy(checkpoint_folder / name, scratch / name)
                _name_base_model(scratch / "adapter_config.json", self.recipe.model.name)
                write_json(scratch / "chosen.json", chosen)
                adapter_card.save(self._card(chosen["scale"]), scratch)
                made = read_json(self.folder / "manifest.json")
                made["hashes"]["adapter"] = file_sha256(scratch / "adapter_model.safetensors")
                write_json(self.folder / "manifest.json", made)
            if self.recipe.adapter.family == "pissa":
                self.listener.say("adapter/ is a plain LoRA of twice the rank, for the unchanged base weights")

    def score(self) -> None:
        """Base and tuned on the test questions, the reading questions and general text: scores/*.jsonl."""
        if self.final.complete():
            return
        self.select()
        with self._stage("score"):
            folder = self.folder / "adapter"
            kept = record_cache(self._fresh_model(), self.tokenizer)
            generator = self.adapted()
            self.final.score(generator, folder, adapter_card.load(folder).scale, kept)
            made = read_json(self.folder / "manifest.json")
            made["packages"] |= generator.packages
            made["hashes"] |= {name: file_sha256(self.folder / name) for name in self.hashed_files()}
            write_json(self.folder / "manifest.json", made)

    def adapted(self) -> SharedGenerator:
        """The base with the adapter that was chosen, ready to answer."""
        own, folder = self.recipe.model, self.folder / "adapter"
        served = vllm_engine.Served(own.name, own.dtype, own.quantization, folder)
        return vllm_engine.final_generator(self._tuned_by(folder), self.tokenizer, self.processes, served)

    def hashed_files(self) -> list[str]:
        """The files that the result rests on, by their names in the run directory: the manifest holds their hashes."""
        examples = [f"data/{part}.parquet" for part in PARTS]
        own = [OWN_ANSWERS] if self.recipe.retain.replays(SELF) else []
        return [*examples, *own, "adapter/adapter_config.json", *(f"scores/{path.name}" for path in self.final.paths())]

    def report(self) -> Record:
        """result.json, report.html and report.md from the records; always made anew."""
        self.score()
        made = self.result()
        write_json(self.folder / "result.json", made)
        write_report(self.folder)
        return made

    def result(self) -> Record:
        """What result.json says, from what the stages left."""
        base, tuned = (self.final.scores(who) for who in WHO)
        parameters = adapters.Parameters(**read_json(self.folder / "manifest.json")["parameters"])
        chosen = read_json(self.folder / "adapter" / "chosen.json")
        moved, cost = self.final.moved(), self.journal.cost()
        suite = None
        if self.recipe.score.suite != "none":
            suite = SuiteScores(self.final.ability_scores(), self.final.answer_divergences())
        made = result(self.recipe, base, tuned, moved, parameters, cost, chosen, self.prompt, suite)
        invocation = self.recipe.retain.invocation
        return made | {"unchanged": unchanged.summary(self.final.unchanged(), invocation)} if invocation else made

    @cached_property
    def tokenizer(self) -> Any:
        """The base model's tokenizer."""
        return models.load_tokenizer(self.recipe.model.name)

    @cached_property
    def dev(self) -> DevScores:
        """The scores that checkpoints are compared by."""
        return DevScores(self.recipe, self.final, self.prompt, self.tokenizer, self.journal, self.listener)

    @cached_property
    def model(self) -> Any:
        """The base model."""
        return self._load()

    def _load(self, placed: bool = True) -> Any:
        own = self.recipe.model
        self.listener.say(f"loading {own.name} (the embedded model is unpacked on its first use)")
        model = models.load_model(own.name, own.dtype, own.quantization, placed)
        models.check_tokenizer(model, self.tokenizer)
        return model

    def _fresh_model(self) -> Any:
        """The base model without the adapter that training put into it."""
        tuned, self._tuned = self._tuned, None
        if tuned is not None:
            self.__dict__["model"] = adapters.detach(tuned)
        return self.model

    def _own_rows(self, tokens: int) -> list[Example]:
        """Rows of the base's own answers, which the run keeps: training goes on with the same after an interruption."""
        path, layout = self.folder / OWN_ANSWERS, Layout(self.tokenizer, self.prompt)

        def make() -> None:
            if path.is_file():
                return
            self.listener.say("the base answers prompts of the pool, to be replayed")
            base, kept = self.model, record_cache(self.model, self.tokenizer)
            write_records(path, own_answers(Generator(base, self.tokenizer), layout, kept, tokens, self.recipe.seed))

        self.processes.once(make)
        return own_examples(read_records(path), layout)

    def _invocation(self, examples: Sequence[Example]) -> list[int]:
        """The tokens of the invocation, which all examples contain; empty if the adapter always acts.

        Raises:
            ModelError: if prompts do not contain them, or rows and the suite contain them where they must not.
        """
        text = self.recipe.retain.invocation
        if not text:
            return []
        tokens = invocation_tokens(self.tokenizer, self.prompt, text)
        for row in examples:
            start = last_occurrence(row.tokens, tokens)
            if start is None or start >= row.labelled.index(True):
                raise ModelError(
                    f"{row.name}: the invocation {text!r} does not stand in its prompt as in others, or stands in its "
                    "solution, too; choose another retain.invocation, or leave the row out"
                )
        unchanged.require_uninvoked(unchanged.suite_prompts(Layout(self.tokenizer, self.final.fallback)), tokens)
        return tokens

    def examples(self) -> list[Example]:
        """The training rows of the data stage as tokens, labelled on their solutions."""
        return skill_examples(self.folder / "data" / "train.parquet", self.prompt, self.tokenizer)

    def _score_dev(self, step: int) -> Record:
        """The dev scores of the model in training, for the log and for the choice of a checkpoint."""
        if self.recipe.train.patience or self.dev.compares_abilities:
            self.dev.of_base(self._tuned)  # here, where all processes wait
        scores = self.dev.of(self._tuned, f"step {step}")
        self._trackers.log("dev", step, scores)
        return scores

    def _is_enough(self) -> bool:
        return self.dev.are_enough(self._tuned)

    def _card(self, scale: float) -> adapter_card.AdapterCard:
        model, data = self.recipe.model, self.recipe.data
        return adapter_card.AdapterCard(
            model.name, data.skill, self.prompt, self.final.budgets(), scale, model.dtype, model.quantization
        )

    def _tuned_by(self, folder: Path) -> Any:
        """The base with the adapter in `folder`, in place of the one that it had."""
        self._tuned = adapters.load_adapter(self._fresh_model(), folder)
        return self._tuned

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        """Announces a stage, and logs what it took; meanwhile no other command works in the directory."""
        with memory_for(f"the stage `{name}` of {self.folder}"):
            if not self.processes.first:
                yield
                return
            with alone_in(self.folder):
                self.listener.stage(name)
                with self.journal.stage(name):
                    yield

    def _trained(self) -> bool:
        return (self.folder / "checkpoints" / "trained.json").is_file()

    @contextmanager
    def _tracked(self) -> Iterator[None]:
        """While it lasts, steps and dev scores are shown by the recipe's trackers."""
        names = self.recipe.train.trackers if self.processes.first else ()
        self._trackers = Trackers(names, self.folder / "tracking", self.recipe.name, self.listener.say)
        try:
            yield
        finally:
            self._trackers.finish()

    def _on_step(self, step: Step) -> None:
        figures = {name: getattr(step, name) for name in SHOWN}
        self._trackers.log("train", step.step, {name: own for name, own in figures.items() if own is not None})
        kinds = "  ".join(f"{kind} {loss:.2f}" for kind, loss in step.loss_by_kind.items())
        divergence = "" if step.divergence is None else f"KL {step.divergence:.3f}  "
        text = f"loss {step.loss:.3f}  {divergence}{step.tokens_per_second:,.0f} tokens/s  {kinds}"
        self.listener.step(step.step, step.total_steps, text)

    def _manifest(self, weights: str) -> Record:
        card = read_json(self.folder / "data" / "card.json")
        hashes = {
            "recipe": recipes.sha256(self.recipe),
            "data": card["data_sha256"],
            "prompt": self.prompt.sha256,
            "weights": weights,
        }
        counted = adapters.count(self._tuned)
        parameters = {"trainable": counted.trainable, "total": counted.total}
        return {**manifest(hashes, self.recipe.seed), "parameters": parameters}


def _name_base_model(config: Path, name: str) -> None:
    """PEFT stores where the base model lay on this machine; another machine wants the model's name."""
    hub_id = models.EMBEDDED_HUB_ID if name == models.EMBEDDED else name
    write_json(config, read_json(config) | {"base_model_name_or_path": hub_id})
