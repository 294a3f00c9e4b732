"""Prepares a changed item for the page: the question, and both results side by side. All texts are untrusted."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any

from keeptune.report import text
from keeptune.report.items import Change, loss_per_token, score
from keeptune.run_files.records import ItemRecord

LONGEST_CHARACTERS = 700
LONGEST_TEXT_CHARACTERS = 300
"""Longer texts are truncated on the page; the records have them in full."""

RIGHT = 0.999999
"""A score from which an item counts as fully right."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One part of an item's question; the role is empty where there is one part only."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Side:
    """One model's result: its choice or text (None if the item has none), and the score."""

    variant: str
    output: str | None
    result: str
    is_right: bool | None


@dataclass(frozen=True, slots=True)
class ItemView:
    """One item."""

    id: str
    language: str | None
    turns: list[Turn]
    facts: list[tuple[str, str]]
    sides: tuple[Side, Side]


def view(change: Change, is_loss: bool) -> ItemView:
    """The page's view of a changed item."""
    item = change.base
    base, tuned = (
        _side(variant, record, is_loss) for variant, record in (("base", change.base), ("tuned", change.tuned))
    )
    turns = [_shortened_turn(item, turn) for turn in turns_of(item)]
    facts = [(name, shortened(written)) for name, written in facts_of(item)]
    return ItemView(item.id, item.language, turns, facts, (base, tuned))


def shortened(written: str, longest: int = LONGEST_CHARACTERS) -> str:
    """The text, truncated after `longest` characters."""
    return written if len(written) <= longest else f"{written[:longest]} …"


def turns_of(item: ItemRecord) -> list[Turn]:
    """The parts of an item's question, in full."""
    if item.messages:
        return [Turn(message.role, message.content) for message in item.messages]
    if item.good is not None and item.bad is not None:
        return [Turn("grammatical", item.good), Turn("ungrammatical", item.bad)]
    if item.text is not None:
        return [Turn("", item.text)]
    return [Turn("", item.question)] if item.question is not None else []


def facts_of(item: ItemRecord) -> list[tuple[str, str]]:
    """What else the item states, in full: names with values."""
    facts: list[tuple[str, str]] = []
    if item.options:
        facts.append(("options", " · ".join(item.options)))
    if (answer := _answer(item)) is not None:
        facts.append(("right answer", answer))
    if item.references:
        facts.append(("references", " · ".join(item.references)))
    if item.target is not None:
        facts.append(("target", item.target))
    if item.constraints:
        facts.append(("constraints", "; ".join(map(_constraint, item.constraints))))
    if item.phenomenon is not None:
        facts.append(("phenomenon", item.phenomenon))
    if item.harmful is not None:
        facts.append(("request", "to decline" if item.harmful else "harmless"))
    return facts


def _shortened_turn(item: ItemRecord, turn: Turn) -> Turn:
    longest = LONGEST_TEXT_CHARACTERS if turn.role == "" and item.text is not None else LONGEST_CHARACTERS
    return Turn(turn.role, shortened(turn.content, longest))


def _answer(item: ItemRecord) -> str | None:
    if isinstance(item.answer, int):
        return _option(item, item.answer)
    if isinstance(item.answer, list):
        return " · ".join(item.answer) or None
    return item.answer


def _option(item: ItemRecord, place: int) -> str | None:
    options = item.options or []
    return options[place] if 0 <= place < len(options) else None


def _constraint(constraint: dict[str, Any]) -> str:
    others = (f"{key} {value}" for key, value in constraint.items() if key != "type")
    return ", ".join([str(constraint.get("type", "")), *others])


def _side(variant: str, record: ItemRecord, is_loss: bool) -> Side:
    written = output_of(record)
    output = None if written is None else shortened(written)
    if is_loss:
        nats = loss_per_token(record)
        shown = "no finite loss" if nats is None or not isfinite(nats) else f"{nats:.3f} nats per token"
        return Side(variant, output, shown, None)
    value = score(record)
    is_right = None if value is None else value >= RIGHT
    return Side(variant, output, result_of(record, value), is_right)


def output_of(record: ItemRecord) -> str | None:
    """What the model wrote or chose, in full; None where the record does not hold it."""
    written = next((text for text in (record.prediction, record.output, record.responses) if text is not None), None)
    if written is not None:
        return written
    if record.good is not None and record.correct is not None:
        return f"prefers the {'grammatical' if record.correct else 'ungrammatical'} sentence"
    return None if record.chosen is None else _option(record, record.chosen)


def result_of(record: ItemRecord, value: float | None) -> str:
    """What the score of a record means; `value` is that score."""
    if record.strict:
        return f"{sum(record.strict)} of {len(record.strict)} constraints met"
    if record.refused is not None:
        if record.degenerate is not None and not record.refused:
            return f"degenerate: {record.degenerate}"
        return "declines" if record.refused else "answers"
    if "degenerate" in record.model_fields_set:
        return "healthy" if record.degenerate is None else f"degenerate: {record.degenerate}"
    if record.correct is not None:
        return "right" if record.correct else "wrong"
    if value is None:
        return text.NONE
    return f"F1 {100 * value:.0f}" if record.prediction is not None else f"score {value:.2f}"
