"""How a question reaches the model: the model's own chat template, or raw text where it has none.

The choice is made by the tokenizer alone, recorded with every answer, and the same for base and tuned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints

from keeptune.errors import ModelError
from keeptune.prompts.template import Prompt, encode_prompt

LayoutName = Literal["chat", "template", "raw"]

FALLBACK = Prompt("Question: {problem}\nAnswer:\n")
"""The prompt of models without a chat template where no recipe names one."""


def fallback_prompt(prompt: Prompt, invoked: bool) -> Prompt:
    """What a model without a chat template is asked with: the recipe's prompt, but for an adapter that would be
    invoked by it."""
    return FALLBACK if invoked else prompt


class Message(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Literal["system", "user", "assistant"]
    content: Annotated[str, StringConstraints(min_length=1, pattern=r"\S")]


@dataclass(frozen=True, slots=True)
class ChatLayout:
    """Renders conversations and questions for one tokenizer. `fallback` is for models without a chat template."""

    tokenizer: Any
    fallback: Prompt = FALLBACK

    @property
    def is_chat(self) -> bool:
        """Whether the tokenizer brings a chat template."""
        return getattr(self.tokenizer, "chat_template", None) is not None

    @property
    def name(self) -> LayoutName:
        """The layout of conversations, as it is recorded."""
        return "chat" if self.is_chat else "template"

    @property
    def fingerprint(self) -> dict[str, Any]:
        """All that decides how a question is rendered, for the cache of answers."""
        return {
            "layout": self.name,
            "template": getattr(self.tokenizer, "chat_template", None),
            "fallback": self.fallback.template,
        }

    def conversation(self, messages: Sequence[Message]) -> str:
        """The text after which the assistant's turn begins.

        Without a chat template, earlier turns stand as plain lines before the last question.

        Raises:
            ModelError: when the chat template refuses the conversation.
        """
        if not self.is_chat:
            *before, last = (message.content for message in messages)
            return self.fallback.render("\n".join([*before, last]))
        turns = [message.model_dump() for message in messages]
        try:
            return str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
        except Exception as error:
            # Templates raise whatever their author chose, such as jinja2.TemplateError for a system message.
            if turns[0]["role"] == "system" and len(turns) > 1:
                first = f"{turns[0]['content']}\n\n{turns[1]['content']}"
                return self.conversation([Message(role="user", content=first), *messages[2:]])
            raise ModelError(f"the tokenizer's chat template cannot render a conversation ({error})") from None

    def question(self, text: str) -> str:
        """A single question as a conversation of one turn."""
        return self.conversation([Message(role="user", content=text)])

    def tokens(self, rendered: str) -> list[int]:
        """The tokens of a rendered conversation. A chat template writes its own begin token."""
        if self.is_chat:
            return list(self.tokenizer.encode(rendered, add_special_tokens=False))
        return encode_prompt(self.tokenizer, rendered)
