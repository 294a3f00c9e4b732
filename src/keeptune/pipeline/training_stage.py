"""The training stage: trains the adapter and writes checkpoints. It resumes from the newest complete one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from keeptune.config.retain import SELF
from keeptune.errors import ModelError
from keeptune.evaluation import unchanged_prompts
from keeptune.evaluation.fingerprint import record_cache
from keeptune.files import Record, read_records, write_json, write_records
from keeptune.generation.distributed import DistributedGenerator, answer_together
from keeptune.generation.engine import Generator
from keeptune.generation.self_answers import (
    sample_on_policy_answers,
    sample_self_answers,
    self_answer_examples,
)
from keeptune.models import adapters, load
from keeptune.models.families import stable_rope_tokens
from keeptune.models.prepacked_linear import drop_prepacked_weights
from keeptune.models.target_layers import expert_weights
from keeptune.pipeline.context import RunContext
from keeptune.pipeline.run_manifest import write_manifest
from keeptune.prompts.chat import ChatLayout, fallback_prompt
from keeptune.prompts.invocation import invocation_tokens, last_occurrence
from keeptune.training import checkpoints
from keeptune.training.batches import TokenizedExample
from keeptune.training.examples import build_training_examples
from keeptune.training.loop import StepRecord, Trainer
from keeptune.training.projection import project
from keeptune.training.trackers import Trackers
from keeptune.training.trainer_factory import create_trainer

TRACKED_FIGURES = ("loss", "loss_by_kind", "divergence", "learning_rate", "grad_norm", "tokens_per_second")
"""The figures of a step that experiment trackers receive."""


_SHOWN_KINDS = 20
"""Kinds whose loss is shown while training. The log has all."""


class TrainingObserver(Protocol):
    """Sees steps and dev scores as they happen; an exception that it raises ends the training."""

    def on_step(self, step: StepRecord) -> None:
        """A training step is complete and logged."""

    def on_dev_scores(self, step: int, scores: Record) -> None:
        """The dev scores after a step are known; they are logged before the next step."""


def run_training_stage(context: RunContext, observers: Sequence[TrainingObserver] = ()) -> None:
    """Trains the adapter, on all processes together."""
    with context.stage("train"):
        rows = context.examples()
        invocation = _invocation(context, rows)
        examples = build_training_examples(
            rows, context.recipe, context.models.tokenizer, lambda source, n: _written_rows(context, source, n)
        )
        sharded = context.recipe.train.shard and context.processes.world_size > 1
        base = context.models.load_base(placed=False) if sharded else context.models.base()
        _check_lengths(context, base, examples)
        # Hashed before the adapter is attached: its random start is not part of the base.
        weights_sha256 = load.weights_sha256(base) if context.processes.is_main else ""
        model = adapters.attach(base, context.recipe.adapter, context.recipe.seed, invocation)
        context.models.tuned = model
        _project(context, model, examples)
        trainer = create_trainer(context.recipe, model, examples, context.directory.root)
        if context.processes.is_main:
            write_manifest(context, model, weights_sha256)
        _describe(context, trainer, model, len(examples))
        steps = _train(context, trainer, model, observers)
        drop_prepacked_weights(model)
        if context.processes.is_main:
            write_json(context.directory.trained, {"steps": steps})
        if sharded:
            context.models.tuned = None  # later stages need the whole model in one process, which loads it again


def _train(context: RunContext, trainer: Trainer, model: Any, observers: Sequence[TrainingObserver]) -> int:
    """Runs the trainer to its end and returns the number of steps."""
    dev, patience = context.dev, context.recipe.train.patience

    def generator() -> DistributedGenerator:
        return DistributedGenerator(model.eval(), context.models.tokenizer, context.processes)

    def score(step: int) -> Record | None:
        def work() -> Record:
            tuned = generator()
            if patience or dev.compares_abilities:
                dev.base_candidate(tuned)  # scored here, because all processes answer here
            return dev.score(tuned, f"step {step}")

        scores = answer_together(context.processes, generator, work)
        if scores is not None:
            trackers.log("dev", step, scores)
            for observer in observers:
                observer.on_dev_scores(step, scores)
        return scores

    def on_step(step: StepRecord) -> None:
        for observer in observers:
            observer.on_step(step)
        _show_step(context, trackers, step)

    with _trackers(context) as trackers:
        progress = trainer.run(on_step, score, (lambda: dev.has_stopped_improving(generator())) if patience else None)
    if progress.step < len(trainer.plan):
        context.reporter.info(f"stopped early at step {progress.step}: no better dev score in {patience} evaluations")
    return progress.step


def _show_step(context: RunContext, trackers: Trackers, step: StepRecord) -> None:
    figures = {name: getattr(step, name) for name in TRACKED_FIGURES}
    trackers.log("train", step.step, {name: value for name, value in figures.items() if value is not None})
    kinds = "  ".join(f"{kind} {loss:.2f}" for kind, loss in islice(step.loss_by_kind.items(), _SHOWN_KINDS))
    divergence = "" if step.divergence is None else f"KL {step.divergence:.3f}  "
    text = f"loss {step.loss:.3f}  {divergence}{step.tokens_per_second:,.0f} tokens/s  {kinds}"
    context.reporter.step(step.step, step.total_steps, text)


def _check_lengths(context: RunContext, base: Any, examples: Sequence[TokenizedExample]) -> None:
    """Raises ModelError if a row is longer than the model's positions allow without depending on other rows."""
    limit, longest = stable_rope_tokens(base.config), max(len(row.tokens) for row in examples)
    if limit is not None and longest > limit:
        raise ModelError(
            f"model {context.recipe.model.name}: a training row has {longest:,} tokens, but the rotary embedding of "
            f"this model changes for rows of more than {limit:,} tokens; set data.max_tokens to at most {limit}"
        )


def _describe(context: RunContext, trainer: Trainer, model: Any, examples: int) -> None:
    context.reporter.info(
        f"{examples:,} examples, {sum(trainer.lengths):,} tokens, {len(trainer.plan):,} steps; "
        f"{adapters.count_parameters(model).trainable:,} trainable parameters"
    )
    if experts := expert_weights(adapters.causal_model(model)):
        context.reporter.info(f"the {experts:,} weights of the experts have no adapter and are not trained")
    if context.processes.world_size > 1:  # a launcher may start fewer processes than requested, without a message
        context.reporter.info(f"{context.processes.world_size} processes train together")
    if batches := trainer.checkpointed_batches:
        context.reporter.info(f"{batches:,} batches use activation checkpointing")


def _project(context: RunContext, model: Any, examples: Sequence[TokenizedExample]) -> None:
    strength = context.recipe.retain.project_start
    if strength and not checkpoints.list_complete(context.directory.checkpoints):
        context.reporter.info("projecting the adapter away from the inputs of replayed rows")
        project(model, examples, strength, context.recipe.seed)


def _written_rows(context: RunContext, source: str, tokens: int) -> list[TokenizedExample]:
    """Rows of answers that a model writes. They are stored, so that resumed training replays the same ones."""
    path = context.directory.replayed_answers(source)
    layout = ChatLayout(context.models.tokenizer, fallback_prompt(context.prompt, invoked=False))

    def write() -> None:
        if not path.is_file():
            answers = _base_answers if source == SELF else _on_policy_answers
            write_records(path, answers(context, layout, tokens))

    context.processes.run_on_main(write)
    return self_answer_examples(read_records(path), layout)


def _base_answers(context: RunContext, layout: ChatLayout, tokens: int) -> list[Record]:
    context.reporter.info("the base model answers prompts of the pool, for replay")
    base, tokenizer = context.models.base(), context.models.tokenizer
    cache = record_cache(base, tokenizer)
    return sample_self_answers(Generator(base, tokenizer), layout, cache, tokens, context.recipe.seed)


def _on_policy_answers(context: RunContext, layout: ChatLayout, tokens: int) -> list[Record]:
    context.reporter.info("the start adapter answers prompts of the pool, for replay")
    assert context.recipe.adapter.start is not None
    folder = Path(context.recipe.adapter.start)
    start = context.models.with_adapter(folder)
    with adapters.scaled(start, adapters.stored_scale(folder)):
        generator = Generator(start, context.models.tokenizer)
        return sample_on_policy_answers(generator, layout, tokens, context.recipe.seed)


def _invocation(context: RunContext, examples: Sequence[TokenizedExample]) -> list[int]:
    """The tokens of the invocation, which every example contains; empty if the adapter is always active.

    Raises:
        ModelError: if a prompt lacks them, or solutions or the retention suite contain them.
    """
    text = context.recipe.retain.invocation
    if not text:
        return []
    tokens = invocation_tokens(context.models.tokenizer, context.prompt, text)
    for row in examples:
        start = last_occurrence(row.tokens, tokens)
        if start is None or start >= row.loss_mask.index(True):
            raise ModelError(
                f"{row.name}: the invocation {text!r} is not tokenized in this prompt as in others, or its solution "
                "contains it too; choose another retain.invocation, or remove the row"
            )
    layout = ChatLayout(context.models.tokenizer, context.final.fallback)
    unchanged_prompts.check_uninvoked(unchanged_prompts.suite_prompts(layout), tokens)
    return tokens


@contextmanager
def _trackers(context: RunContext) -> Iterator[Trackers]:
    """The recipe's experiment trackers, on the first process."""
    names = context.recipe.train.trackers if context.processes.is_main else ()
    trackers = Trackers(names, context.directory.tracking, context.recipe.name, context.reporter.info)
    try:
        yield trackers
    finally:
        trackers.finish()
