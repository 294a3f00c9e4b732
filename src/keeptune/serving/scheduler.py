"""Which waiting requests are prefilled next."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

Waiting = TypeVar("Waiting")

ADMISSION_TOKENS = 2_048
"""Maximum number of prompt tokens that are prefilled between two tokens of the running answers, so that long prompts
do not stop them for long. One prompt is always admitted."""


def select_admissions(
    waiting: Iterable[Waiting],
    free_slots: int,
    model_of: Callable[[Waiting], str],
    tokens_of: Callable[[Waiting], int],
    max_tokens: int = ADMISSION_TOKENS,
) -> list[Waiting]:
    """The next requests to admit, in their order of arrival: all of the model that the first one asks for.

    The first request is always admitted if a slot is free, so each request is admitted in the end.
    """
    selected: list[Waiting] = []
    tokens = 0
    for request in waiting:
        if len(selected) == free_slots:
            break
        if selected and model_of(request) != model_of(selected[0]):
            continue
        tokens += tokens_of(request)
        if selected and tokens > max_tokens:
            break
        selected.append(request)
    return selected
