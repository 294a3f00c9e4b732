"""The section `prompt` of a recipe: the template that surrounds each problem."""

from __future__ import annotations

from pydantic import Field, field_validator

from keeptune.config.section import Section
from keeptune.errors import PromptError
from keeptune.prompts import named


class PromptSection(Section):
    """The prompt template. Training, evaluation, serving and export use the same one."""

    template: str = Field(
        "Question: {problem}\nAnswer:\n",
        description="text with `{problem}` exactly once, or the name of a template: `vicuna-alpaca`, `vicuna`, "
        "`alpaca` (as in the contest's kit)",
    )

    @field_validator("template")
    @classmethod
    def _resolve_name(cls, template: str) -> str:
        try:
            return named.resolve_template(template)
        except PromptError as error:
            raise ValueError(str(error)) from None
