"""The trainings of two processes for test_distributed.py. torchrun runs this script once, because starting is slow.

Arguments: the model folder, and the folder for the run directories and for a report of each process.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import tiny
import torch
from torch.distributed.tensor import DTensor
from training.test_loop import EXAMPLES, WORDS, StepRecord, Trainer

from keeptune.config.retain import RetainSection
from keeptune.errors import KeeptuneError
from keeptune.generation.distributed import DistributedGenerator, answer_together
from keeptune.generation.engine import never_stop
from keeptune.training import replay
from keeptune.training.batches import TokenizedExample
from keeptune.training.distributed import distributed_context, end_process

STOP_AT = 3
RETAIN = ("kl_weight", "kl_tokens", "replay_target", "token_weighting")
BAD = TokenizedExample("rows.jsonl:666", "add", (5, WORDS.bos_token_id, 7, 8), (False, True, True, True))


def settings(**changes: Any) -> Any:
    """Six steps. The learning rate is low, so that rounding stays below the tolerance of the comparison."""
    return tiny.settings(**{"learning_rate": 0.001, "score_every_steps": 3, **changes})


def make_trainer(model_folder: Path, run: Path, family: str = "", dropout: float = 0.0, **changes: Any) -> Trainer:
    """A trainer on the rows of test_loop.py, or on some of them with another family."""
    run.mkdir(exist_ok=True)
    model = tiny.load(model_folder)
    tuned = tiny.moved(tiny.tune_as(model, family)) if family else tiny.tune(model, dropout=dropout)
    rows = EXAMPLES[:10] if family else EXAMPLES
    if (
        changes.get("kl_tokens") == "replay"
    ):  # every third row, so that one process has such rows and the other has none
        rows = [replace(row, kind=replay.REPLAY_KIND) if number % 3 == 0 else row for number, row in enumerate(rows)]
    retain = RetainSection(**{name: changes.pop(name) for name in RETAIN if name in changes})
    return Trainer(tuned, rows, settings(**changes), seed=3, run=run, retain=retain)


def answers(trainer: Trainer) -> Callable[[int], dict[str, Any] | None]:
    """A score function as the training stage has it: all processes answer, with prepacked weights."""

    def generator() -> DistributedGenerator:
        return DistributedGenerator(trainer.peft_model.eval(), WORDS, distributed_context())

    def score(_: int) -> dict[str, Any] | None:
        def work() -> dict[str, Any]:
            prompts = [list(example.tokens[:20]) for example in EXAMPLES[:3]]
            generated = generator().answer(prompts, [6, 6, 6], never_stop)
            return {"answers": [answer.text for answer in generated]}

        return answer_together(distributed_context(), generator, work)

    return score


def interrupt(step: StepRecord) -> None:
    """Sends a signal to the second process only."""
    if step.step == STOP_AT and distributed_context().rank == 1:
        os.kill(os.getpid(), signal.SIGTERM)


def watch_nothing(step: StepRecord) -> None:
    pass


def main(model_folder: Path, folder: Path) -> None:
    report: dict[str, Any] = {}

    def train(
        name: str, on_step: Callable[[StepRecord], None] = watch_nothing, bad: bool = False, **changes: Any
    ) -> None:
        trainer = make_trainer(model_folder, folder / name.partition(" ")[0], **changes)
        if bad:
            trainer = Trainer(trainer.peft_model, [*EXAMPLES, BAD], settings(tokens_per_batch=1), 3, folder / name)
            trainer.peft_model.get_input_embeddings().weight.data[WORDS.bos_token_id] = float("nan")
        try:
            trainer.run(on_step, answers(trainer))
        except KeeptuneError as error:
            report[name] = [error.exit_code, str(error)]
        if trainer.engine.sharded_model:
            frozen = [
                p for block in trainer.engine.sharded_model.blocks for p in block.parameters() if not p.requires_grad
            ]
            local = sum(p.to_local().numel() for p in frozen if isinstance(p, DTensor))
            report[f"{name}: local share of the blocks"] = local / sum(
                p.numel() for p in frozen if isinstance(p, DTensor)
            )

    train("plain")
    train("resumed")
    train("interrupted", interrupt)
    train("interrupted-two", interrupt)
    train("interrupted-two again")
    train("dropout", dropout=0.2)
    report["dropout's seed"] = torch.initial_seed()
    train("dropout-interrupted", interrupt, dropout=0.2)
    train("dropout-interrupted again", dropout=0.2)
    train("nan", bad=True)
    train("held", kl_weight=0.5, kl_tokens="prompts")
    train("sharded", shard=True)
    train("sharded-held", shard=True, kl_weight=0.5, kl_tokens="prompts")
    train("sharded-held-on-replay", shard=True, kl_weight=0.5, kl_tokens="replay")
    train("weighted", token_weighting="eaft", kl_weight=0.5, kl_tokens="non_target")
    train("sharded-masked", shard=True, token_weighting="low_perplexity")
    train("distribution", kl_weight=0.5, kl_tokens="replay", replay_target="distribution")
    train("sharded-interrupted", interrupt, shard=True)
    train("sharded-interrupted again", shard=True)
    for family in tiny.FAMILIES:
        train(f"family-{family}", shard=True, family=family, score_every_steps=0)
    if distributed_context().rank == 0:  # the other process has ended or is about to
        try:
            distributed_context().barrier()
        except KeeptuneError as error:
            report["left alone"] = [error.exit_code, str(error)]
    (folder / f"said-{distributed_context().rank}.json").write_text(json.dumps(report), encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
    end_process(0)
