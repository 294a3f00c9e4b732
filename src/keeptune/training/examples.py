"""What a training is given: the rows of the data stage, or their openings, as tokens, and replayed rows among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from keeptune.config.recipe import Recipe
from keeptune.config.retain import SELF
from keeptune.data.preparation import load_prepared_rows
from keeptune.prompts.template import Prompt
from keeptune.training.batches import Example
from keeptune.training.replay import Practice, Rows, practice, replay
from keeptune.training.target_truncation import opened


def skill_examples(path: Path, prompt: Prompt, tokenizer: Any) -> list[Example]:
    """The rows of a part of the data stage, labelled on their solutions."""
    examples = []
    for row in load_prepared_rows(path):
        question = prompt.encode(tokenizer, row.problem)
        solution = prompt.encode_solution(tokenizer, row.solution)
        labelled = (False,) * len(question) + (True,) * len(solution)
        examples.append(Example(row.name, row.kind, (*question, *solution), labelled))
    return examples


OwnRows = Callable[[int], Sequence[Example]]
"""Rows of the base's own answers, of about so many tokens."""


def training_examples(
    examples: Sequence[Example], recipe: Recipe, tokenizer: Any, own_rows: OwnRows | None = None
) -> list[Example]:
    """Those of the skill as far as each is trained, and as many replayed tokens as the recipe has.

    `own_rows` makes the rows of the source `self`, which needs the model.
    """
    settings, retain, seed = recipe.train, recipe.retain, recipe.seed
    trained = [opened(example, settings.truncate_targets, seed) for example in examples]
    if retain.replay_share:
        tokens = sum(len(example.tokens) for example in trained) / (1 - retain.replay_share)
        wanted = round(tokens * retain.replay_share)
        sources: list[Practice | Rows] = []
        for name in retain.replay:
            if name == SELF:
                assert own_rows is not None
                sources.append(own_rows(wanted // len(retain.replay)))
            else:
                sources.append(practice(name))
        trained += replay(sources, tokenizer, wanted, recipe.data.max_tokens, seed)
    return trained
