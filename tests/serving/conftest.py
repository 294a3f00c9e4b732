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
    folders: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in folders:
            folders[family] = tmp_path_factory.mktemp(family)
            save_adapter(model_folder, family, folders[family])
        return folders[family]

    return folder


@pytest.fixture(scope="session")
def endless_folder(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an adapter of a model whose answers only end at their limit."""
    import tiny

    model, adapter = tmp_path_factory.mktemp("endless"), tmp_path_factory.mktemp("endless-adapter")
    base = tiny.load(model_folder)
    base.lm_head.weight.data[tiny.tokenizer().eos_token_id] = 0
    base.save_pretrained(model)
    tiny.tokenizer().save_pretrained(model)
    save_adapter(model, "lora", adapter)
    return adapter


def save_adapter(model: Path, family: str, folder: Path) -> None:
    import tiny

    from keeptune.models import adapter_metadata, adapters

    adapters.save_adapter(tiny.moved(tiny.tune_as(tiny.load(model), family)), folder)
    card = adapter_metadata.AdapterMetadata(
        str(model), "arithmetic", tiny.PROMPT, {"area": 30}, scale=0.8, dtype="float32"
    )
    adapter_metadata.save(card, folder)


@pytest.fixture(scope="session")
def expected(tuned_folder: Callable[[str], Path]) -> Expected:
    """The answers of `Generator` with a LoRA adapter."""
    from serving.expected import Expected

    return Expected(tuned_folder("lora"))


@pytest.fixture(scope="session")
def endless(endless_folder: Path) -> Expected:
    """The answers of `Generator` with the model whose answers do not end."""
    from serving.expected import Expected

    return Expected(endless_folder)
