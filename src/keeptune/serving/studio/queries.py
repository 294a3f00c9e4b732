"""Filters, search, order and pages over pairs of answers, and their summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from keeptune.files import Record
from keeptune.progress import printable
from keeptune.serving.studio.pairs import Pair, Side

Outcome = Literal["all", "lost", "gained", "wrong", "right", "same", "differs"]
Order = Literal["stored", "longest", "change"]

OUTCOMES: dict[Outcome, Callable[[Pair], bool]] = {
    "all": lambda _: True,
    "lost": lambda pair: pair.change < 0,
    "gained": lambda pair: pair.change > 0,
    "wrong": lambda pair: pair.after.is_right is False,
    "right": lambda pair: pair.after.is_right is True,
    "same": lambda pair: pair.before.output == pair.after.output,
    "differs": lambda pair: pair.before.output != pair.after.output,
}
"""Which pairs an outcome selects. An item is lost if its score is lower after than before, as in the report."""

MAX_PAGE = 100


class Query(BaseModel):
    """What to show, as parameters of an address.

    Attributes:
        source: `skill` or the name of an ability; empty for all.
        kind: the kind of the items; empty for all.
        outcome: see OUTCOMES.
        text: words that all have to occur in the question or an answer, in any case.
        order: `stored` as in the files, `longest` answer first, or the largest loss first (`change`).
        offset, limit: the page.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str = ""
    kind: str = ""
    outcome: Outcome = "all"
    text: str = Field("", max_length=500)
    order: Order = "stored"
    offset: int = Field(0, ge=0)
    limit: int = Field(20, ge=1, le=MAX_PAGE)


def select(pairs: Sequence[Pair], query: Query) -> Record:
    """One page of the pairs that a query selects, and how many it selects, as a JSON object."""
    words, matches = query.text.casefold().split(), OUTCOMES[query.outcome]
    selected = [
        pair
        for pair in pairs
        if (not query.source or pair.item.source == query.source)
        and (not query.kind or pair.item.kind == query.kind)
        and matches(pair)
        and all(word in pair.text for word in words)
    ]
    if query.order == "longest":
        selected.sort(key=lambda pair: -pair.length)
    elif query.order == "change":
        selected.sort(key=lambda pair: (pair.change, -pair.length))
    page = selected[query.offset : query.offset + query.limit]
    return {"total": len(selected), "offset": query.offset, "items": [pair_record(pair) for pair in page]}


def pair_record(pair: Pair) -> Record:
    """A pair as a JSON object, with visible escapes for control characters."""
    item = pair.item
    return {
        "source": item.source,
        "kind": item.kind,
        "id": item.id,
        "turns": [{"role": turn.role, "content": printable(turn.content)} for turn in item.turns],
        "facts": [{"name": name, "value": printable(value)} for name, value in item.facts],
        "before": _side_record(pair.before),
        "after": _side_record(pair.after),
        "change": pair.change,
    }


def _side_record(side: Side) -> Record:
    return {**asdict(side), "output": printable(side.output), "is_right": side.is_right}


def summarize(pairs: Sequence[Pair]) -> list[Record]:
    """The figures of each source: numbers of items, lost and gained ones, mean scores and losses, and the kinds."""
    sources: dict[str, list[Pair]] = {}
    for pair in pairs:
        sources.setdefault(pair.item.source, []).append(pair)
    return [
        {
            "source": source,
            "n": len(members),
            "lost": sum(pair.change < 0 for pair in members),
            "gained": sum(pair.change > 0 for pair in members),
            "wrong": sum(pair.after.is_right is False for pair in members),
            "score": _means(members, lambda side: side.score),
            "loss": _means(members, lambda side: side.loss),
            "kinds": dict(sorted(Counter(pair.item.kind for pair in members if pair.item.kind).items())),
        }
        for source, members in sources.items()
    ]


def _means(pairs: Sequence[Pair], value: Callable[[Side], float | None]) -> Record | None:
    """The mean before and after over the items that have a value on both sides; None if there is none."""
    values = [(value(pair.before), value(pair.after)) for pair in pairs]
    both = [(before, after) for before, after in values if before is not None and after is not None]
    if not both:
        return None
    before, after = (sum(side) / len(both) for side in zip(*both, strict=True))
    return {"before": before, "after": after, "n": len(both)}
