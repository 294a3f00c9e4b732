"""The training loop. It runs the plan of batches, and writes checkpoints and a log.

An interrupted training that is run again ends with the same bytes as an uninterrupted one. An engine computes the
steps (`step_engine.py`). The loss is logged per kind, because a mean over all kinds hides one that is not learned. With
several processes, all take the same steps, and rank 0 writes all files.
"""

from __future__ import annotations

import hashlib
import json
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import torch

from keeptune.config.retain import RetainSection
from keeptune.config.train import TrainSection
from keeptune.errors import Interrupted, RunError, TrainingError
from keeptune.event_log import EventLog
from keeptune.files import read_regular_bytes, write_text
from keeptune.models.activation_checkpointing import ActivationCheckpointing
from keeptune.models.adapters import added_parameters
from keeptune.models.allocator import keep_freed_memory
from keeptune.run_files.directory import RunDirectory
from keeptune.training import checkpoints
from keeptune.training.batches import Batch, TokenizedExample, padded_tokens, plan_steps, rows_sha256
from keeptune.training.distributed import distributed_context
from keeptune.training.schedule import learning_rate
from keeptune.training.step_engine import StepEngine, TorchEngine

ScoreFunction = Callable[[int], dict[str, Any] | None]
"""Evaluates the model in its state after a step, in all processes together. The result of the first one is logged."""

StopCriterion = Callable[[], bool]
"""Early stopping: whether the scores so far end the training."""


@dataclass(frozen=True, slots=True)
class StepRecord:
    """The result of one step, as logged and displayed. Losses and divergence are in nats per token."""

    step: int
    total_steps: int
    tokens: int
    loss: float
    loss_by_kind: dict[str, float]
    divergence: float | None
    kl_weight: float | None
    learning_rate: float
    grad_norm: float
    tokens_per_second: float
    seconds: float


class Trainer:
    """Trains the adapter of one model on one list of examples, into one run directory."""

    def __init__(
        self,
        model: Any,
        examples: Sequence[TokenizedExample],
        settings: TrainSection,
        seed: int,
        run: Path,
        checkpointing: ActivationCheckpointing = ActivationCheckpointing(math.inf),  # noqa: B008  (frozen)
        retain: RetainSection = RetainSection(),  # noqa: B008  (frozen)
        engine: StepEngine | None = None,
    ) -> None:
        untrainable = [example.name for example in examples if not any(example.loss_mask)]
        if untrainable:
            raise TrainingError(f"{', '.join(untrainable[:5])}: no target token to train on; remove these rows")
        self.examples, self.settings, self.seed, self.checkpointing = examples, settings, seed, checkpointing
        directory = RunDirectory(run)
        self.folder, self.event_log = directory.checkpoints, EventLog(directory.event_log)
        self.lengths = [len(example.tokens) for example in examples]
        self.rows_sha256 = rows_sha256(examples)
        epochs = settings.epochs_of(sum(self.lengths))
        self.plan = plan_steps(self.lengths, settings.tokens_per_step, settings.tokens_per_batch, epochs, seed)
        self.context = distributed_context()
        replay_counts = retain.replay_target == "tokens"
        targets = [sum(row.loss_mask) if replay_counts or not row.is_replay else 0 for row in examples]
        self.step_tokens, self.step_targets = (
            [sum(counts[i] for batch in step for i in batch) for step in self.plan]
            for counts in (self.lengths, targets)
        )
        self._require_same_plan()
        self.peft_model = model
        self.engine = engine or TorchEngine(model, examples, settings, seed, checkpointing, retain)
        # After the engine: sharding replaces the parameters of a model.
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.scored_steps: set[int] = set()
        torch.manual_seed(seed)

    @property
    def checkpointed_batches(self) -> int:
        """The number of batches of the whole training that use activation checkpointing."""
        sizes = (padded_tokens(batch, self.lengths) for step in self.plan for batch in step)
        return sum(map(self.checkpointing.applies_to, sizes))

    def run(
        self,
        on_step: Callable[[StepRecord], None],
        score: ScoreFunction | None = None,
        should_stop: StopCriterion | None = None,
    ) -> checkpoints.Progress:
        """Trains to the end of the plan, or until `should_stop`. Resumes from the newest complete checkpoint.

        Args:
            on_step: called after each step.
            score: evaluates the model at the recipe's interval.
            should_stop: called after each evaluation.

        Raises:
            TrainingError: if a loss, a gradient or a weight is not finite; names the rows.
            Interrupted: on SIGTERM or SIGINT, after a checkpoint has been saved.
            RunError: if a checkpoint cannot be written, or does not belong to these rows. Older checkpoints remain.
        """
        keep_freed_memory()
        progress = self._resume()
        try:
            self.engine.start()
            return self._run_from(progress, on_step, score, should_stop)
        finally:
            self.engine.stop()

    def _run_from(
        self,
        progress: checkpoints.Progress,
        on_step: Callable[[StepRecord], None],
        score: ScoreFunction | None,
        should_stop: StopCriterion | None,
    ) -> checkpoints.Progress:
        self.context.broadcast_from_main(list(added_parameters(self.peft_model).values()))
        with _stop_signals() as signals:
            # The run may have been interrupted between a checkpoint and its score.
            self._score(progress.step, score)
            for index in range(progress.step, len(self.plan)):
                if self._should_stop(index, should_stop):
                    break
                started = time.perf_counter()
                record = self._step(index)
                seconds = progress.seconds + time.perf_counter() - started
                tokens = progress.tokens + record.tokens
                progress = checkpoints.Progress(
                    record.step, tokens, seconds, self.engine.loss_scale, kl_weight=self.engine.kl_weight
                )
                self._log({"event": "train", **_logged(record, progress)})
                on_step(record)
                self._save_if_due(progress, signals)
                self._score(record.step, score)
            # A signal that arrives at the end, or during the last score, stops the stages after training.
            if any(self.context.all_gather(bool(signals))):
                raise Interrupted("training is complete and saved; run the same command again to continue")
        return progress

    def _save_if_due(self, progress: checkpoints.Progress, signals: list[int]) -> None:
        """Saves a checkpoint if one is due or a signal has arrived.

        Raises:
            Interrupted: if a signal has arrived in any process before the last step.
        """
        step, last = progress.step, len(self.plan)
        # Scored steps are candidates of checkpoint selection, so they are saved.
        is_due = step == last or step % self.settings.checkpoint_every_steps == 0 or self._is_score_due(step)
        # Signals are read once: a signal that arrived between two reads would announce a checkpoint that is not saved.
        is_stopping = any(self.context.all_gather(bool(signals))) and step < last
        if is_due or is_stopping:
            self._save(progress)
        if is_stopping:
            raise Interrupted(f"stopped and saved after step {step} of {last}; run the same command again to continue")

    def _is_score_due(self, step: int) -> bool:
        interval = self.settings.score_every_steps
        return interval > 0 and 0 < step < len(self.plan) and step % interval == 0

    def _score(self, step: int, score: ScoreFunction | None) -> None:
        """Evaluates the model after a step and logs the result, if that is due and not yet done."""
        if score and self._is_score_due(step) and step not in self.scored_steps:
            with self.engine.gathered():
                scores = score(step)
                if scores is not None:
                    self._log({"event": "score", "step": step, **scores})
                self.context.barrier()
            self.scored_steps.add(step)

    def _should_stop(self, step: int, should_stop: StopCriterion | None) -> bool:
        """Whether early stopping applies after a scored step. A resumed training asks again."""
        if should_stop is None or not self._is_score_due(step):
            return False
        return any(self.context.all_gather(self.context.is_main and should_stop()))

    def _save(self, progress: checkpoints.Progress) -> None:
        self.engine.synchronize(progress.step)
        if not bool(torch.stack([torch.isfinite(parameter).all() for parameter in self.parameters]).all()):
            raise TrainingError(
                f"step {progress.step}: the weights after this step are not finite; nothing of it is saved. "
                "Start a new run with a lower train.learning_rate"
            )
        if self.context.is_main:
            hashed = replace(progress, rows_sha256=self._plan_sha256(progress.step))
            checkpoints.save(self.folder, self.peft_model, self.engine.optimizer, hashed)
        self.context.barrier()

    def _resume(self) -> checkpoints.Progress:
        is_main = self.context.is_main
        # Rank 0 looks for all, because processes may see files at different times.
        newest = self.context.all_gather(checkpoints.latest(self.folder) if is_main else None)[0]
        if newest is None:
            progress = checkpoints.Progress(0, 0, 0.0)
        else:
            progress = checkpoints.restore(newest, self.peft_model, self.engine.optimizer)
            if progress.rows_sha256 not in (None, self._plan_sha256(progress.step)):
                raise RunError(
                    f"{newest}: the training rows or their order have changed since this checkpoint; restore the files "
                    "of retain.replay and the version of keeptune, or start a new run"
                )
            self.engine.loss_scale = progress.loss_scale
            if progress.kl_weight is not None:
                self.engine.kl_weight = progress.kl_weight
        self.scored_steps = self.context.all_gather(self._truncate_log(progress.step) if is_main else set())[0]
        return progress

    def _plan_sha256(self, step: int) -> str:
        """The hash of all rows and of the plan up to a step. With another hash, resuming would train differently."""
        return hashlib.sha256(f"{self.rows_sha256} {self.plan[:step]}".encode()).hexdigest()

    def _truncate_log(self, step: int) -> set[int]:
        """Removes later steps from the log, because they will run again. Returns the steps that have a score."""
        if not self.event_log.path.is_file():
            return set()
        lines = read_regular_bytes(self.event_log.path).decode(errors="replace").split("\n")
        # Not splitlines: it also splits at U+2028 and similar characters, which JSON strings may contain.
        remaining = [line for line in lines if line and _step_of(line) <= step]
        write_text(self.event_log.path, "".join(f"{line}\n" for line in remaining))
        return {_step_of(line) for line in remaining if json.loads(line).get("event") == "score"}

    def _step(self, index: int) -> StepRecord:
        started = time.perf_counter()
        rate, kl_weight = learning_rate(index, len(self.plan), self.settings), self.engine.kl_weight
        statistics, norm = self.engine.step(index, self.plan[index], self._token_weight(index), rate)
        if statistics.non_finite_batch:
            self._raise_not_finite(index, statistics.non_finite_batch, "loss")
        if not math.isfinite(norm):
            self._raise_not_finite(index, tuple(i for batch in self.plan[index] for i in batch), "gradient")
        seconds, tokens = time.perf_counter() - started, self.step_tokens[index]
        return StepRecord(
            step=index + 1,
            total_steps=len(self.plan),
            tokens=tokens,
            loss=statistics.loss,
            loss_by_kind=statistics.loss_by_kind,
            divergence=statistics.divergence,
            kl_weight=kl_weight if statistics.divergence is not None else None,
            learning_rate=rate,
            grad_norm=norm,
            tokens_per_second=tokens / seconds,
            seconds=seconds,
        )

    def _token_weight(self, index: int) -> float:
        """The weight of each target token of a step.

        With `step_weight: one`, a step counts as the mean over its targets. With `tokens`, that mean is multiplied by
        the step's length relative to the average step. Otherwise, the model would learn each line of a row that is
        longer than a step more slowly than other lines. The length counts all tokens, because rows that practice
        reading have few targets and would hardly count.
        """
        factor = 1.0
        if self.settings.step_weight != "one":
            factor = self.step_tokens[index] * len(self.step_tokens) / sum(self.step_tokens)
        return factor / max(1, self.step_targets[index])

    def _require_same_plan(self) -> None:
        """Raises RunError unless all processes have the same plan."""
        plan_hash = hashlib.sha256(repr((self.plan, self.lengths, self.seed)).encode()).hexdigest()
        if len(set(self.context.all_gather(plan_hash))) > 1:
            raise RunError(
                "the processes of this training have different rows; give all of them the same run directory, "
                "the same model and the same version of keeptune"
            )

    def _raise_not_finite(self, index: int, rows: Batch, what: str) -> NoReturn:
        names = ", ".join(self.examples[i].name for i in rows[:20])
        raise TrainingError(
            f"step {index + 1}: the {what} is not finite; nothing of this step is saved. Rows: {names}. "
            "Lower train.learning_rate, or check these rows"
        )

    def _log(self, event: dict[str, Any]) -> None:
        if self.context.is_main:
            self.event_log.log(event)


def _logged(record: StepRecord, progress: checkpoints.Progress) -> dict[str, Any]:
    return {
        "step": record.step,
        "tokens": progress.tokens,
        "loss": record.loss,
        "loss_by_kind": record.loss_by_kind,
        **({} if record.divergence is None else {"divergence": record.divergence, "kl_weight": record.kl_weight}),
        "learning_rate": record.learning_rate,
        "grad_norm": record.grad_norm,
        "tokens_per_second": record.tokens_per_second,
        "seconds": progress.seconds,
    }


def _step_of(line: str) -> int:
    """The step of a log line. A truncated line counts as later than every step."""
    try:
        return int(json.loads(line).get("step", 0))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return 1 << 62


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Collects SIGTERM and SIGINT in a list instead of ending the process."""
    received: list[int] = []

    def handler(number: int, _: Any) -> None:
        received.append(number)

    previous = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, old_handler in previous.items():
            signal.signal(number, old_handler)
