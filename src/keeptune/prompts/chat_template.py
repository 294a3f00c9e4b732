"""Renders a tokenizer's chat template without transformers, which loads torch.

The environment is that of `transformers.PreTrainedTokenizerBase.apply_chat_template`: the same sandbox, filters and
functions, and `{% generation %}` blocks, which mark what the assistant says. Two things differ. The current date is
fixed, because a prompt that changes from day to day would differ between training and evaluation. And the work of a
template is limited (template_limits.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Macro

from keeptune.errors import PromptError
from keeptune.prompts.template_limits import BoundedEnvironment, StepLimit, counted_steps

UNTRAINED = "is_untrained"
"""Key of a stored turn whose text is not a target of the loss."""

JsonObject = Mapping[str, Any]

TODAY = datetime(2024, 7, 26)
"""The date that templates read from `strftime_now`. It is the date that Llama 3's template uses without a clock."""

_START, _END = "\ue000keeptune-start\ue001", "\ue000keeptune-end\ue001"
"""Marks around a `{% generation %}` block, of private-use characters. They are removed from the text."""


class Rendering(NamedTuple):
    """A rendered conversation, and the character ranges that the template marks with `{% generation %}`."""

    text: str
    marked: list[tuple[int, int]]


def render_chat(
    template: str,
    messages: Sequence[JsonObject],
    tools: Sequence[JsonObject] | None,
    add_generation_prompt: bool,
    variables: JsonObject,
) -> Rendering:
    """Return the rendering of a conversation.

    Args:
        template: the text of the template.
        messages: the turns, with the keys of the OpenAI format.
        tools: the JSON schemas of the tools, or None.
        add_generation_prompt: whether the text ends with the start of an assistant's turn.
        variables: special tokens and further arguments of the template.

    Raises:
        PromptError: the template is invalid or rejects the conversation.
    """
    try:
        compiled = _compile(template)
        with counted_steps():
            text = compiled.render(
                messages=messages, tools=tools, documents=None, add_generation_prompt=add_generation_prompt, **variables
            )
    except (
        TemplateError,
        TypeError,
        ValueError,
        LookupError,
        ArithmeticError,
        AttributeError,
        RecursionError,
    ) as error:
        raise PromptError(f"the chat template rejects the conversation ({error})") from None
    return _split_marks(text)


def _split_marks(text: str) -> Rendering:
    """Remove the marks of generation blocks and return the ranges between them."""
    first, *rest = text.split(_START)
    parts, marked, length = [first], [], len(first)
    for part in rest:
        inside, _, outside = part.partition(_END)
        marked.append((length, length + len(inside)))
        parts += [inside, outside]
        length += len(inside) + len(outside)
    return Rendering("".join(parts), marked)


class _GenerationBlocks(Extension):
    """The statement `{% generation %}…{% endgeneration %}`."""

    tags = {"generation"}  # noqa: RUF012  (jinja2 declares it so)

    def parse(self, parser: Parser) -> nodes.CallBlock:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        block = nodes.CallBlock(self.call_method("_mark"), [], [], body)
        block.set_lineno(line)
        return block

    def _mark(self, caller: Macro) -> str:
        return f"{_START}{caller()}{_END}"


@lru_cache(maxsize=8)
def _compile(template: str) -> Any:
    environment = BoundedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlocks, loopcontrols, StepLimit]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = TODAY.strftime
    return environment.from_string(template)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise TemplateError(message)
