"""SHA256SUMS: the hashes of all files of a finished run, or of a folder of `keeptune gate`.

`verify` compares them, and so does `sha256sum --check SHA256SUMS` without keeptune. They find damage, not forgery:
anyone who can write all files of a folder can write this one, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from keeptune.errors import RunError
from keeptune.files import file_sha256, is_leftover, read_regular_bytes, sha256_if_file, write_text
from keeptune.run_files.directory import RunDirectory
from keeptune.training import checkpoints

FILE = "SHA256SUMS"

_LINE = re.compile(r"([0-9a-f]{64})  ([^\n]+)")
"""The format of GNU sha256sum for names without a line feed or a backslash."""


@dataclass(frozen=True, slots=True)
class Checksum:
    """A file relative to its folder, its stored hash, and its hash now; None if it is missing."""

    name: str
    stored: str
    current: str | None


def write_run_checksums(directory: RunDirectory) -> None:
    """Writes the hashes of all files of a run. Those of checkpoints are the ones that training stored with them."""
    known: dict[Path, str] = {}
    for step in checkpoints.step_folders(directory.checkpoints):
        known |= {step / name: sha256 for name, sha256 in checkpoints.stored_hashes(step).items()}
    _write(directory.root, [path for place in _places(directory) for path in _files_in(place)], known)


def write_folder_checksums(folder: Path) -> None:
    """Writes the hashes of all files in a folder without subfolders."""
    files = [path for path in folder.iterdir() if path.is_file() and path.name != FILE]
    _write(folder, [path for path in files if not is_leftover(path)], {})


def read_checksums(folder: Path) -> list[Checksum]:
    """The stored and current hashes of a folder's files; empty if it has no SHA256SUMS, as folders of older versions.

    Raises:
        RunError: when SHA256SUMS is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return []
    try:
        lines = read_regular_bytes(path).decode().split("\n")
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from None
    if lines.pop() or not lines:
        raise _damaged(path, "it does not end with a complete line")
    checksums = []
    for number, line in enumerate(lines, start=1):
        match = _LINE.fullmatch(line)
        if match is None or ".." in Path(match[2]).parts or Path(match[2]).is_absolute():
            raise _damaged(path, f"line {number}")
        file = folder / match[2]
        checksums.append(Checksum(match[2], match[1], sha256_if_file(file)))
    return checksums


def _damaged(path: Path, reason: str) -> RunError:
    return RunError(f"{path}: damaged ({reason}); restore it, or delete it and run `keeptune report` again")


def _places(directory: RunDirectory) -> list[Path]:
    """The files and folders that a run writes. Other files in its directory belong to the user."""
    files = [directory.recipe, directory.inputs, directory.event_log, directory.manifest, directory.result]
    files += [directory.report_html, directory.report_markdown]
    folders = [directory.data, directory.checkpoints, directory.tracking, directory.dev, directory.scores]
    return [*files, *folders, directory.replay, directory.adapter, directory.artefacts]


def _files_in(place: Path) -> Iterator[Path]:
    for path in place.rglob("*") if place.is_dir() else [place]:
        if path.is_file() and not is_leftover(path):
            yield path


def _write(folder: Path, files: list[Path], known: dict[Path, str]) -> None:
    names = {path.relative_to(folder).as_posix(): path for path in files}
    lines = (
        f"{known.get(path) or file_sha256(path)}  {name}\n"
        for name, path in sorted(names.items())
        if not {"\n", "\\"} & set(name)
    )
    write_text(folder / FILE, "".join(lines))
