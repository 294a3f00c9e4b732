"""The verdict as result.json and gate.json hold it: plain values, with null where a figure is not a finite number."""

from __future__ import annotations

from dataclasses import asdict
from math import isfinite
from typing import Any

from keeptune.config.ability_names import ALL, chosen_names
from keeptune.config.gate import GateSection
from keeptune.evaluation.gate import AbilityResult, GateResult, Limits, MeasureResult

Record = dict[str, Any]

SCHEMA_VERSION = 2
"""Of result.json and gate.json. Version 1 had no abilities."""


def limits_of(gate: GateSection) -> Limits:
    """The limits that a recipe's `gate` section sets."""
    counted = None if ALL in gate.counted else frozenset(chosen_names(gate.counted))
    return Limits(gate.threshold, gate.margin, gate.thresholds, gate.margins, counted)


def abilities_record(result: GateResult) -> dict[str, Record]:
    """Each ability with its status and the figures of its headline, and all of its measures."""
    return {own.name: _ability(own) for own in result.abilities}


def gate_record(result: GateResult, limits: Limits) -> Record:
    """The overall verdict."""
    needed = [measure.more_questions for own in result.abilities if own.counted for measure in own.measures]
    return {
        "policy": "suite",
        "threshold": limits.threshold,
        "margin": limits.margin,
        "verdict": result.verdict,
        "reason": result.reason,
        "counted": [own.name for own in result.abilities if own.counted],
        "more_questions": max((count for count in needed if count), default=None)
        if result.verdict == "undecided"
        else None,
    }


def _ability(own: AbilityResult) -> Record:
    decisive = next((measure for measure in own.measures if measure.status == own.status), own.headline)
    return {
        **_figures(own.headline),
        "status": own.status,
        "counted": own.counted,
        "practised": own.practised,
        "reason": decisive.reason,
        "measures": {
            measure.name: {**_figures(measure), "status": measure.status, "reason": measure.reason}
            for measure in own.measures
        },
    }


def _figures(measure: MeasureResult) -> Record:
    kept = ("kind", "n", "base", "tuned", "point", "low95", "high95", "limit", "more_questions")
    values = asdict(measure)
    return {name: _finite(values[name]) for name in kept}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not isfinite(value) else value
