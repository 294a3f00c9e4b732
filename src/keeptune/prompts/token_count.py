"""Token counts of examples in worker processes that do not import torch.

A transformers tokenizer takes a second to import and loads torch. Its backend from the tokenizers library is enough for
counting and can be sent to another process by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keeptune.prompts.template import Prompt


@dataclass(frozen=True, slots=True)
class LightTokenizer:
    """The part of a tokenizer that `Prompt` uses."""

    backend_tokenizer: Any
    eos_token: str
    eos_token_id: int | None
    is_fast: bool = True


@dataclass(frozen=True, slots=True)
class TokenCounter:
    """Counts the tokens of the prompt, and of the solution with its end token, for (problem, solution) pairs."""

    tokenizer: Any
    prompt: Prompt

    @classmethod
    def of(cls, tokenizer: Any, prompt: Prompt) -> TokenCounter:
        """Return a counter for a transformers tokenizer, with only its backend if it is a fast one."""
        if not tokenizer.is_fast:
            return cls(tokenizer, prompt)
        light = LightTokenizer(tokenizer.backend_tokenizer, tokenizer.eos_token, tokenizer.eos_token_id)
        return cls(light, prompt)

    def __call__(self, texts: Sequence[tuple[str, str]]) -> list[tuple[int, int]]:
        """Return the (prompt, solution) token counts of each pair."""
        return [
            (len(self.prompt.encode(self.tokenizer, p)), len(self.prompt.encode_solution(self.tokenizer, s)))
            for p, s in texts
        ]


def special_tokens(tokenizer: Any) -> tuple[str, ...]:
    """Return the texts of a transformers tokenizer's special tokens, such as `</s>` and `<|im_end|>`."""
    added = (str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
    return tuple(dict.fromkeys((*added, *map(str, tokenizer.all_special_tokens))))
