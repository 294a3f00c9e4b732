"""The adapter in PEFT's layout, with what is published beside it: verdict, license, results on benchmarks."""

from __future__ import annotations

import shutil
from pathlib import Path

from transformers.utils.hub import cached_file

from keeptune.export.model_card import write_eval_results
from keeptune.export.readme import Exported
from keeptune.models.load import EMBEDDED, resolve
from keeptune.run_files.directory import ADAPTER_CONFIG, ADAPTER_WEIGHTS

LICENSE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md")


def write_peft_folder(exported: Exported, folder: Path, out: Path) -> None:
    """Copies the adapter, its verdict and the license of the base, and writes the results on benchmarks of the hub.

    Args:
        exported: what is exported.
        folder: the adapter.
        out: the folder to write into.
    """
    target = Path(exported.target).expanduser()
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        shutil.copyfile(folder / name, out / name)
    if license_file := _license_file(exported.model):
        shutil.copyfile(license_file, out / license_file.name)
    if exported.measurements:
        source = target / exported.measurements.source
        shutil.copyfile(source, out / source.name)
        write_eval_results(exported.measurements, out)


def _license_file(model: str) -> Path | None:
    """The license file among the files of the base model that are on this machine. The embedded model has none."""
    if model == EMBEDDED:
        return None
    for name in LICENSE_FILES:
        path = cached_file(
            resolve(model),
            name,
            local_files_only=True,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        if path is not None:
            return Path(path)
    return None
