"""How many tokens examples have, counted in whatever process they are written in.

A tokenizer of transformers brings a second of imports with it, and torch. What counts is the library tokenizer inside,
which can be sent to another process by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keeptune.prompts.template import Prompt


@dataclass(frozen=True, slots=True)
class LightTokenizer:
    """As much of a tokenizer as `Prompt` asks for."""

    backend_tokenizer: Any
    eos_token: str
    eos_token_id: int | None
    is_fast: bool = True


@dataclass(frozen=True, slots=True)
class TokenCounter:
    """Counts the tokens of (problem, solution) pairs: of the prompt, and of the solution with its end token."""

    tokenizer: Any
    prompt: Prompt

    @classmethod
    def of(cls, tokenizer: Any, prompt: Prompt) -> TokenCounter:
        """The counter for a tokenizer of transformers, as light as it can be."""
        if not tokenizer.is_fast:
            return cls(tokenizer, prompt)
        light = LightTokenizer(tokenizer.backend_tokenizer, tokenizer.eos_token, tokenizer.eos_token_id)
        return cls(light, prompt)

    def __call__(self, texts: Sequence[tuple[str, str]]) -> list[tuple[int, int]]:
        """The two counts of each pair."""
        return [
            (len(self.prompt.encode(self.tokenizer, p)), len(self.prompt.encode_solution(self.tokenizer, s)))
            for p, s in texts
        ]
