"""Token counts of examples in worker processes that do not import torch.

A transformers tokenizer takes a second to import and loads torch. Its backend from the tokenizers library is enough for
counting and can be sent to another process by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keeptune.prompts.chat_prompt import AnyPrompt, ChatPrompt

ExampleTexts = tuple[str, str] | tuple[str, str, str]
"""A row to count: problem and solution, and the stored conversation if the row is one."""


def example_texts(problem: str, solution: str, conversation: str | None) -> ExampleTexts:
    """Return a row in the form in which it is counted."""
    return (problem, solution) if conversation is None else (problem, solution, conversation)


@dataclass(frozen=True, slots=True)
class LightTokenizer:
    """The part of a tokenizer that `Prompt` uses."""

    backend_tokenizer: Any
    eos_token: str
    eos_token_id: int | None
    is_fast: bool = True


@dataclass(frozen=True, slots=True)
class TokenCounter:
    """Counts the tokens of the prompt, and of the solution with its end token, for each row."""

    tokenizer: Any
    prompt: AnyPrompt

    @classmethod
    def of(cls, tokenizer: Any, prompt: AnyPrompt) -> TokenCounter:
        """Return a counter for a transformers tokenizer, with only its backend if it is a fast one."""
        if not tokenizer.is_fast:
            return cls(tokenizer, prompt)
        light = LightTokenizer(tokenizer.backend_tokenizer, tokenizer.eos_token, tokenizer.eos_token_id)
        return cls(light, prompt)

    def __call__(self, texts: Sequence[ExampleTexts]) -> list[tuple[int, int]]:
        """Return the (prompt, solution) token counts of each row."""
        counts = []
        for text in texts:
            example = self.prompt.encode_example(self.tokenizer, *text)
            counts.append((example.prompt_tokens, len(example.tokens) - example.prompt_tokens))
        return counts

    @property
    def chat(self) -> ChatRows | None:
        """The check of rows under a chat prompt; None for a template, which renders single problems only."""
        return ChatRows(self.tokenizer, self.prompt) if isinstance(self.prompt, ChatPrompt) else None


@dataclass(frozen=True, slots=True)
class ChatRows:
    """Checks rows under a chat prompt. A worker process without transformers can do that."""

    tokenizer: Any
    prompt: ChatPrompt

    def expected_answer(self, problem: str, solution: str, conversation: str | None) -> str:
        """Return the answer that a perfect model writes for this row.

        Raises:
            PromptError: as `ChatPrompt.encode_example`; the message is the reason to reject the row.
        """
        return self.prompt.expected_answer(self.tokenizer, problem, solution, conversation)


def special_tokens(tokenizer: Any) -> tuple[str, ...]:
    """Return the texts of a transformers tokenizer's special tokens, such as `</s>` and `<|im_end|>`."""
    added = (str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
    return tuple(dict.fromkeys((*added, *map(str, tokenizer.all_special_tokens))))
