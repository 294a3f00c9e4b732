"""The files that a recipe names, with their hashes: a stored stage is used again only while its inputs are the same.

The data card has the hashes of the rows and test problems. `inputs.json` has those of all other files: excluded
problems, reading questions, general texts, replay sources, and the start adapter.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from keeptune.config.recipe import Recipe
from keeptune.config.retain import WRITTEN
from keeptune.data.hub import is_hub_name
from keeptune.data.sources import list_source_files, resolve_sources
from keeptune.errors import DataError, RunError
from keeptune.files import file_sha256, read_json, sha256_if_file, write_json
from keeptune.run_files.card import Card, SourceFile
from keeptune.run_files.directory import ADAPTER_CONFIG, ADAPTER_WEIGHTS, RunDirectory
from keeptune.run_files.inputs import Inputs

EMBEDDED = "embedded"


@dataclass(frozen=True, slots=True)
class StoredSources:
    """The input files of a run: those of data/card.json, and those of inputs.json."""

    card: list[SourceFile]
    others: list[SourceFile]


def store_input_files(directory: RunDirectory, recipe: Recipe) -> None:
    """Writes inputs.json, which replaces that of an earlier attempt.

    Raises:
        DataError, RunError: when a file cannot be read.
    """
    write_json(directory.inputs, Inputs.checked({"files": _other_files(recipe)}))


def check_input_files(directory: RunDirectory, recipe: Recipe) -> None:
    """Checks that the inputs of a run whose data stage is complete have not changed since.

    Files that are no longer there are not compared: prepared rows do not need their sources. Neither are data sets of
    a hub, which would have to be loaded.

    Raises:
        RunError: naming the first file that was changed or added.
    """
    sources = stored_sources(directory)
    for source in (*sources.card, *sources.others):
        path = Path(source.file)
        if (sha256 := sha256_if_file(path)) not in (source.sha256, None):
            raise RunError(
                f"{path}: changed since the data stage of {directory.root} (SHA-256 {source.sha256} then, {sha256} "
                "now); restore the file, or start a new run with --run"
            )
    known = {source.file for source in sources.card}
    for name in _current_rows(recipe):
        if not is_hub_name(name) and name not in known:
            raise RunError(
                f"{name}: added since the data stage of {directory.root}, whose rows do not include it; move it "
                "elsewhere, or start a new run with --run"
            )


def stored_sources(directory: RunDirectory) -> StoredSources:
    """The input files of a run with their hashes. Runs of older versions have only those of the data card."""
    card = read_json(directory.data_card, Card)
    others = Inputs.model_validate(read_json(directory.inputs, Inputs)).files if directory.inputs.is_file() else []
    return StoredSources(
        [SourceFile.model_validate(source) for source in (*card["files"], *card.get("test_files", ()))], others
    )


def _current_rows(recipe: Recipe) -> Iterator[str]:
    """The files that the names of rows and test problems denote now; none where a name matches nothing any more."""
    for name in (*recipe.data.files, *recipe.data.test_files):
        try:
            yield from list_source_files([name])
        except DataError:
            continue


def _other_files(recipe: Recipe) -> list[dict[str, Any]]:
    replay = recipe.retain.replay if recipe.retain.replay_share else ()
    names = (recipe.score.retained, *recipe.score.general, *replay)
    paths = [Path(name) for name in names if name not in (EMBEDDED, *WRITTEN)]
    if recipe.adapter.start:
        paths += [Path(recipe.adapter.start) / name for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS)]
    excluded = [asdict(source) for source in resolve_sources(recipe.data.exclude_files).files]
    return [*excluded, *map(_hashed, dict.fromkeys(paths))]


def _hashed(path: Path) -> dict[str, Any]:
    return {"file": str(path), "sha256": file_sha256(path), "bytes": path.stat().st_size}
