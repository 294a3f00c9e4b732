"""The verdict in the format of result.json and gate.json: plain values, with null for numbers that are not finite."""

from __future__ import annotations

from dataclasses import asdict
from math import isfinite
from typing import Any

from keeptune.config.ability_names import ALL, chosen_names
from keeptune.config.gate import GateSection
from keeptune.evaluation.gate import AbilityResult, GateResult, Limits, MeasureResult
from keeptune.files import Record

SCHEMA_VERSION = 2
"""Schema version of result.json and gate.json. Version 1 had no abilities."""


def limits_of(gate: GateSection) -> Limits:
    """The limits that a recipe's `gate` section sets."""
    counted = None if ALL in gate.counted else frozenset(chosen_names(gate.counted))
    return Limits(gate.threshold, gate.margin, gate.thresholds, gate.margins, counted)


def abilities_record(result: GateResult) -> dict[str, Record]:
    """The `abilities` section: by name, the status, the figures of the headline measure, and all measures."""
    return {ability.name: _ability_record(ability) for ability in result.abilities}


def gate_record(result: GateResult, limits: Limits) -> Record:
    """The `gate` section: the overall verdict."""
    needed = [measure.more_questions for ability in result.abilities if ability.counted for measure in ability.measures]
    return {
        "policy": "suite",
        "threshold": limits.threshold,
        "margin": limits.margin,
        "verdict": result.verdict,
        "reason": result.reason,
        "counted": [ability.name for ability in result.abilities if ability.counted],
        "more_questions": max((count for count in needed if count), default=None)
        if result.verdict == "undecided"
        else None,
    }


def _ability_record(ability: AbilityResult) -> Record:
    deciding = next((measure for measure in ability.measures if measure.status == ability.status), ability.headline)
    return {
        **_figures(ability.headline),
        "status": ability.status,
        "counted": ability.counted,
        "practised": ability.practised,
        "reason": deciding.reason,
        "measures": {
            measure.name: {**_figures(measure), "status": measure.status, "reason": measure.reason}
            for measure in ability.measures
        },
    }


def _figures(measure: MeasureResult) -> Record:
    names = ("kind", "n", "base", "tuned", "point", "low95", "high95", "limit", "more_questions")
    values = asdict(measure)
    return {name: _finite(values[name]) for name in names}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not isfinite(value) else value
