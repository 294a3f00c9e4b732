"""The training loop: plan of batches in, checkpoints and a log out, the same bytes however often it is interrupted.

What a step is, gradient.py computes. The loss is logged per kind, because one kind that is not learnt hides easily in a
mean. Several processes make the same move; what is written, the first one writes.
"""

from __future__ import annotations

import hashlib
import json
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from keeptune.config.retain import RetainSection
from keeptune.config.train import TrainSection
from keeptune.errors import Interrupted, RunError, TrainingError
from keeptune.event_log import EventLog
from keeptune.files import write_text
from keeptune.models.activation_checkpointing import Recompute
from keeptune.models.adapter import added_parameters
from keeptune.models.allocator import keep_freed_memory
from keeptune.models.sharding import Shards
from keeptune.training import checkpoints as checkpoint
from keeptune.training import replay
from keeptune.training.batches import Batch, Example, padded_tokens, rows_sha256, shares, steps
from keeptune.training.distributed import processes
from keeptune.training.gradient import Gradient
from keeptune.training.optimizer import learning_rate, optimiser, set_rate

Score = Callable[[int], dict[str, Any]]
"""Scores the model as it stands at a step; the result is logged."""

Enough = Callable[[], bool]
"""Whether the scores so far say that training on is of no use."""


@dataclass(frozen=True, slots=True)
class Step:
    """What happened in one step, as logged and shown."""

    step: int
    total_steps: int
    tokens: int
    loss: float
    loss_by_kind: dict[str, float]
    divergence: float | None
    learning_rate: float
    grad_norm: float
    tokens_per_second: float
    seconds: float


class Trainer:
    """Trains the adapter of one model on one list of examples, into one folder of checkpoints and one log."""

    def __init__(
        self,
        model: Any,
        examples: Sequence[Example],
        settings: TrainSection,
        seed: int,
        run: Path,
        recompute: Recompute = Recompute(math.inf),  # noqa: B008  (frozen)
        retain: RetainSection = RetainSection(),  # noqa: B008  (frozen)
    ) -> None:
        unsupervised = [example.name for example in examples if not any(example.labelled)]
        if unsupervised:
            raise TrainingError(f"no supervised token in {', '.join(unsupervised[:5])}: nothing to learn from")
        self.examples, self.settings, self.seed, self.recompute = examples, settings, seed, recompute
        self.folder, self.event_log = run / "checkpoints", EventLog(run / "log.jsonl")
        self.lengths = [len(example.tokens) for example in examples]
        self.rows_sha256 = rows_sha256(examples)
        epochs = settings.epochs_of(sum(self.lengths))
        self.plan = steps(self.lengths, settings.tokens_per_step, settings.tokens_per_batch, epochs, seed)
        self.processes = processes()
        taught = retain.replay_target == "tokens"
        supervised = [sum(row.labelled) if taught or row.kind != replay.KIND else 0 for row in examples]
        self.tokens, self.labelled = (
            [sum(counts[i] for batch in step for i in batch) for step in self.plan]
            for counts in (self.lengths, supervised)
        )
        self._require_same_plan()
        divided = settings.shard and self.processes.count > 1
        self.shards = Shards(model, self.processes.mesh()) if divided else None
        self.peft_model = model
        self.gradient = Gradient(model, examples, settings, retain, seed, recompute, self.processes, self.shards)
        self.optimiser = optimiser(model, settings)
        self.scored: set[int] = set()
        torch.manual_seed(seed)

    @property
    def recomputed_batches(self) -> int:
        """How many batches of the whole training compute their activations twice."""
        sizes = (padded_tokens(batch, self.lengths) for step in self.plan for batch in step)
        return sum(map(self.recompute.wanted, sizes))

    def run(
        self, on_step: Callable[[Step], None], score: Score | None = None, enough: Enough | None = None
    ) -> checkpoint.Progress:
        """How far training came: to its end, or to the score that was enough. Resumes from the newest whole checkpoint.

        errors: TrainingError when the loss is not finite, naming the rows; Interrupted on SIGTERM or SIGINT, after
        a checkpoint has been saved; RunError when the disk is full, with the checkpoint before it untouched.
        """
        keep_freed_memory()
        progress = self._resume()
        self.processes.follow_first(list(added_parameters(self.peft_model).values()))
        with _stop_requested() as stop:
            # An interruption may have come between a checkpoint and its score.
            self._score(progress.step, score)
            for index in range(progress.step, len(self.plan)):
                if self._is_enough(index, enough):
                    break
                started = time.perf_counter()
                done = self._step(index)
                tokens, seconds = progress.tokens + done.tokens, progress.seconds + time.perf_counter() - started
                progress = checkpoint.Progress(done.step, tokens, seconds, self.gradient.loss_scale)
                self._log({"event": "train", **_logged(done, progress)})
                on_step(done)
                last = done.step == len(self.plan)
                # What is scored may be chosen, so it is kept.
                due = done.step % self.settings.checkpoint_every_steps == 0 or self._score_due(done.step)
                # Looked at once: a signal between the two questions would claim a checkpoint that is not there.
                stopping = any(self.processes.gather(bool(stop))) and not last
                if last or due or stopping:
                    self._save(progress)
                if stopping:
                    raise Interrupted(
                        f"stopped after step {done.step} of {len(self.plan)}, which is saved; run the "
                        "same command again to go on"
                    )
                self._score(done.step, score)
            # Asked at the end, or during the last score: what comes after training is for the next time.
            if any(self.processes.gather(bool(stop))):
                raise Interrupted("training has come to its end, which is saved; run the same command again to go on")
        return progress

    def _score_due(self, step: int) -> bool:
        every = self.settings.score_every_steps
        return every > 0 and 0 < step < len(self.plan) and step % every == 0

    def _score(self, step: int, score: Score | None) -> None:
        """Logs the score of a step that is due for one and has none."""
        if score and self._score_due(step) and step not in self.scored:
            with self.shards.gathered() if self.shards else nullcontext():
                if self.processes.first:
                    self._log({"event": "score", "step": step, **score(step)})
                self.processes.wait()
            self.scored.add(step)

    def _is_enough(self, step: int, enough: Enough | None) -> bool:
        """Asked where a step has just been scored, or had been before an interruption."""
        if enough is None or not self._score_due(step):
            return False
        return any(self.processes.gather(self.processes.first and enough()))

    def _save(self, progress: checkpoint.Progress) -> None:
        if not all(bool(torch.isfinite(parameter).all()) for parameter in self.gradient.parameters):
            raise TrainingError(
                f"step {progress.step} left weights that are not finite; nothing of it is saved. Lower "
                "train.learning_rate in a new run"
            )
        if self.processes.first:
            known = replace(progress, rows_sha256=self._taken_sha256(progress.step))
            checkpoint.save(self.folder, self.peft_model, self.optimiser, known)
        self.processes.wait()

    def _resume(self) -> checkpoint.Progress:
        first = self.processes.first
        # One looks for all: files that are just being written elsewhere may be seen by one and not by another.
        newest = self.processes.gather(checkpoint.latest(self.folder) if first else None)[0]
        if newest is None:
            progress = checkpoint.Progress(0, 0, 0.0)
        else:
            progress = checkpoint.restore(newest, self.peft_model, self.optimiser)
            if progress.rows_sha256 not in (None, self._taken_sha256(progress.step)):
                raise RunError(
                    f"{newest}: its rows, or their order, were others than they are now; undo what has changed since, "
                    "a file of retain.replay or the version of keeptune, or start a new run"
                )
            self.gradient.loss_scale = progress.loss_scale
        self.scored = self.processes.gather(self._cut_log(progress.step) if first else set())[0]
        return progress

    def _taken_sha256(self, step: int) -> str:
        """The hash of all rows and of the steps so far: what comes next is not what it would be with others."""
        return hashlib.sha256(f"{self.rows_sha256} {self.plan[:step]}".encode()).hexdigest()

    def _cut_log(self, step: int) -> set[int]:
        """The steps that have a score; what the log tells of later steps is taken out, for it will happen again."""
        if not self.event_log.path.is_file():
            return set()
        lines = self.event_log.path.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if _step_of(line) <= step]
        write_text(self.event_log.path, "".join(f"{line}\n" for line in kept))
        return {event["step"] for event in map(json.loads, kept) if event.get("event") == "score"}

    def _step(self, index: int) -> Step:
        batches = self.plan[index]
        rows = tuple(i for batch in batches for i in batch)
        started = time.perf_counter()
        dealt = shares(batches, self.lengths, self.processes.count)
        totals, norm = self.gradient.of(index, dealt, self._token_weight(index))
        if totals.refused:
            self._refuse(index, totals.refused, "the loss is not finite")
        if not math.isfinite(norm):
            self._refuse(index, rows, "the gradient is not finite")
        rate = learning_rate(index, len(self.plan), self.settings)
        set_rate(self.optimiser, rate)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        seconds, tokens = time.perf_counter() - started, self.tokens[index]
        return Step(
            index + 1,
            len(self.plan),
            tokens,
            totals.loss,
            totals.by_kind,
            totals.divergence,
            rate,
            norm,
            tokens / seconds,
            seconds,
        )

    def _token_weight(self, index: int) -> float:
        """What a supervised token of a step counts: the step is their mean, or as many times that as it is long.

        A step of one long row would teach each of its lines more slowly than others do. It is all tokens that make it
        long: rows that practise reading have few supervised ones, and would hardly count.
        """
        times = 1.0 if self.settings.step_weight == "one" else self.tokens[index] * len(self.tokens) / sum(self.tokens)
        return times / max(1, self.labelled[index])

    def _require_same_plan(self) -> None:
        """errors: RunError unless all processes are about to do the same."""
        own = hashlib.sha256(repr((self.plan, self.lengths, self.seed)).encode()).hexdigest()
        if len(set(self.processes.gather(own))) > 1:
            raise RunError(
                "the processes of this training have different rows; all must see the same run directory, "
                "the same model and the same version of keeptune"
            )

    def _refuse(self, index: int, rows: Batch, what: str) -> None:
        names = ", ".join(self.examples[i].name for i in rows[:20])
        raise TrainingError(
            f"step {index + 1}: {what}; nothing of this step is saved. Rows: {names}. "
            "Lower train.learning_rate, or look at these rows"
        )

    def _log(self, event: dict[str, Any]) -> None:
        if self.processes.first:
            self.event_log.log(event)


def _logged(step: Step, progress: checkpoint.Progress) -> dict[str, Any]:
    return {
        "step": step.step,
        "tokens": progress.tokens,
        "loss": step.loss,
        "loss_by_kind": step.loss_by_kind,
        **({} if step.divergence is None else {"divergence": step.divergence}),
        "learning_rate": step.learning_rate,
        "grad_norm": step.grad_norm,
        "tokens_per_second": step.tokens_per_second,
        "seconds": progress.seconds,
    }


def _step_of(line: str) -> int:
    """The step of a log line; a line that was cut off counts as after everything."""
    try:
        return int(json.loads(line).get("step", 0))
    except (ValueError, AttributeError):
        return 1 << 62


@contextmanager
def _stop_requested() -> Iterator[list[int]]:
    """A list that is empty until the process is asked to stop."""
    asked: list[int] = []

    def ask(number: int, _: Any) -> None:
        asked.append(number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
