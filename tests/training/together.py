"""What two processes do together in test_processes.py: torchrun starts this once in each, for starting is what costs.

Arguments: the model's folder, and the folder that gets one run directory a job and what each process saw.
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
from training.test_loop import EXAMPLES, WORDS, Step, Trainer

from keeptune.config.retain import RetainSection
from keeptune.errors import KeeptuneError
from keeptune.generation.engine import Generator
from keeptune.training import replay
from keeptune.training.batches import Example
from keeptune.training.distributed import processes

STOP_AT = 3
RETAIN = ("kl_weight", "kl_tokens", "replay_target", "token_weighting")
BAD = Example("rows.jsonl:666", "add", (5, WORDS.bos_token_id, 7, 8), (False, True, True, True))


def settings(**changes: Any) -> Any:
    """Six steps; what is compared to the fifth digit must not move further than that by rounding alone."""
    return tiny.settings(**{"learning_rate": 0.001, "score_every_steps": 3, **changes})


def make(model_folder: Path, run: Path, family: str = "", dropout: float = 0.0, **changes: Any) -> Trainer:
    """A training of the rows of test_loop.py, or of some of them with one of the other families."""
    run.mkdir(exist_ok=True)
    model = tiny.load(model_folder)
    tuned = tiny.moved(tiny.tune_as(model, family)) if family else tiny.tune(model, dropout=dropout)
    rows = EXAMPLES[:10] if family else EXAMPLES
    if changes.get("kl_tokens") == "replay":  # a row in three, so that one process has one where the other has none
        rows = [replace(row, kind=replay.KIND) if number % 3 == 0 else row for number, row in enumerate(rows)]
    retain = RetainSection(**{name: changes.pop(name) for name in RETAIN if name in changes})
    return Trainer(tuned, rows, settings(**changes), seed=3, run=run, retain=retain)


def answers(made: Trainer) -> Callable[[int], dict[str, Any]]:
    """A score that asks the model as scores do: with weights packed anew, by one process alone."""

    def score(_: int) -> dict[str, Any]:
        prompts = [list(example.tokens[:20]) for example in EXAMPLES[:3]]
        written = Generator(made.peft_model.eval(), WORDS).answer(prompts, [6, 6, 6], stop=lambda _: False)
        return {"answers": [answer.text for answer in written]}

    return score


def interrupt(step: Step) -> None:
    """The second process is asked to stop, and the first is not."""
    if step.step == STOP_AT and processes().number == 1:
        os.kill(os.getpid(), signal.SIGTERM)


def watch_nothing(step: Step) -> None:
    pass


def main(model_folder: Path, folder: Path) -> None:
    said: dict[str, Any] = {}

    def go(name: str, on_step: Callable[[Step], None] = watch_nothing, bad: bool = False, **changes: Any) -> None:
        made = make(model_folder, folder / name.partition(" ")[0], **changes)
        if bad:
            made = Trainer(made.peft_model, [*EXAMPLES, BAD], settings(tokens_per_batch=1), 3, folder / name)
            made.peft_model.get_input_embeddings().weight.data[WORDS.bos_token_id] = float("nan")
        try:
            made.run(on_step, answers(made))
        except KeeptuneError as error:
            said[name] = [error.exit_code, str(error)]
        if made.shards:
            frozen = [p for block in made.shards.blocks for p in block.parameters() if not p.requires_grad]
            here = sum(p.to_local().numel() for p in frozen if isinstance(p, DTensor))
            said[f"{name}: own share of the blocks"] = here / sum(p.numel() for p in frozen if isinstance(p, DTensor))

    go("plain")
    go("resumed")
    go("interrupted", interrupt)
    go("interrupted-two", interrupt)
    go("interrupted-two again")
    go("dropout", dropout=0.2)
    said["dropout's seed"] = torch.initial_seed()
    go("dropout-interrupted", interrupt, dropout=0.2)
    go("dropout-interrupted again", dropout=0.2)
    go("nan", bad=True)
    go("held", kl_weight=0.5, kl_tokens="prompts")
    go("sharded", shard=True)
    go("sharded-held", shard=True, kl_weight=0.5, kl_tokens="prompts")
    go("sharded-held-on-replay", shard=True, kl_weight=0.5, kl_tokens="replay")
    go("weighted", token_weighting="eaft", kl_weight=0.5, kl_tokens="non_target")
    go("sharded-masked", shard=True, token_weighting="low_perplexity")
    go("distribution", kl_weight=0.5, kl_tokens="replay", replay_target="distribution")
    go("sharded-interrupted", interrupt, shard=True)
    go("sharded-interrupted again", shard=True)
    for family in tiny.FAMILIES:
        go(f"family-{family}", shard=True, family=family, score_every_steps=0)
    if processes().number == 0:  # the other one is gone by now, or soon
        try:
            processes().wait()
        except KeeptuneError as error:
            said["left alone"] = [error.exit_code, str(error)]
    (folder / f"said-{processes().number}.json").write_text(json.dumps(said), encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
