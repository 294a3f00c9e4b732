"""The tokens that invoke an adapter, and the rows and prompts that must or must not contain them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keeptune.errors import ModelError
from keeptune.prompts.chat_prompt import AnyPrompt

PROBES = ("1", "-3", "two", "计算", " x", "(")
"""Beginnings of problems. A tokenizer may merge some of them with the end of the invocation."""


def invocation_tokens(tokenizer: Any, prompt: AnyPrompt, invocation: str) -> list[int]:
    """The tokens of an invocation.

    Raises:
        ModelError: if some problem changes these tokens in the prompt, or they contain the end token or token 0, which
            fills up batches.
    """
    tokens: list[int] = tokenizer.encode(invocation, add_special_tokens=False)
    if tokenizer.eos_token_id in tokens or 0 in tokens:
        raise ModelError(
            f"retain.invocation: {invocation!r} contains the end token or token 0, which occur at the end of rows; "
            "choose another text"
        )
    for probe in PROBES:
        encoded = prompt.encode(tokenizer, probe)
        count = sum(encoded[place : place + len(tokens)] == tokens for place in range(len(encoded)))
        if count != 1:
            raise ModelError(
                f"retain.invocation: the {len(tokens)} tokens of {invocation!r} occur {count} times in the prompt of "
                f"the problem {probe!r}; end the invocation with a line end, and use its text once in prompt.template"
            )
    return tokens


def last_occurrence(row: Sequence[int], tokens: Sequence[int]) -> int | None:
    """The start of the last occurrence of `tokens` in a row; None if there is none."""
    pattern, length = tuple(tokens), len(tokens)
    for place in range(len(row) - length, -1, -1):
        if tuple(row[place : place + length]) == pattern:
            return place
    return None
