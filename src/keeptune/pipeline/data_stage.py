"""The data stage: from rows to verified training, dev and test examples, and a card that accounts for every row."""

from __future__ import annotations

from keeptune.data.card import summarize, summarize_formats
from keeptune.data.preparation import prepare
from keeptune.data.teacher.rows import summarize_teacher_texts
from keeptune.pipeline.context import RunContext
from keeptune.pipeline.input_files import store_input_files
from keeptune.prompts.token_count import TokenCounter, special_tokens
from keeptune.skills.registry import skill_for_section


def run_data_stage(context: RunContext) -> None:
    """Writes inputs.json and data/ (Parquet, rejected.jsonl, card.json) unless complete. One process does the work."""
    context.processes.run_on_main(lambda: _prepare(context))


def _prepare(context: RunContext) -> None:
    directory, recipe = context.directory, context.recipe
    if directory.has_rows:
        return
    with context.stage("data"):
        store_input_files(directory, recipe)
        counter = TokenCounter.of(context.models.tokenizer, context.prompt)
        card = prepare(
            recipe,
            skill_for_section(recipe.data),
            counter,
            directory.data,
            context.workers,
            context.reporter,
            special_tokens(context.models.tokenizer),
            counter.chat,
        )
        lines = (*summarize_formats(card), *summarize(card, recipe.data.conflicts))
        for line in (*lines, *summarize_teacher_texts(directory.data)):
            context.reporter.info(line)
