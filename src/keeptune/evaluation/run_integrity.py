"""Checks that the files of a run are those that it wrote: their hashes are in its manifest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from keeptune.errors import RunError
from keeptune.files import read_json, sha256_if_file
from keeptune.run_files.directory import RunDirectory
from keeptune.run_files.manifest import Manifest


def check_files(directory: RunDirectory, below: str = "") -> None:
    """Compares the files of a run with the hashes in its manifest.

    Args:
        directory: the run. Without a manifest nothing is compared.
        below: compare only files whose name begins with this, such as `adapter/`. Missing files are skipped.

    Raises:
        RunError: naming the first file that differs, with both hashes.
    """
    if not directory.manifest.is_file():
        return
    for name, path, stored in hashed_paths(directory, read_json(directory.manifest, Manifest)["hashes"]):
        if name.startswith(below) and (current := sha256_if_file(path)) not in (stored, None):
            remedy = "" if path == directory.recipe else ", or delete it and run `keeptune run` again"
            raise RunError(
                f"{path}: differs from what the run wrote (SHA-256 {stored} in manifest.json, {current} now); restore "
                f"the file{remedy}"
            )


def hashed_paths(directory: RunDirectory, hashes: Mapping[str, Any]) -> Iterator[tuple[str, Path, str]]:
    """The files whose hashes a manifest holds: name relative to the run, path, hash."""
    for name, sha256 in hashes.items():
        path = {"adapter": directory.adapter_weights, "recipe": directory.recipe}.get(name, directory.root / name)
        if name in ("adapter", "recipe", directory.inputs.name) or "/" in name:
            yield directory.relative(path), path, sha256
