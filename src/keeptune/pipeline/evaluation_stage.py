"""The evaluation stage: base and tuned answer all held-out questions; one record per answer goes to scores/."""

from __future__ import annotations

from keeptune.config.retain import WRITTEN
from keeptune.data.split import SPLITS
from keeptune.evaluation.fingerprint import record_cache
from keeptune.files import file_sha256, read_json, write_json
from keeptune.generation import vllm
from keeptune.generation.distributed import DistributedGenerator
from keeptune.models import adapter_metadata
from keeptune.pipeline.context import RunContext
from keeptune.run_files.manifest import Manifest


def run_evaluation_stage(context: RunContext) -> None:
    """Evaluates what has no records yet, and adds the hashes of all files behind the result to the manifest."""
    directory = context.directory
    with context.stage("score"):
        cache = record_cache(context.models.base(), context.models.tokenizer)
        generator = tuned_generator(context)
        context.final.score(generator, directory.adapter, adapter_metadata.load(directory.adapter).scale, cache)
        manifest = read_json(directory.manifest)
        manifest["packages"] |= generator.packages
        manifest["hashes"] |= {name: file_sha256(directory.root / name) for name in hashed_files(context)}
        write_json(directory.manifest, Manifest.checked(manifest))


def tuned_generator(context: RunContext) -> DistributedGenerator:
    """A generator for the base with the selected adapter."""
    config, adapter = context.recipe.model, context.directory.adapter
    served = vllm.ServedModel(config.name, config.dtype, config.quantization, adapter)
    tuned = context.models.with_adapter(adapter)
    return vllm.open_generator(tuned, context.models.tokenizer, context.processes, served)


def hashed_files(context: RunContext) -> list[str]:
    """The files that determine the result, relative to the run directory. The manifest has their hashes."""
    directory, retain = context.directory, context.recipe.retain
    paths = [directory.examples(part) for part in SPLITS]
    paths += [directory.replayed_answers(source) for source in WRITTEN if retain.replays(source)]
    paths += [directory.adapter_config, *context.final.paths()]
    return [directory.relative(path) for path in paths]
