"""The metadata of an adapter in `keeptune.json`: its prompt, its base model and the length of its answers.

PEFT's files do not contain the prompt that an adapter was trained with. `keeptune.json` beside them does, with a hash.
Evaluating or querying the adapter with another prompt is therefore an error instead of a bad score.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from keeptune.errors import ModelError, PromptError
from keeptune.files import write_json
from keeptune.prompts.template import Prompt

FILE = "keeptune.json"


@dataclass(frozen=True, slots=True)
class AdapterMetadata:
    """The contents of keeptune.json.

    Attributes:
        model: the base model, as in the recipe.
        skill: the skill that the adapter was trained on.
        prompt: the prompt that it was trained with.
        budgets: the maximum of new tokens per answer, by kind.
        scale: the selected adapter scale.
        dtype: the number format, as in the recipe.
        quantization: the quantization of the base, as in the recipe.
    """

    model: str
    skill: str
    prompt: Prompt
    budgets: dict[str, int]
    scale: float
    dtype: str = "auto"
    quantization: str | None = None


def save(metadata: AdapterMetadata, folder: Path) -> None:
    """Writes the metadata beside the adapter in `folder`."""
    write_json(
        folder / FILE,
        {
            "model": metadata.model,
            "skill": metadata.skill,
            "prompt": {"template": metadata.prompt.template, "sha256": metadata.prompt.sha256},
            "budgets": metadata.budgets,
            "scale": metadata.scale,
            "dtype": metadata.dtype,
            "quantization": metadata.quantization,
        },
    )


def load_if_present(name: str) -> AdapterMetadata | None:
    """The metadata in a folder with a merged model (`keeptune export --to merged`); None for all other models."""
    folder = Path(name).expanduser()
    return load(folder) if (folder / FILE).is_file() else None


def load(folder: Path) -> AdapterMetadata:
    """The metadata beside an adapter.

    Raises:
        ModelError: if the file is missing or damaged, or if its prompt was edited.
    """
    path = folder / FILE
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        metadata = AdapterMetadata(
            str(tree["model"]),
            str(tree["skill"]),
            Prompt(str(tree["prompt"]["template"])),
            {str(kind): int(tokens) for kind, tokens in tree["budgets"].items()},
            float(tree["scale"]),
            str(tree.get("dtype", "auto")),
            tree.get("quantization"),
        )
        expected_hash = tree["prompt"]["sha256"]
    except OSError as error:
        raise ModelError(
            f"{path}: cannot be read ({error.strerror}); an adapter needs the prompt in this file: copy it from the run"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, PromptError) as error:
        raise ModelError(f"{path}: damaged ({type(error).__name__}: {error}); copy it from the run again") from None
    if metadata.prompt.sha256 != expected_hash:
        raise ModelError(
            f"{path}: prompt.template was edited (prompt.sha256 differs); copy the file from the run again"
        )
    return metadata
