"""Prompts that others trained with, by name: those of the contest's kit.

Its converter puts a problem into the Alpaca text without input; its `llama_preprocess.py` puts whatever it is given
into FastChat's vicuna conversation, and says so nowhere. An adapter that was trained with the kit is only fairly asked
inside both. The space that the conversation has before the answer belongs to the answer's first token, so the prompts
end without it.
"""

from __future__ import annotations

import difflib

from keeptune.errors import PromptError
from keeptune.prompts.template import SLOT, Prompt

_ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request."
    f"\n\n### Instruction:\n{SLOT}\n\n### Response:"
)
_VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. "
    f"The assistant gives helpful, detailed, and polite answers to the user's questions. USER: {SLOT} ASSISTANT:"
)

NAMED = {"alpaca": _ALPACA, "vicuna": _VICUNA, "vicuna-alpaca": _VICUNA.replace(SLOT, _ALPACA)}
"""vicuna-alpaca: the kit's converter and preprocessing; vicuna: preprocessing alone; alpaca: the converter alone."""


def resolve_template(given: str) -> str:
    """The template that a name stands for, or `given` itself, which then is one.

    errors: PromptError when it is neither.
    """
    if given in NAMED:
        return NAMED[given]
    if given.count(SLOT) == 1:
        return given
    near = difflib.get_close_matches(given, NAMED, n=1)
    raise PromptError(
        f"prompt template {given!r}: it must hold {SLOT} exactly once, or be one of {', '.join(NAMED)}"
        + (f"; did you mean {near[0]}?" if near else "")
    )


def resolve_prompt(given: str) -> Prompt:
    """The same as a Prompt."""
    return Prompt(resolve_template(given))


def conversation_template(own: Prompt) -> str | None:
    """The template of the human turn in a conversation file that the kit makes this prompt of, or None."""
    before, after = _VICUNA.split(SLOT)
    if own.template.startswith(before) and own.template.endswith(after):
        return own.template.removeprefix(before).removesuffix(after)
    return None
