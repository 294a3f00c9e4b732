"""A tiny tuned model in a folder, as the server loads it, and the answers that it must give."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from serving.expected import Expected

from keeptune.models import adapter_metadata, adapters


@pytest.fixture(scope="session")
def tuned_folder(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Returns a folder with an adapter of a family that makes a difference."""
    folders: dict[str, Path] = {}

    def folder(family: str = "lora") -> Path:
        if family not in folders:
            folders[family] = tmp_path_factory.mktemp(family)
            adapters.save_adapter(tiny.moved(tiny.tune_as(tiny.load(model_folder), family)), folders[family])
            card: Any = adapter_metadata.AdapterMetadata(
                str(model_folder), "arithmetic", tiny.PROMPT, {"area": 30}, scale=0.8, dtype="float32"
            )
            adapter_metadata.save(card, folders[family])
        return folders[family]

    return folder


@pytest.fixture(scope="session")
def expected(tuned_folder: Callable[[str], Path]) -> Expected:
    """The answers of `Generator` with a LoRA adapter."""
    return Expected(tuned_folder("lora"))
