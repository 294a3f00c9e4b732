"""manifest.json of a run: written by the training stage, completed by later stages, rebuilt where it is missing."""

from __future__ import annotations

from typing import Any

from keeptune import environment
from keeptune.config.retain import WRITTEN
from keeptune.data.split import SPLITS
from keeptune.files import Record, file_sha256, read_json, write_json
from keeptune.models import adapters, load
from keeptune.pipeline.context import RunContext
from keeptune.run_files.card import Card
from keeptune.run_files.manifest import Manifest


def write_manifest(context: RunContext, model: Any, weights_sha256: str) -> None:
    """Writes the manifest of a run with the hashes of its inputs. `model` is the base with the adapter."""
    hashes = {
        "recipe": file_sha256(context.directory.recipe),
        "data": read_json(context.directory.data_card, Card)["data_sha256"],
        "prompt": context.prompt.sha256,
        "weights": weights_sha256,
    }
    counts = adapters.count_parameters(model)
    _write(
        context,
        {
            **environment.manifest(hashes, context.recipe.seed),
            "parameters": {"trainable": counts.trainable, "total": counts.total},
            "base": context.models.identity.model_dump(),
        },
    )


def restore_manifest(context: RunContext) -> None:
    """Builds a missing manifest again from the files of a run that has an adapter.

    Versions and machine are those of this process.
    """
    directory = context.directory
    if directory.manifest.is_file():
        return
    context.reporter.info("manifest.json is missing; it is built again from the files of the run")
    base = context.models.base()
    weights_sha256 = load.weights_sha256(base)
    # A new adapter has as many parameters as the trained one; the selected one may be stored in another family.
    context.models.tuned = adapters.attach(base, context.recipe.adapter, context.recipe.seed)
    write_manifest(context, context.models.tuned, weights_sha256)
    add_adapter_hashes(context)
    if context.final.complete():
        add_file_hashes(context, {})


def read_manifest(context: RunContext) -> Record:
    """The manifest.

    Raises:
        RunError: when it is missing or damaged.
    """
    return read_json(context.directory.manifest, Manifest)


def add_adapter_hashes(context: RunContext) -> None:
    """Adds the hashes of the selected adapter's files."""
    directory, manifest = context.directory, read_manifest(context)
    paths = directory.adapter_config, directory.adapter_metadata, directory.chosen
    manifest["hashes"] |= {directory.relative(path): file_sha256(path) for path in paths}
    manifest["hashes"]["adapter"] = file_sha256(directory.adapter_weights)
    _write(context, manifest)


def add_file_hashes(context: RunContext, packages: Record) -> None:
    """Adds the hashes of all files behind the result, and the versions of further packages."""
    manifest = read_manifest(context)
    manifest["packages"] |= packages
    manifest["hashes"]["adapter"] = file_sha256(context.directory.adapter_weights)
    manifest["hashes"] |= {name: file_sha256(context.directory.root / name) for name in hashed_files(context)}
    _write(context, manifest)


def hashed_files(context: RunContext) -> list[str]:
    """The files that determine the result, relative to the run directory."""
    directory, retain = context.directory, context.recipe.retain
    paths = [directory.examples(part) for part in SPLITS]
    paths += [directory.replayed_answers(source) for source in WRITTEN if retain.replays(source)]
    paths += [directory.inputs] if directory.inputs.is_file() else []  # older runs have none
    paths += [directory.data_card, directory.rejected_rows]
    paths += [directory.adapter_config, directory.adapter_metadata, directory.chosen, *context.final.paths()]
    return [directory.relative(path) for path in paths]


def _write(context: RunContext, manifest: Record) -> None:
    write_json(context.directory.manifest, Manifest.checked(manifest))
