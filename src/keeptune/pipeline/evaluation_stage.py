"""The evaluation stage: base and tuned answer all held-out questions; one record per answer goes to scores/."""

from __future__ import annotations

from keeptune.data.card import data_sha256
from keeptune.data.preparation import load_prepared_rows
from keeptune.data.split import SPLITS
from keeptune.errors import RunError
from keeptune.evaluation.fingerprint import record_cache
from keeptune.evaluation.run_integrity import check_files
from keeptune.files import read_json
from keeptune.generation import vllm
from keeptune.generation.distributed import DistributedGenerator
from keeptune.models import adapter_metadata
from keeptune.pipeline.context import RunContext
from keeptune.pipeline.run_manifest import add_file_hashes, restore_manifest
from keeptune.run_files.card import Card


def run_evaluation_stage(context: RunContext) -> None:
    """Evaluates what has no records yet, and adds the hashes of all files behind the result to the manifest."""
    directory = context.directory
    with context.stage("score"):
        restore_manifest(context)
        check_files(directory)
        _check_rows(context)
        cache = record_cache(context.models.base(), context.models.tokenizer)
        generator = tuned_generator(context)
        context.final.score(generator, directory.adapter, adapter_metadata.load(directory.adapter).scale, cache)
        add_file_hashes(context, generator.packages)


def _check_rows(context: RunContext) -> None:
    """Raises RunError when the prepared rows are not those of the data stage."""
    directory = context.directory
    rows = {split: load_prepared_rows(directory.examples(split)) for split in SPLITS}
    stored, current = read_json(directory.data_card, Card)["data_sha256"], data_sha256(rows)
    if stored != current:
        raise RunError(
            f"{directory.data}: the rows differ from what the data stage wrote (SHA-256 {stored} in card.json, "
            f"{current} now); restore the folder, or start a new run with --run"
        )


def tuned_generator(context: RunContext) -> DistributedGenerator:
    """A generator for the base with the selected adapter."""
    config, adapter = context.recipe.model, context.directory.adapter
    served = vllm.ServedModel(config.name, config.dtype, config.quantization, adapter)
    tuned = context.models.with_adapter(adapter)
    return vllm.open_generator(tuned, context.models.tokenizer, context.processes, served)
