"""The tokenized training rows: rows of the skill, truncated where the recipe says so, and replayed rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from keeptune.config.recipe import Recipe
from keeptune.config.retain import WRITTEN
from keeptune.data.preparation import load_prepared_rows
from keeptune.prompts.template import Prompt
from keeptune.training.batches import TokenizedExample
from keeptune.training.replay import ReplayRows, ReplaySource, build_replay_examples, load_replay_source
from keeptune.training.target_truncation import truncate_target

WriteRows = Callable[[str, int], ReplayRows]
"""Creates the rows of a replay source that a model writes, of about the given number of tokens."""


def load_skill_examples(path: Path, prompt: Prompt, tokenizer: Any) -> list[TokenizedExample]:
    """The rows of one file of the data stage. The targets are the solutions."""
    examples = []
    for row in load_prepared_rows(path):
        question = prompt.encode(tokenizer, row.problem)
        solution = prompt.encode_solution(tokenizer, row.solution)
        loss_mask = (False,) * len(question) + (True,) * len(solution)
        examples.append(TokenizedExample(row.name, row.kind, (*question, *solution), loss_mask))
    return examples


def build_training_examples(
    examples: Sequence[TokenizedExample], recipe: Recipe, tokenizer: Any, write_rows: WriteRows | None = None
) -> list[TokenizedExample]:
    """The skill's rows with truncated targets, followed by as many replayed tokens as the recipe asks for.

    Args:
        examples: the rows of the skill.
        recipe: decides truncation and replay.
        tokenizer: encodes the texts of replay sources.
        write_rows: creates the rows of the replay sources `self` and `on_policy`, which need the model.
    """
    settings, retain, seed = recipe.train, recipe.retain, recipe.seed
    rows = [truncate_target(example, settings.truncate_targets, seed) for example in examples]
    if retain.replay_share:
        total_tokens = sum(len(example.tokens) for example in rows) / (1 - retain.replay_share)
        replay_tokens = round(total_tokens * retain.replay_share)
        sources: list[ReplaySource | ReplayRows] = []
        for name in retain.replay:
            if name in WRITTEN:
                assert write_rows is not None
                sources.append(write_rows(name, replay_tokens // len(retain.replay)))
            else:
                sources.append(load_replay_source(name))
        rows += build_replay_examples(sources, tokenizer, replay_tokens, recipe.data.max_tokens, seed)
    return rows
