"""The files of an artefact: whether they are what `keeptune export` wrote, and belong to the run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from keeptune.errors import ModelError
from keeptune.files import file_sha256, read_json, sha256_if_file
from keeptune.models.base_identity import difference
from keeptune.run_files.artefact import EXPORT_FILE, Export
from keeptune.run_files.directory import RunDirectory
from keeptune.run_files.manifest import BaseModelRecord, Manifest

MODEL_FILE, ADAPTER_FILE = "model.gguf", "adapter.gguf"
_GGUF = ".gguf"


@dataclass(frozen=True, slots=True)
class ArtefactFiles:
    """An export folder, or a GGUF file that another program wrote. `export` is None for the latter."""

    path: Path
    export: Export | None

    @property
    def form(self) -> str:
        """The form of the export; `gguf` for a file of another program."""
        return self.export.form if self.export else "gguf"

    @property
    def model(self) -> Path:
        """The GGUF file with the whole model."""
        return self.path / MODEL_FILE if self.path.is_dir() else self.path

    def hashes(self) -> dict[str, str]:
        """The SHA-256 of the files, by absolute path. Missing files are left out."""
        names = [*self.export.files, EXPORT_FILE] if self.export else [""]
        paths = [(self.path / name if name else self.path).resolve() for name in names]
        return {str(path): sha256 for path in paths if (sha256 := sha256_if_file(path)) is not None}


def find_files(name: str) -> ArtefactFiles:
    """The files of an artefact.

    Raises:
        ModelError: there is nothing that can be evaluated.
    """
    path = Path(name).expanduser()
    if path.suffix == _GGUF and path.is_file():
        folder = path.parent
        if path.name != MODEL_FILE or not (folder / EXPORT_FILE).is_file():
            return ArtefactFiles(path, None)
        path = folder
    if not path.is_dir():
        raise ModelError(f"{name}: no such file or folder; give an export folder, a GGUF file, or a server's address")
    if not (path / EXPORT_FILE).is_file():
        raise ModelError(
            f"{name}: has no {EXPORT_FILE}, so it is no export of this version; write it with `keeptune export`, or "
            "give the GGUF file"
        )
    return ArtefactFiles(path, Export.model_validate(read_json(path / EXPORT_FILE, Export)))


def stored_and_current(files: ArtefactFiles) -> list[tuple[str, str, str | None]]:
    """Name, stored SHA-256 and current SHA-256 of each file of an export; None for a missing file."""
    stored = files.export.files if files.export else {}
    paths = {name: files.path / name for name in stored}
    return [(name, stored[name], sha256_if_file(path)) for name, path in paths.items()]


def _changed_files(files: ArtefactFiles) -> list[str]:
    """One sentence per file that differs from what `keeptune export` wrote, or is missing."""
    faults = []
    for name, stored, current in stored_and_current(files):
        if current is None:
            faults.append(f"{files.path / name}: is missing")
        elif current != stored:
            faults.append(
                f"{files.path / name}: differs from what `keeptune export` wrote (SHA-256 {stored} in {EXPORT_FILE}, "
                f"{current} now)"
            )
    return faults


def faults_of(files: ArtefactFiles, directory: RunDirectory, prompt_sha256: str) -> list[str]:
    """What is wrong with an export of a run, one sentence each: changed files, another adapter, prompt or base."""
    if files.export is None:
        return []
    faults, export, place = _changed_files(files), files.export, files.path / EXPORT_FILE
    adapter = file_sha256(directory.adapter_weights)
    if export.adapter_sha256 != adapter:
        faults.append(
            f"{place}: the export is of another adapter (SHA-256 {export.adapter_sha256}; that of the run is {adapter})"
        )
    if export.prompt_sha256 != prompt_sha256:
        faults.append(
            f"{place}: the export carries another prompt (SHA-256 {export.prompt_sha256}; that of the run is "
            f"{prompt_sha256})"
        )
    return faults + _base_faults(files, directory)


def faults_of_base(files: ArtefactFiles, directory: RunDirectory) -> list[str]:
    """What is wrong with the GGUF file of the base, to which a GGUF adapter is added."""
    export, place = files.export, files.path / EXPORT_FILE
    faults = _changed_files(files)
    if export and (export.form != "gguf" or export.adapter_sha256 is not None):
        faults.append(
            f"{place}: is no export of a base model; write it with `keeptune export {export.model} --to gguf`"
        )
    return faults + _base_faults(files, directory)


def _base_faults(files: ArtefactFiles, directory: RunDirectory) -> list[str]:
    stored = _base_of(directory)
    if stored is None or files.export is None or files.export.base is None:
        return []
    message = difference(stored, files.export.base)
    return [f"{files.path / EXPORT_FILE}: has another base model than the run: {message}"] if message else []


def _base_of(directory: RunDirectory) -> BaseModelRecord | None:
    """The identity of the run's base; None in runs of older versions."""
    return Manifest.model_validate(read_json(directory.manifest, Manifest)).base
