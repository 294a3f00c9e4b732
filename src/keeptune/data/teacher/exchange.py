"""What is asked of a server and what it answers, apart from how it is reached: the client's and the cache's words."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked: all that an answer depends on, and which of several answers to it is meant.

    Where the server stands is no part of it: the same model behind another address gives the same answers.
    """

    model: str
    prompt: str
    temperature: float
    max_tokens: int
    sample: int

    @property
    def key(self) -> str:
        """The hash under which the answer is kept."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server wrote, why it ended (`stop`, `length`, …), and the tokens it counted (0 if it counts none)."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


class Unanswered(Exception):  # noqa: N818  (counted, and an error only if there are many)
    """One request failed after all attempts; its text says why, in words that are the same for all of that sort."""
