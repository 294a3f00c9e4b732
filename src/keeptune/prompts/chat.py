"""Rendering of conversations with the model's chat template, or as plain text if the model has none.

Only the tokenizer determines the layout. It is recorded with every answer and equal for the base and the tuned model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints

from keeptune.errors import ModelError
from keeptune.prompts.chat_prompt import AnyPrompt
from keeptune.prompts.template import Prompt, encode_prompt

LayoutName = Literal["chat", "template", "raw"]

FALLBACK = Prompt("Question: {problem}\nAnswer:\n")
"""Prompt for models without a chat template if no recipe names a prompt."""


def fallback_prompt(prompt: AnyPrompt, invoked: bool) -> Prompt:
    """Return the prompt for a model without a chat template.

    This is the recipe's prompt, unless the adapter has an invocation, which that prompt would contain. A recipe with a
    chat prompt has a model with a chat template.
    """
    return prompt if isinstance(prompt, Prompt) and not invoked else FALLBACK


class Message(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Literal["system", "user", "assistant"]
    content: Annotated[str, StringConstraints(min_length=1, pattern=r"\S")]


@dataclass(frozen=True, slots=True)
class ChatLayout:
    """Renders conversations for one tokenizer; models without a chat template use `fallback`."""

    tokenizer: Any
    fallback: Prompt = FALLBACK

    @property
    def is_chat(self) -> bool:
        """Whether the tokenizer has a chat template."""
        return getattr(self.tokenizer, "chat_template", None) is not None

    @property
    def name(self) -> LayoutName:
        """The name of the layout in records."""
        return "chat" if self.is_chat else "template"

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Everything that determines the rendering, as a key for the answer cache."""
        return {
            "layout": self.name,
            "template": getattr(self.tokenizer, "chat_template", None),
            "fallback": self.fallback.template,
        }

    def conversation(self, messages: Sequence[Message]) -> str:
        """Return the text of a conversation up to the start of the assistant's turn.

        Without a chat template, earlier turns become plain lines before the last question.

        Raises:
            ModelError: If the chat template rejects the conversation.
        """
        if not self.is_chat:
            *before, last = (message.content for message in messages)
            return self.fallback.render("\n".join([*before, last]))
        turns = [message.model_dump() for message in messages]
        try:
            return str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
        except Exception as error:
            # Templates raise any exception, for example jinja2.TemplateError for a system message.
            if turns[0]["role"] == "system" and len(turns) > 1:
                first = f"{turns[0]['content']}\n\n{turns[1]['content']}"
                return self.conversation([Message(role="user", content=first), *messages[2:]])
            raise ModelError(f"the tokenizer's chat template cannot render a conversation ({error})") from None

    def question(self, text: str) -> str:
        """Return a single question, rendered as a conversation of one turn."""
        return self.conversation([Message(role="user", content=text)])

    def tokens(self, rendered: str) -> list[int]:
        """Return the tokens of a rendered conversation. A chat template adds its own BOS token."""
        if self.is_chat:
            return list(self.tokenizer.encode(rendered, add_special_tokens=False))
        return encode_prompt(self.tokenizer, rendered)
