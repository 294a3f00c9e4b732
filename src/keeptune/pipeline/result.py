"""result.json: every figure of a run, computed from its per-question records and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from math import isfinite
from typing import Any

import numpy as np

from keeptune.config.recipe import Recipe
from keeptune.evaluation import answer_divergence as divergence
from keeptune.evaluation import contest, harness, skill
from keeptune.evaluation import divergence as drift
from keeptune.evaluation import reading as retained
from keeptune.evaluation.abilities.registry import suite_sha256
from keeptune.evaluation.gate import AbilityScores, judge
from keeptune.evaluation.reading_gate import Gate, Task, verdict, with_tasks
from keeptune.evaluation.statistics import Estimate, Ratio, mcnemar, paired_difference
from keeptune.evaluation.suite.loader import VERSION
from keeptune.evaluation.verdict_record import SCHEMA_VERSION, abilities_record, gate_record, limits_of
from keeptune.grading.number import HEADLINE
from keeptune.models.adapter import Parameters
from keeptune.prompts.reading import other
from keeptune.prompts.template import Prompt

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Scores:
    """The records of one model, one a question: skill, retained ability, this under the other reading prompt, and tasks
    of lm-evaluation-harness."""

    skill: Sequence[Record]
    retained: Sequence[Record]
    other_prompt: Sequence[Record] = ()
    tasks: Sequence[Record] = ()


@dataclass(frozen=True, slots=True)
class SuiteScores:
    """What the retention suite and the divergence on the tuned model's answers were measured to."""

    abilities: Sequence[AbilityScores]
    divergences: Sequence[Record]


def result(
    recipe: Recipe,
    base: Scores,
    tuned: Scores,
    moved: Sequence[Record],
    parameters: Parameters,
    cost: Record,
    chosen: Record,
    prompt: Prompt,
    suite: SuiteScores | None = None,
) -> Record:
    """The whole of result.json; its layout is a contract.

    `moved` are the records of keeptune.evaluation.divergence; `suite` is None where the suite was not evaluated.
    """
    resamples, seed = recipe.gate.resamples, recipe.seed
    f1 = retained.ratio(base.retained, tuned.retained, "f1", resamples, seed)
    em = retained.ratio(base.retained, tuned.retained, "em", resamples, seed)
    likelihood = retained.likelihood_ratio(base.retained, tuned.retained, resamples, seed)
    tasks = harness.summary(base.tasks, tuned.tasks, resamples, seed)
    judged = judge(suite.abilities, limits_of(recipe.gate), resamples=resamples, seed=seed) if suite else None
    if judged and recipe.gate.policy == "suite":
        gate = gate_record(judged, limits_of(recipe.gate))
    else:
        gate = {"policy": "contest", **asdict(_contest_gate(recipe, base, (f1, em), likelihood, tasks))}
    tuned_skill = skill.summary(tuned.skill)
    return {
        "schema_version": SCHEMA_VERSION,
        "name": recipe.name,
        "model": recipe.model.name,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "skill": {"base": skill.summary(base.skill), "tuned": tuned_skill, **_gain(base, tuned, resamples, seed)},
        "retained": {
            "set": recipe.score.retained,
            "metric": retained.SQUAD,
            "prompt": recipe.score.reading_prompt,
            **_by_metric(base.retained, tuned.retained),
            "ratio": {"f1": _finite(f1), "em": _finite(em), "likelihood": likelihood and _finite(likelihood)},
            "other_prompt": _other_prompt(recipe, base.other_prompt, tuned.other_prompt),
            **(
                {"tasks": {name: {**own, "ratio": _finite(own["ratio"])} for name, own in tasks.items()}}
                if tasks
                else {}
            ),
            "token_loss": drift.loss_summary(moved, resamples, seed),
            "kl": {own: drift.divergence_summary(moved, own, resamples, seed) for own in drift.SORTS}
            if moved
            else None,
            "kl_on_answers": _divergences(suite, resamples, seed) if suite else None,
        },
        "suite": {"version": VERSION, "size": recipe.score.suite, "sha256": suite_sha256(recipe.score.suite)}
        if recipe.score.suite != "none"
        else None,
        "abilities": abilities_record(judged) if judged else {},
        "gate": gate,
        "parameters": {"trainable": parameters.trainable, "total": parameters.total, "ratio": parameters.ratio},
        "contest": {
            "phase1": contest.phase1(parameters.ratio, tuned_skill["accuracy"]),
            "phase2": contest.phase2(parameters.ratio, tuned_skill["accuracy"]),
        },
        "cost": cost,
        "chosen": chosen,
        "prompt": {"template": prompt.template, "sha256": prompt.sha256},
    }


def _contest_gate(
    recipe: Recipe, base: Scores, ratios: tuple[Ratio, Ratio], likelihood: Ratio | None, tasks: dict[str, Record]
) -> Gate:
    """The verdict on reading alone, and on tasks of the harness where the recipe names some."""
    gate = verdict(
        *ratios,
        recipe.gate.threshold,
        base_f1_total=float(retained.points(base.retained, "f1").sum()),
        base_em_total=float(retained.points(base.retained, "em").sum()),
        questions=len(base.retained),
        likelihood=likelihood,
    )
    return with_tasks(
        gate, [Task(name, own["ratio"], own["base"] * own["n"] / 100, own["n"]) for name, own in tasks.items()]
    )


def _divergences(suite: SuiteScores, resamples: int, seed: int) -> Record:
    """KL(tuned ‖ base) per token of the tuned model's answers, by prompts and mode."""
    return {
        what: {mode: divergence.summary(suite.divergences, what, mode, resamples, seed) for mode in divergence.MODES}
        for what in divergence.SOURCES
    }


def _by_metric(base: Sequence[Record], tuned: Sequence[Record]) -> Record:
    return {
        "base": retained.summary(base),
        "tuned": retained.summary(tuned),
        "contest_metric": {
            "base": retained.summary(base, retained.CONTEST),
            "tuned": retained.summary(tuned, retained.CONTEST),
        },
    }


def _other_prompt(recipe: Recipe, base: Sequence[Record], tuned: Sequence[Record]) -> Record | None:
    """The same figures under the other reading prompt; None where it was not asked."""
    if not base or not tuned:
        return None
    ratios = {
        measure: _finite(retained.ratio(base, tuned, measure, recipe.gate.resamples, recipe.seed))
        for measure in ("f1", "em")
    }
    return {"prompt": other(recipe.score.reading_prompt), **_by_metric(base, tuned), "ratio": ratios}


def _gain(base: Scores, tuned: Scores, resamples: int, seed: int) -> Record:
    before, after = (
        np.array([record["verdicts"][HEADLINE] for record in scores.skill], dtype=np.bool_) for scores in (base, tuned)
    )
    names = [record["id"] for record in base.skill]
    difference = paired_difference(
        before.astype(np.float64), after.astype(np.float64), names, resamples=resamples, seed=seed
    )
    return {"difference": _finite(difference), "mcnemar_p": mcnemar(before, after).p_value}


def _finite(estimate: Estimate) -> Record:
    """The estimate with null for what is no number: a ratio to a base that scored nothing. JSON has no infinity."""
    return {name: value if isfinite(value) else None for name, value in asdict(estimate).items()}
