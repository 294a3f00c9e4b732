"""What a training is given: the rows of the data stage, or their openings, as tokens, and replayed rows among them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keeptune.data.prepare import load_examples
from keeptune.prompt.template import Prompt
from keeptune.recipe import Recipe
from keeptune.train.batches import Example
from keeptune.train.openings import opened
from keeptune.train.replay import practice, replay


def skill_examples(path: Path, prompt: Prompt, tokenizer: Any) -> list[Example]:
    """The rows of a part of the data stage, labelled on their solutions."""
    examples = []
    for row in load_examples(path):
        question = prompt.encode(tokenizer, row.problem)
        solution = prompt.encode_solution(tokenizer, row.solution)
        labelled = (False,) * len(question) + (True,) * len(solution)
        examples.append(Example(row.name, row.kind, (*question, *solution), labelled))
    return examples


def training_examples(examples: Sequence[Example], recipe: Recipe, tokenizer: Any) -> list[Example]:
    """Those of the skill as far as each is trained, and as many replayed tokens as the recipe has."""
    settings, seed = recipe.train, recipe.seed
    trained = [opened(example, settings.openings, seed) for example in examples]
    if settings.replay_share:
        tokens = sum(len(example.tokens) for example in trained) / (1 - settings.replay_share)
        wanted, sources = round(tokens * settings.replay_share), [practice(name) for name in settings.replay]
        trained += replay(sources, tokenizer, wanted, recipe.data.max_tokens, seed)
    return trained
