"""Named prompt templates of the contest's training kit.

The kit's converter puts a problem into the Alpaca text without input. Its `llama_preprocess.py` then puts the result
into FastChat's vicuna conversation, which is not documented. An adapter trained with the kit needs both. In the
conversation a space precedes the answer. It belongs to the first token of the answer, so the prompts end without it.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from keeptune.errors import PromptError
from keeptune.prompts.chat_prompt import AnyPrompt
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
"""alpaca: the kit's converter only; vicuna: the preprocessing only; vicuna-alpaca: both."""


def resolve_template(template: str, other_names: Sequence[str] = ()) -> str:
    """Return the template with this name, or `template` itself if it contains the slot.

    `other_names` are further names that the message of the error suggests.

    Raises:
        PromptError: If it is neither a name nor a template.
    """
    if template in NAMED:
        return NAMED[template]
    if template.count(SLOT) == 1:
        return template
    names = [*other_names, *NAMED]
    near = difflib.get_close_matches(template, names, n=1)
    raise PromptError(
        f"prompt template {template!r}: it must contain {SLOT} exactly once, or be one of {', '.join(names)}"
        + (f"; did you mean {near[0]}?" if near else "")
    )


def resolve_prompt(template: str) -> Prompt:
    """Return the prompt for a name or a template."""
    return Prompt(resolve_template(template))


def conversation_template(prompt: AnyPrompt) -> str | None:
    """Return the template of the human turn from which the kit makes this prompt, or None if it cannot make it."""
    if not isinstance(prompt, Prompt):
        return None
    before, after = _VICUNA.split(SLOT)
    if prompt.template.startswith(before) and prompt.template.endswith(after):
        return prompt.template.removeprefix(before).removesuffix(after)
    return None
