"""The tokens that invoke an adapter, and whether a prompt holds them."""

from __future__ import annotations

from typing import Any

from keeptune.errors import ModelError
from keeptune.prompt.template import Prompt

_PROBE = "1"


def invocation_tokens(tokenizer: Any, prompt: Prompt, invocation: str) -> list[int]:
    """The tokens of an invocation.

    Raises:
        ModelError: when the tokenizer joins it with its neighbours in the prompt, so that its tokens are not there.
    """
    tokens: list[int] = tokenizer.encode(invocation, add_special_tokens=False)
    asked = prompt.encode(tokenizer, _PROBE)
    places = [place for place in range(len(asked)) if asked[place : place + len(tokens)] == tokens]
    if len(places) != 1:
        raise ModelError(
            f"retain.invocation: {invocation!r} is {len(tokens)} tokens, which occur {len(places)} times in the prompt "
            f"{prompt.template!r} as the tokenizer writes it; end the invocation at a line end, or begin it with a "
            "special token of the model, so that it keeps its tokens in any prompt, once"
        )
    return tokens
