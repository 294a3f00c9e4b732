"""Exports a run to a folder from which MindFormers continues training: checkpoint, configurations and rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import yaml

from keeptune.config import recipe as recipes
from keeptune.data.preparation import load_prepared_rows
from keeptune.errors import ModelError
from keeptune.files import write_records, write_text
from keeptune.mindspore import ckpt
from keeptune.mindspore.finetune_configuration import CHECKPOINT, CONVERSATIONS, QUESTIONS, FinetuneFiles, conversations
from keeptune.mindspore.run_rows import padding_token
from keeptune.mindspore.tensor_names import rename_to_mindformers
from keeptune.mindspore.tensors import to_ckpt
from keeptune.models import adapters
from keeptune.models import load as models
from keeptune.models.adapter_metadata import AdapterMetadata
from keeptune.prompts.named import conversation_template
from keeptune.run_files.directory import RunDirectory


def write_continuation(card: AdapterMetadata, run: Path, tuned: Any, tokenizer: Any, out: Path) -> None:
    """Adds the files to continue the run to `out`, which already holds adapter.ckpt and pet_config.yaml.

    Raises:
        ModelError: when `run` is not a run directory, or MindFormers' Llama does not support its model.
    """
    directory = RunDirectory(run)
    if not directory.is_run:
        raise ModelError(f"{run}: there is no recipe.yaml; give the run directory, not only its adapter")
    recipe = recipes.load_stored(directory.recipe)
    rows, questions = (load_prepared_rows(directory.examples(split)) for split in ("train", "test"))
    base = models.load_config(card.model)
    lora = yaml.safe_load((out / "pet_config.yaml").read_text(encoding="utf-8"))["pet_config"]
    longest = max([*card.budgets.values(), *(row.solution_tokens for row in rows)])
    files = FinetuneFiles(recipe, rows, base, lora, longest, padding_token(tokenizer)).texts()
    for name, text in files.items():
        write_text(out / name, text)
    lora_tensors = ckpt.read(out / "adapter.ckpt")
    weights = rename_to_mindformers(adapters.base_weights(tuned))
    dtype = base.dtype or torch.float32
    base_tensors = (to_ckpt(name, tensor.to(dtype)) for name, tensor in weights.items())
    ckpt.write(out / CHECKPOINT, [*lora_tensors.values(), *base_tensors])
    write_records(
        out / QUESTIONS, [{"problem": card.prompt.render(row.problem, row.conversation)} for row in questions]
    )
    if human_turn := conversation_template(card.prompt):
        write_text(
            out / CONVERSATIONS, json.dumps(conversations(human_turn, rows), ensure_ascii=False, indent=1) + "\n"
        )
