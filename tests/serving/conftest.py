"""A tiny tuned model in a folder, as the server loads it, and the answers that it must give."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from serving.expected import Expected

# torch is imported in the fixtures, because half of these tests need none.


@pytest.fixture(scope="session")
def tuned_folder(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Returns a folder with an adapter of a family that makes a difference."""
    import tiny

    from keeptune.models import adapter_metadata, adapters

    folders: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in folders:
            folders[family] = tmp_path_factory.mktemp(family)
            adapters.save_adapter(tiny.moved(tiny.tune_as(tiny.load(model_folder), family)), folders[family])
            card = adapter_metadata.AdapterMetadata(
                str(model_folder), "arithmetic", tiny.PROMPT, {"area": 30}, scale=0.8, dtype="float32"
            )
            adapter_metadata.save(card, folders[family])
        return folders[family]

    return folder


@pytest.fixture(scope="session")
def expected(tuned_folder: Callable[[str], Path]) -> Expected:
    """The answers of `Generator` with a LoRA adapter."""
    from serving.expected import Expected

    return Expected(tuned_folder("lora"))
