"""Computes result.json: every figure of a run, from its per-item records alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from math import isfinite
from typing import Literal

from keeptune.config.recipe import Recipe
from keeptune.evaluation import answer_divergence, contest, harness, reading_score, skill_score, text_divergence
from keeptune.evaluation.abilities.registry import suite_sha256
from keeptune.evaluation.gate import AbilityScores, GateResult, judge
from keeptune.evaluation.reading_gate import ReadingVerdict, TaskScore, combine_with_tasks, judge_reading
from keeptune.evaluation.statistics import Estimate, Ratio, paired_difference
from keeptune.evaluation.suite.loader import VERSION
from keeptune.evaluation.verdict_record import SCHEMA_VERSION, abilities_record, gate_record, limits_of
from keeptune.files import Record
from keeptune.models.adapters import ParameterCount
from keeptune.prompts.chat_prompt import AnyPrompt
from keeptune.prompts.reading import other_layout
from keeptune.skills.registry import skill_for_section


@dataclass(frozen=True, slots=True)
class Scores:
    """The records of base or tuned, one per item: skill, reading, reading under the other prompt, and tasks of
    lm-evaluation-harness."""

    skill: Sequence[Record]
    retained: Sequence[Record]
    other_prompt: Sequence[Record] = ()
    tasks: Sequence[Record] = ()


@dataclass(frozen=True, slots=True)
class SuiteScores:
    """Measurements of the retention suite, and records of the divergence on the tuned model's answers."""

    abilities: Sequence[AbilityScores]
    divergences: Sequence[Record]


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the stages provide for result.json.

    `divergences` are the records of evaluation.text_divergence. `suite` is None where the retention suite was not
    evaluated. `cost` and `chosen` are copied as they are.
    """

    base: Scores
    tuned: Scores
    divergences: Sequence[Record]
    suite: SuiteScores | None
    parameters: ParameterCount
    cost: Record
    chosen: Record


def result(recipe: Recipe, prompt: AnyPrompt, inputs: Inputs) -> Record:
    """The content of result.json; keeptune.run_files.result is its schema."""
    base, tuned, parameters = inputs.base, inputs.tuned, inputs.parameters
    grader = skill_for_section(recipe.data).grader
    base_skill, tuned_skill = (skill_score.summarize(scores.skill, grader) for scores in (base, tuned))
    judged = _judged(recipe, inputs.suite)
    return {
        "schema_version": SCHEMA_VERSION,
        "name": recipe.name,
        "model": recipe.model.name,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "skill": {"base": base_skill, "tuned": tuned_skill, **_gain(recipe, base, tuned)},
        "retained": _retained(recipe, inputs),
        "suite": {"version": VERSION, "size": recipe.score.suite, "sha256": suite_sha256(recipe.score.suite)}
        if recipe.score.suite != "none"
        else None,
        "abilities": abilities_record(judged) if judged else {},
        "gate": _gate(recipe, base, tuned, judged),
        "parameters": {"trainable": parameters.trainable, "total": parameters.total, "ratio": parameters.ratio},
        "contest": {
            "phase1": contest.phase1_score(parameters.ratio, tuned_skill["accuracy"]),
            "phase2": contest.phase2_score(parameters.ratio, tuned_skill["accuracy"]),
        },
        "cost": inputs.cost,
        "chosen": inputs.chosen,
        "prompt": {"template": prompt.template, "sha256": prompt.sha256},
    }


def _judged(recipe: Recipe, suite: SuiteScores | None) -> GateResult | None:
    if suite is None:
        return None
    return judge(suite.abilities, limits_of(recipe.gate), resamples=recipe.gate.resamples, seed=recipe.seed)


def _gate(recipe: Recipe, base: Scores, tuned: Scores, judged: GateResult | None) -> Record:
    """The verdict, by the policy of the recipe: on the retention suite, or on reading alone as in the contest."""
    if judged and recipe.gate.policy == "suite":
        return gate_record(judged, limits_of(recipe.gate))
    return {"policy": "contest", **asdict(_contest_gate(recipe, base, tuned))}


def _retained(recipe: Recipe, inputs: Inputs) -> Record:
    """Reading under both prompts, tasks of lm-evaluation-harness, loss on texts, and divergence from the base."""
    base, tuned, resamples, seed = inputs.base, inputs.tuned, recipe.gate.resamples, recipe.seed
    ratios: Record = {
        measure: finite_estimate(_reading_ratio(recipe, base, tuned, measure)) for measure in ("f1", "em")
    }
    likelihood = reading_score.likelihood_ratio(base.retained, tuned.retained, resamples, seed)
    tasks = harness.summarize(base.tasks, tuned.tasks, resamples, seed)
    finite_tasks = {name: {**task, "ratio": finite_estimate(task["ratio"])} for name, task in tasks.items()}
    kl = {
        what: text_divergence.summarize_divergence(inputs.divergences, what, resamples, seed)
        for what in text_divergence.TEXT_KINDS
    }
    return {
        "set": recipe.score.retained,
        "metric": reading_score.SQUAD,
        "prompt": recipe.score.reading_prompt,
        **_by_metric(base.retained, tuned.retained),
        "ratio": {**ratios, "likelihood": likelihood and finite_estimate(likelihood)},
        "other_prompt": _other_prompt(recipe, base, tuned),
        **({"tasks": finite_tasks} if tasks else {}),
        "token_loss": text_divergence.summarize_loss(inputs.divergences, resamples, seed),
        "kl": kl if inputs.divergences else None,
        "kl_on_answers": _divergences(inputs.suite, resamples, seed) if inputs.suite else None,
    }


def _reading_ratio(recipe: Recipe, base: Scores, tuned: Scores, measure: Literal["f1", "em"]) -> Ratio:
    return reading_score.score_ratio(base.retained, tuned.retained, measure, recipe.gate.resamples, recipe.seed)


def _contest_gate(recipe: Recipe, base: Scores, tuned: Scores) -> ReadingVerdict:
    """The verdict on reading alone, and on tasks of the harness where the recipe names some."""
    resamples, seed = recipe.gate.resamples, recipe.seed
    likelihood = reading_score.likelihood_ratio(base.retained, tuned.retained, resamples, seed)
    tasks = harness.summarize(base.tasks, tuned.tasks, resamples, seed)
    gate = judge_reading(
        _reading_ratio(recipe, base, tuned, "f1"),
        _reading_ratio(recipe, base, tuned, "em"),
        recipe.gate.threshold,
        base_f1_total=float(reading_score.per_question_scores(base.retained, "f1").sum()),
        base_em_total=float(reading_score.per_question_scores(base.retained, "em").sum()),
        questions=len(base.retained),
        likelihood=likelihood,
        base_answer_nats=reading_score.answer_nats(base.retained),
    )
    return combine_with_tasks(
        gate,
        [TaskScore(name, task["ratio"], task["base"] * task["n"] / 100, task["n"]) for name, task in tasks.items()],
    )


def _divergences(suite: SuiteScores, resamples: int, seed: int) -> Record:
    """KL(tuned ‖ base) per token of the tuned model's answers, by prompts and mode."""
    return {
        what: {
            mode: answer_divergence.summarize(suite.divergences, what, mode, resamples, seed)
            for mode in answer_divergence.MODES
        }
        for what in answer_divergence.SOURCES
    }


def _by_metric(base: Sequence[Record], tuned: Sequence[Record]) -> Record:
    return {
        "base": reading_score.summarize(base),
        "tuned": reading_score.summarize(tuned),
        "contest_metric": {
            "base": reading_score.summarize(base, reading_score.CONTEST),
            "tuned": reading_score.summarize(tuned, reading_score.CONTEST),
        },
    }


def _other_prompt(recipe: Recipe, base: Scores, tuned: Scores) -> Record | None:
    """The same figures under the other reading prompt; None where it was not used."""
    if not base.other_prompt or not tuned.other_prompt:
        return None
    records = base.other_prompt, tuned.other_prompt
    ratios = {
        measure: finite_estimate(reading_score.score_ratio(*records, measure, recipe.gate.resamples, recipe.seed))
        for measure in ("f1", "em")
    }
    return {"prompt": other_layout(recipe.score.reading_prompt), **_by_metric(*records), "ratio": ratios}


def _gain(recipe: Recipe, base: Scores, tuned: Scores) -> Record:
    """The gain of the mean score, with its paired interval and, for right and wrong answers, McNemar's test."""
    before, after = skill_score.scores_of(base.skill), skill_score.scores_of(tuned.skill)
    names = [record["id"] for record in base.skill]
    difference = paired_difference(before, after, names, resamples=recipe.gate.resamples, seed=recipe.seed)
    return {"difference": finite_estimate(difference), "mcnemar_p": skill_score.mcnemar_p_value(before, after)}


def finite_estimate(estimate: Estimate) -> Record:
    """The estimate with null for nan and infinity, which JSON lacks: the ratio to a base that scored nothing."""
    return {name: value if isfinite(value) else None for name, value in asdict(estimate).items()}
