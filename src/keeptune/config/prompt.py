"""The section `prompt` of a recipe: the template that surrounds each problem, or the model's chat template."""

from __future__ import annotations

from typing import Any

from pydantic import Field, JsonValue, field_validator, model_validator

from keeptune.config.section import Section, raise_errors
from keeptune.errors import PromptError
from keeptune.prompts import named
from keeptune.prompts.chat_prompt import CHAT, LossOn

_RESERVED_ARGUMENTS = ("messages", "tools", "documents", "add_generation_prompt")


class PromptSection(Section):
    """The prompt. Training, evaluation, serving and export use the same one. A single text is `prompt.template`."""

    template: str = Field(
        "Question: {problem}\nAnswer:\n",
        description="`chat`: the tokenizer's own chat template, for rows of any number of turns; or text with "
        "`{problem}` exactly once; or the name of a template: `vicuna-alpaca`, `vicuna`, `alpaca` (as in the contest's "
        "kit)",
    )
    system: str | None = Field(
        None, min_length=1, description="system turn of conversations that have none, with `chat`; null: no system turn"
    )
    arguments: dict[str, JsonValue] = Field(
        default_factory=dict, description="variables of the chat template, such as `{enable_thinking: false}`"
    )
    loss_on: LossOn = Field(
        "all", description="assistant turns to train on, with `chat`: `all`, or only the `last` of each conversation"
    )

    @property
    def is_chat(self) -> bool:
        """Whether the prompt is the tokenizer's chat template."""
        return self.template == CHAT

    @model_validator(mode="before")
    @classmethod
    def _expand_name(cls, value: Any) -> Any:
        return {"template": value} if isinstance(value, str) else value

    @field_validator("template")
    @classmethod
    def _resolve_name(cls, template: str) -> str:
        if template == CHAT:
            return template
        try:
            return named.resolve_template(template, (CHAT,))
        except PromptError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _check_chat_keys(self) -> PromptSection:
        defaults = PromptSection.model_fields
        errors = [
            f"prompt.{key} needs prompt.template: {CHAT}"
            for key in ("system", "arguments", "loss_on")
            if not self.is_chat and getattr(self, key) != defaults[key].get_default(call_default_factory=True)
        ]
        errors += [
            f"prompt.arguments: {name} is set by keeptune; remove it"
            for name in _RESERVED_ARGUMENTS
            if name in self.arguments
        ]
        raise_errors(errors)
        return self
