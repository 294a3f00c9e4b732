"""Plans a run without training: runs the data stage, and estimates time, memory and the questions for a verdict."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from keeptune.config.ability_names import READING_ABILITY
from keeptune.config.adapter import AdapterSection
from keeptune.config.recipe import Recipe
from keeptune.data.card import DataCard
from keeptune.data.preparation import load_prepared_rows, prepare
from keeptune.data.solution_rendering import PreparedRow
from keeptune.data.workers import WorkerConfig
from keeptune.evaluation import contest
from keeptune.evaluation.abilities.registry import abilities_named
from keeptune.evaluation.power import DecidingMeasure, plan_abilities
from keeptune.evaluation.practised import practised_by
from keeptune.evaluation.verdict_record import limits_of
from keeptune.grading.squad import load_reading_items
from keeptune.models import adapters
from keeptune.models import load as models
from keeptune.pipeline.memory_estimate import build_meta_model, peak_bytes
from keeptune.pipeline.speed_estimate import tokens_per_second
from keeptune.progress import Reporter, SilentReporter
from keeptune.prompts.token_count import TokenCounter, special_tokens
from keeptune.skills.registry import skill_for_section
from keeptune.training.batches import padding_share, plan_steps
from keeptune.training.target_truncation import truncated_row_tokens

Plan = dict[str, Any]


def plan(
    recipe: Recipe,
    reporter: Reporter | None = None,
    workers: WorkerConfig = WorkerConfig(),  # noqa: B008  (frozen)
) -> Plan:
    """Rows and tokens by kind, steps, trainable parameters, estimated seconds and bytes. Writes no files.

    Raises:
        DataError, RecipeError: as in the data stage.
        ModelError: when `adapter.targets` match no layer.
    """
    reporter = reporter or SilentReporter()
    card, rows = _data(recipe, reporter, workers)
    lengths = [truncated_row_tokens(row, recipe.train.truncate_targets, recipe.seed) for row in rows]
    config = models.load_config(recipe.model.name)
    parameters = count_parameters(config, recipe.adapter)
    share = recipe.retain.replay_share
    epochs = recipe.train.epochs_of(round(sum(lengths) / (1 - share)))
    tokens = round(sum(lengths) * epochs / (1 - share))
    batches = plan_steps(lengths, recipe.train.tokens_per_step, recipe.train.tokens_per_batch, epochs, recipe.seed)
    reading = len(load_reading_items(recipe.score.retained, recipe.score.retained_limit))
    questions = max(card.splits["test"].rows, reading)
    rate = tokens_per_second(config, recipe, lengths)
    return {
        "model": recipe.model.name,
        **_counts(card),
        "tokens": {
            "training": tokens,
            "replay_share": share,
            "padded_share": padding_share(batches, lengths),
        },
        "steps": round(len(batches) / (1 - share)),
        "parameters": {
            "trainable": parameters.trainable,
            "total": parameters.total,
            "ratio": parameters.ratio,
            "contest_ratio": parameters.trainable / contest.PHASE1_TOTAL_PARAMETERS,
        },
        "abilities": retention_plan(recipe),
        "estimate": {
            "tokens_per_second": rate,
            "training_seconds": tokens / rate,
            "memory_bytes": peak_bytes(config, parameters, recipe, max(lengths, default=0), questions),
        },
    }


def _data(recipe: Recipe, reporter: Reporter, workers: WorkerConfig) -> tuple[DataCard, list[PreparedRow]]:
    """The card and the training rows of the data stage, run in a temporary folder, without a teacher model."""
    tokenizer = models.load_tokenizer(recipe.model.name)
    with tempfile.TemporaryDirectory() as scratch:
        reporter.stage("data")
        folder = Path(scratch) / "data"
        data = recipe.data.model_copy(update={"teacher": None})
        counter = TokenCounter.of(tokenizer, models.load_prompt(recipe.prompt, recipe.model.name, tokenizer))
        job, tokens = recipe.model_copy(update={"data": data}), special_tokens(tokenizer)
        card = prepare(job, skill_for_section(data), counter, folder, workers, special_tokens=tokens, chat=counter.chat)
        return card, load_prepared_rows(folder / "train.parquet")


def _counts(card: DataCard) -> Plan:
    """The row counts of the data stage, from its card."""
    return {
        "kinds": {kind: asdict(counts) for kind, counts in card.kinds.items()},
        "rows_read": card.rows_read,
        "rows_rejected": card.rows_rejected,
        "rejected_by_reason": card.rejected_by_reason,
        "unwrapped": card.unwrapped,
        "ambiguous": card.ambiguous,
        "formats": card.formats,
        "max_tokens": card.max_tokens,
        "truncated": card.truncated,
        "too_long_dropped": card.too_long_dropped,
        "left_out": card.left_out,
        "spelling": card.spelling,
        "leaks": asdict(card.leaks),
        "splits": {part: asdict(counts) for part, counts in card.splits.items()},
    }


def retention_plan(recipe: Recipe) -> dict[str, Any]:
    """For each ability: questions needed for a verdict at 90 % power, questions available, whether it is practised."""
    size = recipe.score.suite
    if size == "none":
        return {}
    reading = len(load_reading_items(recipe.score.retained, recipe.score.retained_limit))
    counts: list[tuple[str, DecidingMeasure, int]] = [
        (
            ability.name,
            "loss" if ability.requires_same_tokens else "probability" if ability.has_options else "score",
            reading if ability.name == READING_ABILITY else len(ability.items("final", size)),
        )
        for ability in abilities_named(recipe.score.abilities, size)
    ]
    practised = practised_by(recipe)
    return {
        ability.name: {**asdict(ability), "is_enough": ability.is_enough, "practised": practised.get(ability.name)}
        for ability in plan_abilities(counts, limits_of(recipe.gate))
    }


def count_parameters(config: Any, adapter: AdapterSection) -> adapters.ParameterCount:
    """The parameters of the adapter and of the model, counted on a model without weights.

    Raises:
        ModelError: when the targets match no layer, or the adapter family cannot adapt them.
    """
    return adapters.count_parameters(build_meta_model(config, adapter))


def text(content: Plan) -> str:
    """The plan as text."""
    lines = [
        f"model       {content['model']}",
        f"rows        {content['rows_read']:,} read, {content['rows_rejected']:,} rejected",
    ]
    lines += [f"  rejected  {count:>9,} × {reason}" for reason, count in content["rejected_by_reason"].items()]
    lines += [
        f"  {kind:10} {facts['rows']:>9,} rows  {facts['unique']:>8,} unique  {facts['chosen']:>7,} chosen  "
        f"train {facts['train']:,} dev {facts['dev']:,} test {facts['test']:,}"
        for kind, facts in content["kinds"].items()
        if facts["rows"]
    ]
    lines += [
        f"  {kind:10} {facts['too_coarse']:>9,} answers rounded coarser than the grader allows: these will score wrong"
        for kind, facts in content["kinds"].items()
        if facts["too_coarse"]
    ]
    longest = max(
        facts["prompt_tokens"]["max"] + facts["solution_tokens"]["max"] for facts in content["kinds"].values()
    )
    leaks = content["leaks"]
    if content["spelling"] != "plain":
        lines.append(f"spelling    numbers in the solutions are {content['spelling']}")
    lines.append(
        f"lengths     at most {longest:,} of {content['max_tokens']:,} tokens, {content['truncated']:,} truncated, "
        f"{content['too_long_dropped']:,} dropped"
    )
    lines.append(
        f"leaks       {leaks['retained_overlap']:,} with the reading questions, "
        f"{sum(leaks['held_overlap_by_kind'].values()) + sum(leaks['held_twins_by_kind'].values()):,} with dev and test"
    )
    for name, ability in content["abilities"].items():
        enough = (
            "practised, not counted"
            if ability["practised"]
            else "enough"
            if ability["is_enough"]
            else "too few to decide"
        )
        lines.append(
            f"retention   {name:13} {ability['questions']:>5,} questions, {ability['needed']:>5,} needed: {enough}"
        )
    tokens, parameters, estimate = content["tokens"], content["parameters"], content["estimate"]
    return "\n".join(
        [
            *lines,
            f"training    {tokens['training']:,} tokens ({tokens['replay_share']:.0%} replay, "
            f"{tokens['padded_share']:.1%} padding) in {content['steps']:,} steps",
            f"parameters  {parameters['trainable']:,} of {parameters['total']:,} trained ({parameters['ratio']:.4%})",
            f"estimate    {estimate['training_seconds'] / 60:,.1f} min of training at "
            f"{estimate['tokens_per_second']:,.0f} tokens/s, {estimate['memory_bytes'] / 2**30:.1f} GiB",
        ]
    )
