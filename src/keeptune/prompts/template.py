"""The one text that surrounds a problem: in training, scoring, asking and export.

Contest entries lost half their accuracy by training under one prompt and being asked under another. Here there is
one object, it knows its own hash, and prompt and solution are always encoded apart and joined as tokens, so that the
tokens a model is asked with are the tokens it was trained on, whatever the tokenizer merges across the seam.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from keeptune.errors import ModelError, PromptError

SLOT = "{problem}"


@dataclass(frozen=True, slots=True)
class Prompt:
    """A template with one `{problem}` slot.

    >>> Prompt("Question: {problem}\\nAnswer:\\n").render("1 + 1")
    'Question: 1 + 1\\nAnswer:\\n'
    """

    template: str

    def __post_init__(self) -> None:
        if self.template.count(SLOT) != 1:
            raise PromptError(f"prompt template {self.template!r}: it must hold {SLOT} exactly once")

    @property
    def sha256(self) -> str:
        """The hash of the template, by which two prompts are compared."""
        return hashlib.sha256(self.template.encode()).hexdigest()

    def render(self, problem: str) -> str:
        """The text that the model sees before it answers."""
        before, after = self.template.split(SLOT)
        return before + problem + after

    def encode(self, tokenizer: Any, problem: str) -> list[int]:
        """The tokens that the model is asked with, with whatever the tokenizer puts first (a BOS, or nothing)."""
        return encode_prompt(tokenizer, self.render(problem))

    def encode_solution(self, tokenizer: Any, solution: str) -> list[int]:
        """The tokens that the model is to write after the prompt, its end token included."""
        if tokenizer.eos_token_id is None:
            raise ModelError("the tokenizer has no end token (eos_token), so a model could never learn to stop")
        return [*_encoded(tokenizer, solution, special_tokens=False), tokenizer.eos_token_id]

    def require_same(self, other: Prompt, where: str) -> None:
        """errors: PromptError showing both texts, unless `other`, stored at `where`, is this prompt."""
        if self.sha256 != other.sha256:
            raise PromptError(
                f"{where} was trained with another prompt.\n"
                f"  trained with: {other.template!r}\n  asked with:   {self.template!r}\n"
                "Use the stored prompt, or pass --other-prompt if you mean it; the report will say so."
            )


def encode_prompt(tokenizer: Any, text: str) -> list[int]:
    """The tokens of a text that opens a sequence; a trailing end token that some tokenizers add is not one of them."""
    tokens = _encoded(tokenizer, text, special_tokens=True)
    if tokens and tokens[-1] == tokenizer.eos_token_id and not text.endswith(tokenizer.eos_token):
        tokens = tokens[:-1]
    return tokens


def _encoded(tokenizer: Any, text: str, special_tokens: bool) -> list[int]:
    """What `tokenizer.encode` gives, in two thirds of its time where the tokenizer is one of the library tokenizers."""
    if not tokenizer.is_fast:
        return list(tokenizer.encode(text, add_special_tokens=special_tokens))
    backend = tokenizer.backend_tokenizer
    if backend.truncation is not None or backend.padding is not None:
        backend.no_truncation()
        backend.no_padding()
    tokens: list[int] = backend.encode(text, add_special_tokens=special_tokens).ids
    return tokens
