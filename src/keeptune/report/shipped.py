"""The artefacts of a run as the report shows them: what each answers in the program that serves it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from keeptune.report import text
from keeptune.run_files.artefact import Artefact, Prompts, Verdict
from keeptune.run_files.result import Share

HEAD = [
    "artefact",
    "prompts with equal tokens",
    "equal answers",
    "right",
    "right − run",
    "abilities retained",
    "verdict",
]


@dataclass(frozen=True, slots=True)
class Row:
    """One artefact, all figures as text. `notes` are what was not measured, and answers that differ."""

    name: str
    program: str
    prompts: str
    equal: str
    right: str
    change: str
    abilities: str
    verdict: Verdict
    reason: str
    notes: list[str]


def rows(artefacts: Sequence[Artefact]) -> list[Row]:
    """One row per artefact."""
    return [_row(artefact) for artefact in artefacts]


def _row(artefact: Artefact) -> Row:
    skill, notes = artefact.skill, [f"{name}: {reason}" for name, reason in artefact.left_out.items()]
    if skill and skill.differs:
        expected = text.percent(skill.expected_equal or 0.0, 0)
        notes.insert(0, f"differs: fewer than {expected} of the answers are equal to those of the run")
    if skill and skill.near_ties is not None and skill.equal < skill.artefact.n:
        others = skill.artefact.n - skill.equal
        notes.insert(0, f"{skill.near_ties} of {others} other answers part from the run's at a near tie of two tokens")
    counted = [ability for ability in artefact.abilities.values() if ability.counted]
    retained = sum(ability.status == "retained" for ability in counted)
    form = ", ".join(filter(None, (artefact.form, artefact.gguf_type)))
    return Row(
        name=Path(artefact.artefact).name + (f" ({form})" if form else ""),
        program=artefact.program or text.NONE,
        prompts=_prompts(artefact.prompts),
        equal=f"{text.percent(skill.equal_share)} of {text.count(skill.artefact.n)}" if skill else text.NONE,
        right=f"{text.percent(skill.artefact.accuracy)} ({text.share_interval(skill.artefact)})"
        if skill
        else text.NONE,
        change=text.gain(skill.difference) if skill else text.NONE,
        abilities=f"{retained} of {len(counted)}" if artefact.abilities else text.NONE,
        verdict=artefact.verdict,
        reason=artefact.reason,
        notes=notes,
    )


def _right(share: Share) -> str:
    return f"{text.percent(share.accuracy)} ({text.share_interval(share)})"


def _prompts(prompts: Prompts | None) -> str:
    if prompts is None:
        return text.NONE
    equal = prompts.compared - prompts.differing
    return f"{text.count(equal)} of {text.count(prompts.compared)} ({prompts.by})"
