"""The metadata of an adapter in `keeptune.json`: its prompt, its base model and the length of its answers.

PEFT's files do not contain the prompt that an adapter was trained with. `keeptune.json` beside them does, with a hash.
Evaluating or querying the adapter with another prompt is therefore an error instead of a bad score.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from keeptune.config.data import SkillName
from keeptune.errors import ModelError, PromptError
from keeptune.files import read_regular_bytes, write_json
from keeptune.prompts.template import Prompt
from keeptune.run_files.directory import ADAPTER_METADATA
from keeptune.run_files.manifest import BaseModelRecord

FILE = ADAPTER_METADATA

_SKILLS: tuple[str, ...] = get_args(SkillName)
_MAX_BUDGET_TOKENS = 10**7


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
        base: the identity of the base model's weights and configuration; None in files of older versions.
    """

    model: str
    skill: str
    prompt: Prompt
    budgets: dict[str, int]
    scale: float
    dtype: str = "auto"
    quantization: str | None = None
    base: BaseModelRecord | None = None


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
            **({"base": metadata.base.model_dump()} if metadata.base else {}),
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
        tree = json.loads(read_regular_bytes(path))
        metadata = AdapterMetadata(
            str(tree["model"]),
            _checked_skill(tree["skill"]),
            Prompt(str(tree["prompt"]["template"])),
            {str(kind): _checked_budget(kind, tokens) for kind, tokens in tree["budgets"].items()},
            _checked_scale(tree["scale"]),
            str(tree.get("dtype", "auto")),
            tree.get("quantization"),
            None if tree.get("base") is None else BaseModelRecord.model_validate(tree["base"]),
        )
        expected_hash = tree["prompt"]["sha256"]
    except OSError as error:
        raise ModelError(
            f"{path}: cannot be read ({error.strerror}); copy it from the run, or give the "
            "prompt to `keeptune score --prompt`"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, PromptError) as error:
        raise ModelError(f"{path}: damaged ({type(error).__name__}: {error}); copy it from the run again") from None
    if metadata.prompt.sha256 != expected_hash:
        raise ModelError(
            f"{path}: prompt.template was edited (prompt.sha256 differs); copy the file from the run again"
        )
    return metadata


def _checked_skill(value: Any) -> str:
    if value not in _SKILLS:
        raise ValueError(f"skill must be one of {', '.join(_SKILLS)} (got {_shown(value)})")
    return str(value)


def _checked_budget(kind: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MAX_BUDGET_TOKENS:
        raise ValueError(f"budgets.{_shown(kind)} must be a number of tokens ≥ 1 (got {_shown(value)})")
    return value


def _checked_scale(value: Any) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value < 0:
        raise ValueError(f"scale must be a finite number ≥ 0 (got {_shown(value)})")
    return float(value)


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
