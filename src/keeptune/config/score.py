"""The section `score` of a recipe: what base and tuned model are evaluated on."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from keeptune.config.section import AbilityNames, Section, StringTuple


class ScoreSection(Section):
    """The evaluation. The base model and the tuned model answer the same questions."""

    suite: Literal["none", "quick", "standard", "full"] = Field(
        "standard", description="size of the retention suite; `none` skips it"
    )
    abilities: AbilityNames = Field(("all",), description="abilities of the suite to evaluate, or `all`")
    retained: str = Field("embedded", description="reading questions: a SQuAD v1.1 file, or `embedded`")
    retained_limit: int = Field(0, ge=0, le=10**9, description="evaluate the first N reading questions only; 0: all")
    reading_prompt: Literal["few-shot", "contest"] = Field("few-shot", description="prompt of the reading questions")
    both_prompts: bool = Field(
        False,
        description="also evaluate the reading questions with the other reading prompt, which takes the same time "
        "again; the gate uses `score.reading_prompt` only",
    )
    tasks: StringTuple = Field(
        (), description="lm-evaluation-harness tasks to evaluate as well (`pip install 'keeptune[harness]'`)"
    )
    tasks_limit: int = Field(0, ge=0, le=10**9, description="evaluate the first N questions of each task only; 0: all")
    tasks_path: str | None = Field(
        None, description="folder with additional task files; they can hold code, so they need `keeptune --allow-code`"
    )
    dev_limit: int = Field(
        60,
        ge=0,
        le=10**9,
        description="maximum number of dev problems, and of reading questions, per evaluation during training",
    )
    general: StringTuple = Field(
        ("embedded",),
        description="plain-text files, or `embedded`, for the loss on general text and the divergence from the base; "
        "empty skips both",
    )
    general_limit: int = Field(
        0,
        ge=0,
        le=10**9,
        description="evaluate the first N texts only (texts are separated by empty lines); 0: all",
    )
