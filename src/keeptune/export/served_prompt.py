"""The prompt of a tuned model as templates of other programs: Jinja in GGUF files, Go in Ollama's Modelfile.

Programs that serve a model render a conversation with the template that its file carries. If that is the chat template
of the base, a model that was tuned on another prompt answers worse than in its evaluation. So the file carries the
prompt of the training.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from keeptune.errors import ModelError, PromptError
from keeptune.prompts.chat_prompt import AnyPrompt, ChatPrompt
from keeptune.prompts.chat_template import render_chat
from keeptune.prompts.template import SLOT

Turn = tuple[str, str]
"""The role and the content of a turn."""

_SYSTEM, _USER, _ANSWER, _NEXT = (
    ("system", "系统 one"),
    ("user", "问题 two"),
    ("assistant", "回答 three"),
    ("user", "问题 four"),
)
_CONVERSATIONS: tuple[list[Turn], ...] = (
    [_USER],
    [_SYSTEM, _USER],
    [_USER, _ANSWER, _NEXT],
    [_SYSTEM, _USER, _ANSWER, _NEXT, _ANSWER, _USER],
)


class OllamaPrompt(NamedTuple):
    """Ollama's template, and the system text that it uses if a conversation has none."""

    template: str
    system: str | None = None


def jinja_template(prompt: AnyPrompt) -> str:
    """The chat template that renders the prompt. A plain prompt takes the last turn as its problem."""
    if isinstance(prompt, ChatPrompt):
        return prompt.template
    before, after = map(_jinja_literal, prompt.template.split(SLOT))
    return "{{ " + f"{before} + messages[-1]['content'] + {after}" + " }}"


def _jinja_literal(text: str) -> str:
    escapes = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return "'" + "".join(escapes.get(character, character) for character in text) + "'"


def ollama_prompt(prompt: AnyPrompt, begin: str) -> OllamaPrompt:
    """The prompt as Ollama's template (https://docs.ollama.com/template).

    Args:
        prompt: the prompt of the training.
        begin: the text of the BOS token if the tokenizer adds it, else empty. Ollama adds it, too, so the template
            leaves it out.

    Raises:
        ModelError: if a chat template does more than to put texts around each turn.
    """
    if not isinstance(prompt, ChatPrompt):
        before, after = prompt.template.split(SLOT)
        turn = f"{_print(before)}{{{{ .Content }}}}{_print(after)}"
        last = f"{{{{ if eq (len (slice $.Messages $i)) 1 }}}}{turn}{{{{ end }}}}"
        return OllamaPrompt(f"{{{{ range $i, $_ := .Messages }}}}{last}{{{{ end }}}}")
    frame = _frame_of(prompt)
    texts = {**frame.turns, "system": (frame.turns["system"][0].removeprefix(begin), frame.turns["system"][1])}
    turns = "".join(
        f'{{{{ if eq .Role "{role}" }}}}{_print(before)}{{{{ .Content }}}}{_print(after)}{{{{ end }}}}'
        for role, (before, after) in texts.items()
    )
    head, tail = _print(frame.begin.removeprefix(begin)), _print(prompt.generation_prompt)
    return OllamaPrompt(f"{head}{{{{ range .Messages }}}}{turns}{{{{ end }}}}{tail}", frame.system)


def _print(text: str) -> str:
    """Go's action that prints a text. The escapes of JSON strings are also those of Go's."""
    return f"{{{{ {json.dumps(text, ensure_ascii=False)} }}}}" if text else ""


class _Frame(NamedTuple):
    """A chat template that only puts texts around each turn.

    Attributes:
        begin: the text before the first turn.
        turns: the texts before and after a turn, by role.
        system: the system text of conversations that have none.
    """

    begin: str
    turns: dict[str, tuple[str, str]]
    system: str | None

    def render(self, turns: Sequence[Turn]) -> str:
        """The text of a conversation."""
        parts = [self.turns[role][0] + content + self.turns[role][1] for role, content in _complete(turns, self.system)]
        return self.begin + "".join(parts)


def _frame_of(prompt: ChatPrompt) -> _Frame:
    """The frame of a chat template.

    Raises:
        ModelError: if its renderings of several conversations differ from those of the template.
    """
    try:
        frame = _derive_frame(prompt)
        is_equal = all(
            frame.render(turns) + prompt.generation_prompt == _render(prompt, turns, True) for turns in _CONVERSATIONS
        )
    except PromptError:
        is_equal = False
    if not is_equal:
        raise ModelError(
            "the chat template does more than to put texts around each turn, so keeptune cannot translate it into "
            "Ollama's language; export with `--to gguf` and write a Modelfile with your own TEMPLATE"
        )
    return frame


def _derive_frame(prompt: ChatPrompt) -> _Frame:
    """The frame that a chat template would have if it only put texts around each turn."""
    after_user = _render(prompt, [_SYSTEM, _USER]).partition(_USER[1])[2]
    alone = _render(prompt, [_USER]).partition(_USER[1])[0]
    rest = _render(prompt, [_SYSTEM, _USER, _ANSWER, _NEXT])
    before_system, _, rest = rest.partition(_SYSTEM[1])
    to_user, _, rest = rest.partition(_USER[1])
    to_answer, _, rest = rest.partition(_ANSWER[1])
    to_next = rest.partition(_NEXT[1])[0]
    before_user = to_user.removeprefix(after_user)  # most templates end all turns alike
    after_system = to_user.removesuffix(before_user)
    begin, system = alone.removesuffix(before_user), prompt.system
    if before_system and begin.startswith(before_system):  # the template itself contains a system text
        system = begin.removeprefix(before_system).removesuffix(after_system) if system is None else system
        begin = ""
    turns = {
        "system": (before_system.removeprefix(begin), after_system),
        "user": (before_user, after_user),
        "assistant": (to_answer.removeprefix(after_user), to_next.removesuffix(before_user)),
    }
    return _Frame(begin, turns, system)


def _complete(turns: Sequence[Turn], system: str | None) -> list[Turn]:
    """A conversation with a system turn, if there is a system text and the conversation has none."""
    return [("system", system), *turns] if system is not None and turns[0][0] != "system" else list(turns)


def _render(prompt: ChatPrompt, turns: Sequence[Turn], add_generation_prompt: bool = False) -> str:
    """The text of a conversation under the chat template, with the recipe's system text if it has none."""
    messages = [{"role": role, "content": content} for role, content in _complete(turns, prompt.system)]
    variables = {**prompt.special_tokens, **prompt.arguments}
    return render_chat(prompt.template, messages, None, add_generation_prompt, variables).text
