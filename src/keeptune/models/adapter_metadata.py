"""What an adapter must not be separated from: its prompt, its base model, and how long its answers are.

PEFT's files say nothing about the prompt an adapter was trained with. `keeptune.json` beside them does, with a hash,
so that scoring or asking it with another prompt is an error and not a bad score.
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
class AdapterCard:
    """The contents of keeptune.json. `budgets` are upper bounds of new tokens by kind, `dtype` and `quantization` are
    the recipe's."""

    model: str
    skill: str
    prompt: Prompt
    budgets: dict[str, int]
    scale: float
    dtype: str = "auto"
    quantization: str | None = None


def save(card: AdapterCard, folder: Path) -> None:
    """Writes the card beside the adapter in `folder`."""
    write_json(
        folder / FILE,
        {
            "model": card.model,
            "skill": card.skill,
            "prompt": {"template": card.prompt.template, "sha256": card.prompt.sha256},
            "budgets": card.budgets,
            "scale": card.scale,
            "dtype": card.dtype,
            "quantization": card.quantization,
        },
    )


def beside(name: str) -> AdapterCard | None:
    """The card in a folder with a whole model, as `keeptune export --to merged` leaves one; None for other models."""
    folder = Path(name).expanduser()
    return load(folder) if (folder / FILE).is_file() else None


def load(folder: Path) -> AdapterCard:
    """The card beside an adapter. errors: ModelError when it is missing, damaged, or its prompt was edited."""
    path = folder / FILE
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        card = AdapterCard(
            str(tree["model"]),
            str(tree["skill"]),
            Prompt(str(tree["prompt"]["template"])),
            {str(kind): int(tokens) for kind, tokens in tree["budgets"].items()},
            float(tree["scale"]),
            str(tree.get("dtype", "auto")),
            tree.get("quantization"),
        )
        stated = tree["prompt"]["sha256"]
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}; an adapter without its prompt cannot be asked fairly") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, PromptError) as error:
        raise ModelError(f"{path}: damaged ({type(error).__name__}: {error}); take it from the run again") from None
    if card.prompt.sha256 != stated:
        raise ModelError(f"{path}: the prompt does not match its hash, so it was edited; take it from the run again")
    return card
