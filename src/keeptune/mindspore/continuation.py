"""A run as a folder that MindFormers goes on from: base and adapter in one checkpoint, configurations, rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import AutoConfig

from keeptune.config import recipe as recipes
from keeptune.data.preparation import load_examples
from keeptune.errors import ModelError
from keeptune.files import write_json, write_records, write_text
from keeptune.mindspore import ckpt
from keeptune.mindspore import tensor_names as names
from keeptune.mindspore.finetune_configuration import CHECKPOINT, CONVERSATIONS, QUESTIONS, Handover, conversations
from keeptune.mindspore.run_rows import padding_token
from keeptune.mindspore.tensors import stored
from keeptune.models import adapter as adapters
from keeptune.models import load as models
from keeptune.models.adapter_metadata import AdapterCard
from keeptune.prompts.named import conversation_template


def write(card: AdapterCard, run: Path, tuned: Any, tokenizer: Any, out: Path) -> None:
    """Adds to `out`, which holds adapter.ckpt and pet_config.yaml, all that is needed to go on with the run.

    errors: ModelError when `run` is no run's folder, or its model none that MindFormers knows.
    """
    if not (run / "recipe.yaml").is_file():
        raise ModelError(f"{run}: an adapter does not say how it was trained; give the folder of its run")
    recipe = recipes.load_stored(run / "recipe.yaml")
    rows, asked = (load_examples(run / "data" / f"{part}.parquet") for part in ("train", "test"))
    base = AutoConfig.from_pretrained(models.resolve(card.model))
    lora = yaml.safe_load((out / "pet_config.yaml").read_text(encoding="utf-8"))["pet_config"]
    longest = max([*card.budgets.values(), *(row.solution_tokens for row in rows)])
    for name, text in Handover(recipe, rows, base, lora, longest, padding_token(tokenizer)).files().items():
        write_text(out / name, text)
    halves = ckpt.read(out / "adapter.ckpt")
    weights = names.exported(adapters.base_weights(tuned))
    dtype = base.dtype or torch.float32
    ckpt.write(out / CHECKPOINT, [*halves.values(), *(stored(name, own.to(dtype)) for name, own in weights.items())])
    write_records(out / QUESTIONS, [{"problem": card.prompt.render(row.problem)} for row in asked])
    if human := conversation_template(card.prompt):
        write_json(out / CONVERSATIONS, conversations(human, rows))
