"""The selection stage: copies the selected checkpoint to adapter/, with its prompt and scale beside it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from keeptune.files import atomic_folder, read_json, write_json
from keeptune.generation.engine import Generator
from keeptune.models import adapter_metadata, load
from keeptune.pipeline.checkpoint_selection import select_checkpoint
from keeptune.pipeline.context import RunContext
from keeptune.pipeline.run_manifest import add_adapter_hashes, restore_manifest
from keeptune.run_files.directory import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from keeptune.run_files.result import Chosen


def run_selection_stage(context: RunContext) -> None:
    """Selects a checkpoint and a scale by dev scores, copies the adapter, and adds its hash to the manifest."""
    directory, recipe, models = context.directory, context.recipe, context.models
    with context.stage("select"):
        chosen = select_checkpoint(
            directory.checkpoints,
            recipe,
            context.dev,
            None if models.tuned is None else _generator(context, models.tuned),
            lambda folder: _generator(context, models.with_adapter(folder)),
        )
        checkpoint = directory.checkpoints / chosen["checkpoint"]
        with atomic_folder(directory.adapter) as scratch:
            for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
                shutil.copy(checkpoint / name, scratch / name)
            _name_base_model(scratch / ADAPTER_CONFIG, recipe.model.name)
            write_json(scratch / directory.chosen.name, Chosen.checked(chosen))
            adapter_metadata.save(_metadata(context, chosen["scale"]), scratch)
        restore_manifest(context)
        add_adapter_hashes(context)
        if recipe.adapter.family == "pissa":
            context.reporter.info("adapter/ is a plain LoRA of twice the rank, for the unchanged base weights")


def _generator(context: RunContext, model: Any) -> Generator:
    """A generator of this process alone: the others do not hold the candidates."""
    return Generator(model.eval(), context.models.tokenizer)


def _metadata(context: RunContext, scale: float) -> adapter_metadata.AdapterMetadata:
    model, skill, budgets = context.recipe.model, context.recipe.data.skill, context.final.budgets()
    return adapter_metadata.AdapterMetadata(
        model.name,
        skill,
        context.prompt,
        budgets,
        scale,
        model.dtype,
        model.quantization,
        context.models.identity,
        context.final.grader,
        context.recipe.data.columns,
    )


def _name_base_model(config: Path, name: str) -> None:
    """PEFT stores the base model's local path, which has no meaning on another machine."""
    hub_id = load.EMBEDDED_HUB_ID if name == load.EMBEDDED else name
    write_json(config, read_json(config) | {"base_model_name_or_path": hub_id})
