"""Prompt template around a problem, shared by training, evaluation and export.

Contest entries lost half their accuracy because training and evaluation used different prompts. Therefore one `Prompt`
object renders every prompt, and its hash detects differences. Prompt and solution are encoded separately and joined
as tokens. So the prompt tokens at inference equal those of training, even if the tokenizer merges text at the boundary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from keeptune.errors import ModelError, PromptError

SLOT = "{problem}"


class EncodedExample(NamedTuple):
    """A training row as tokens. `loss_mask[i]` says whether `tokens[i]` is a target of the loss.

    The first `prompt_tokens` tokens are the prompt of the last answer at inference.
    """

    tokens: tuple[int, ...]
    loss_mask: tuple[bool, ...]
    prompt_tokens: int


class StoredPrompt(Protocol):
    """What `require_same` compares: a template and the hash of all that determines the prompt."""

    @property
    def template(self) -> str:
        """The text of the template."""

    @property
    def sha256(self) -> str:
        """The hash that two equal prompts share."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A template with one `{problem}` slot.

    >>> Prompt("Question: {problem}\\nAnswer:\\n").render("1 + 1")
    'Question: 1 + 1\\nAnswer:\\n'
    """

    template: str

    def __post_init__(self) -> None:
        if self.template.count(SLOT) != 1:
            raise PromptError(f"prompt template {self.template!r}: it must contain {SLOT} exactly once")

    @property
    def sha256(self) -> str:
        """The hash of the template, used to compare two prompts."""
        return hashlib.sha256(self.template.encode()).hexdigest()

    @property
    def cache_key(self) -> str:
        """What cached answers depend on."""
        return self.template

    def render(self, problem: str, conversation: str | None = None) -> str:
        """Return the text of the prompt for a problem.

        Raises:
            PromptError: the row is a stored conversation, which a template cannot render.
        """
        if conversation is not None:
            raise PromptError("prompt.template renders one problem, and the row is a conversation; set prompt: chat")
        before, after = self.template.split(SLOT)
        return before + problem + after

    def encode(self, tokenizer: Any, problem: str, conversation: str | None = None) -> list[int]:
        """Return the prompt tokens, including a BOS token if the tokenizer adds one."""
        return encode_prompt(tokenizer, self.render(problem, conversation))

    def encode_solution(self, tokenizer: Any, solution: str) -> list[int]:
        """Return the tokens of a solution, including the end token.

        Raises:
            ModelError: If the tokenizer has no end token.
        """
        if tokenizer.eos_token_id is None:
            raise ModelError("the tokenizer has no end token, so the model cannot learn to stop; set eos_token")
        return [*encode_text(tokenizer, solution, special_tokens=False), tokenizer.eos_token_id]

    def encode_example(
        self, tokenizer: Any, problem: str, solution: str, conversation: str | None = None
    ) -> EncodedExample:
        """Return the tokens of prompt and solution. The targets are those of the solution."""
        prompt = self.encode(tokenizer, problem, conversation)
        target = self.encode_solution(tokenizer, solution)
        return EncodedExample((*prompt, *target), (False,) * len(prompt) + (True,) * len(target), len(prompt))

    def to_json(self) -> dict[str, Any]:
        """Return the template and its hash as a JSON object."""
        return {"template": self.template, "sha256": self.sha256}

    def require_same(self, other: StoredPrompt, where: str) -> None:
        """Check that the prompt `other`, stored at `where`, equals this one.

        Raises:
            PromptError: If they differ; the message shows both templates.
        """
        if self.sha256 != other.sha256:
            raise PromptError(
                f"{where} was trained with a different prompt.\n"
                f"  trained with: {other.template!r}\n  current:      {self.template!r}\n"
                "Use the stored prompt, or pass --other-prompt to override it; the report records that."
            )


def encode_prompt(tokenizer: Any, text: str) -> list[int]:
    """Return the tokens of a text at the start of a sequence, without the end token that some tokenizers append."""
    tokens = encode_text(tokenizer, text, special_tokens=True)
    if tokens and tokens[-1] == tokenizer.eos_token_id and not text.endswith(tokenizer.eos_token):
        tokens = tokens[:-1]
    return tokens


def encode_text(tokenizer: Any, text: str, special_tokens: bool) -> list[int]:
    """Return `tokenizer.encode(text)`; for fast tokenizers this takes two thirds of the time."""
    if not tokenizer.is_fast:
        return list(tokenizer.encode(text, add_special_tokens=special_tokens))
    backend = tokenizer.backend_tokenizer
    if backend.truncation is not None or backend.padding is not None:
        backend.no_truncation()
        backend.no_padding()
    tokens: list[int] = backend.encode(text, add_special_tokens=special_tokens).ids
    return tokens


def decode_tokens(tokenizer: Any, tokens: Sequence[int]) -> str:
    """Return the text of tokens without special tokens, as answers are decoded."""
    if not tokenizer.is_fast:
        return str(tokenizer.decode(tokens, skip_special_tokens=True))
    return str(tokenizer.backend_tokenizer.decode(tokens, skip_special_tokens=True))
