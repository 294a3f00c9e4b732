"""The figures of an artefact, from its stored answers and those of the run. No model is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from keeptune.config.ability_names import READING_ABILITY
from keeptune.evaluation import skill_score
from keeptune.evaluation.abilities.base import Ability
from keeptune.evaluation.abilities.registry import ABILITIES
from keeptune.evaluation.gate import AbilityResult, AbilityScores, GateResult, Limits, Measurement, judge
from keeptune.evaluation.statistics import paired_difference
from keeptune.evaluation.suite_evaluation import record_path
from keeptune.evaluation.verdict_record import abilities_record, gate_record, limits_of
from keeptune.files import Record, read_records
from keeptune.pipeline.artefact_differences import near_ties
from keeptune.pipeline.context import RunContext
from keeptune.pipeline.final_evaluation import READING, SKILL, as_reading
from keeptune.pipeline.result import finite_estimate

SKILL_FILE, DIFFERENCES_FILE, READING_FILE = "skill.jsonl", "differences.jsonl", "reading.jsonl"

EXPECTED_EQUAL = 0.99
"""The share of equal answers that is expected of a file whose weights are rounded to 16 bits at most."""

_COARSE = ("q8_0", "q4_0", "q4_1")
"""Number formats that change answers, so that no share of equal answers is expected."""


def ability_file(folder: Path, name: str) -> Path:
    """The file with the artefact's records of an ability."""
    return folder / f"ability-{name}.jsonl"


def compute_figures(context: RunContext, folder: Path, facts: Mapping[str, object]) -> Record:
    """The figures and the verdict of the records in `folder`, as artefact.json has them.

    Args:
        context: the run, whose answers are compared.
        folder: the records of the artefact.
        facts: the other fields of artefact.json.
    """
    if failed := _failure(facts):
        return {"skill": None, "abilities": {}, "gate": None, "verdict": "fail", "reason": failed}
    skill, status = _skill(context, folder, facts.get("gguf_type"))
    judged = _judged(context, folder)
    gate = gate_record(judged, limits_of(context.recipe.gate)) if judged.abilities else None
    verdict, reason = _verdict(context, status, judged)
    return {
        "skill": skill,
        "abilities": abilities_record(judged),
        "gate": gate,
        "verdict": verdict,
        "reason": reason,
    }


def _failure(facts: Mapping[str, object]) -> str:
    """Why the artefact fails before any answer; empty if it does not."""
    faults, prompts = facts["faults"], facts["prompts"]
    assert isinstance(faults, Sequence)
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        return f"{faults[0]}{more}"
    assert isinstance(prompts, Mapping)
    if prompts["differing"]:
        return f"{prompts['differing']} of {prompts['compared']} prompts have other tokens than in the run."
    return ""


def _skill(context: RunContext, folder: Path, gguf_type: object) -> tuple[Record, AbilityResult]:
    """The skill test: the artefact's answers compared with the run's."""
    final, recipe = context.final, context.recipe
    before, after = final.records(SKILL, "tuned"), read_records(folder / SKILL_FILE)
    names = [record["id"] for record in before]
    run, artefact = skill_score.scores_of(before), skill_score.scores_of(after)
    measurement = Measurement("score", "score", run, artefact, names, np.ones(len(run)), 0.0, len(run))
    judged = judge(
        [AbilityScores(SKILL, [measurement])],
        Limits(recipe.gate.threshold, recipe.gate.margin),
        resamples=recipe.gate.resamples,
        seed=recipe.seed,
    ).abilities[0]
    difference = paired_difference(run, artefact, names, resamples=recipe.gate.resamples, seed=recipe.seed)
    shares = [skill_score.summarize(records, final.grader) for records in (before, after)]
    differences = folder / DIFFERENCES_FILE
    outputs = ([record["output"] for record in records] for records in (before, after))
    record = {
        **{
            name: {key: share[key] for key in ("accuracy", "n", "ci95")}
            for name, share in zip(("run", "artefact"), shares, strict=True)
        },
        "difference": finite_estimate(difference),
        "mcnemar_p": skill_score.mcnemar_p_value(run, artefact),
        "equal": sum(one == other for one, other in zip(*outputs, strict=True)),
        "near_ties": near_ties(read_records(differences)) if differences.is_file() else None,
        "expected_equal": None if gguf_type in _COARSE else EXPECTED_EQUAL,
        "status": judged.status,
        "reason": judged.headline.reason,
    }
    return record, judged


def _judged(context: RunContext, folder: Path) -> GateResult:
    """The verdict on the abilities that have records: the artefact against the base, as the run measured it."""
    recipe, practised = context.recipe, context.final.practised() if context.directory.practised.is_file() else {}
    scores = []
    if (path := folder / READING_FILE).is_file():
        base, tuned = context.final.records(READING, "base"), read_records(path)
        measurements = ABILITIES[READING_ABILITY].measurements(*([as_reading(one) for one in r] for r in (base, tuned)))
        scores.append(AbilityScores(READING_ABILITY, measurements, practised.get(READING_ABILITY)))
    for ability in context.final.abilities():
        path = ability_file(folder, ability.name)
        if path.is_file():
            tuned = read_records(path)
            before = base_records(context, ability)
            base = [before[str(record["id"])] for record in tuned]
            scores.append(AbilityScores(ability.name, ability.measurements(base, tuned), practised.get(ability.name)))
    return judge(scores, limits_of(recipe.gate), resamples=recipe.gate.resamples, seed=recipe.seed)


def base_records(context: RunContext, ability: Ability) -> dict[str, Record]:
    """The run's records of the base on an ability, by the id of the item."""
    records = read_records(record_path(context.directory.scores, ability.name, "base"))
    return {str(record["id"]): record for record in records}


def _verdict(context: RunContext, skill: AbilityResult, judged: GateResult) -> tuple[str, str]:
    """The verdict on skill and abilities: the worse of the two. The reason is that of the worse one.

    A run that was judged by reading alone passes with it.
    """
    share = f"The skill test keeps {skill.headline.point:.1%} of the run's score"
    if skill.status == "lost":
        return "fail", f"{share}: {skill.headline.reason}."
    verdict, reason = judged.verdict, judged.reason
    if context.recipe.gate.policy == "contest":
        statuses = {ability.status for ability in judged.abilities if ability.counted}
        verdict = "fail" if "lost" in statuses else "undecided" if "undecided" in statuses else "pass"
        reason = "; ".join(f"{ability.name}: {ability.headline.reason}" for ability in judged.abilities) or share
    if verdict == "pass" and skill.status == "undecided":
        return "undecided", f"No decision yet on the skill test: {skill.headline.reason}."
    return verdict, reason
