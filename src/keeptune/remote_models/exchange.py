"""The request to a server and its answer, as the client and the cache use them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Request:
    """A request with everything that determines its answer. `sample` distinguishes several answers to one prompt.

    The server's address is not part of it, because the same model at another address gives the same answers.
    """

    model: str
    prompt: str
    temperature: float
    max_tokens: int
    sample: int

    @property
    def key(self) -> str:
        """The hash under which the answer is stored."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Answer:
    """The server's text, why it ended (`stop`, `length`, …), and its token counts (0 if the server reports none)."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


class RequestError(Exception):
    """A request failed after all attempts. The message is the same for all failures of one type, so that they can be
    counted."""
