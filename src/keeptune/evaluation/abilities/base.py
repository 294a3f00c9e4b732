"""What every ability of the retention suite provides, so that asking, grading, verifying and judging are written once.

A record is one question with one model's answer. Its fields come from three sources that `verify` tells apart: from the
item alone (`stated`), from the model (`ask`), and from the first two (`grade`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from math import exp
from typing import Any

import numpy as np

from keeptune.evaluation.gate import Kind, Measurement
from keeptune.evaluation.suite.loader import Size, Split
from keeptune.generation.engine import Generator
from keeptune.prompts.chat import ChatLayout

Record = dict[str, Any]
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Subject:
    """A model ready to be evaluated: `generator` holds it as it is to be measured, `layout` renders its questions."""

    generator: Generator
    layout: ChatLayout

    @property
    def vocabulary(self) -> int:
        """The number of tokens that the model chooses among."""
        return len(self.generator.head.weight)


class Ability(ABC):
    """One retained ability."""

    name: str
    """As in recipes, on the command line and in result.json."""

    in_quick = True
    """Whether the quick suite asks it unless it is told which abilities to ask."""

    has_options = False
    """Whether its questions have options, so that the probability of the right one decides."""

    same_tokens = False
    """Whether base and tuned can only be compared on the same tokens, because a measure is a loss per token."""

    @abstractmethod
    def items(self, split: Split, size: Size) -> Sequence[Any]:
        """The items to ask, in a fixed order."""

    @abstractmethod
    def stated(self, item: Any) -> Record:
        """The fields of a record that follow from the item: at least `id`, `language` and `cluster`."""

    @abstractmethod
    def ask(
        self, subject: Subject, items: Sequence[Any], base: Sequence[Record] | None, progress: Progress
    ) -> list[Record]:
        """The fields that come from the model, one record per item.

        `base` holds the base's records when the tuned model is asked, and is None when the base is. `progress` takes
        the number of items that were finished since the last call.
        """

    def grade(self, records: Sequence[Record]) -> list[Record]:
        """The fields that follow from the other two kinds, one record each; from all records, because a score may
        compare an item with its neighbours."""
        return [self.graded(record) for record in records]

    def graded(self, record: Record) -> Record:
        """Those of one record, where they follow from it alone."""
        raise NotImplementedError(f"{type(self).__name__} has neither `grade` nor `graded`")

    @abstractmethod
    def measurements(self, base: Sequence[Record], tuned: Sequence[Record]) -> list[Measurement]:
        """The paired values that the verdict rests on; the first is the headline."""

    def records(
        self, subject: Subject, items: Sequence[Any], base: Sequence[Record] | None, progress: Progress = lambda _: None
    ) -> list[Record]:
        """Complete records, one per item in their order."""
        answers = self.ask(subject, items, base, progress)
        made = [{**self.stated(item), **answer} for item, answer in zip(items, answers, strict=True)]
        return [{**record, **graded} for record, graded in zip(made, self.grade(made), strict=True)]


def measurement(
    name: str,
    base: Sequence[Record],
    tuned: Sequence[Record],
    value: Callable[[Record], float | None],
    *,
    kind: Kind = "score",
    weight: Callable[[Record], float] = lambda _: 1.0,
    usable: Callable[[Record], bool] = lambda _: True,
    chance: float = 0.0,
    proves: bool = True,
) -> Measurement:
    """Pairs the records of both models. `usable` looks at the base's record; a value of None is not a finite number."""
    pairs = [(before, after) for before, after in zip(base, tuned, strict=True) if usable(before)]
    befores, afters = ([_number(value(pair[side])) for pair in pairs] for side in (0, 1))
    clusters: list[Hashable] = [before["cluster"] for before, _ in pairs]
    weights = np.array([weight(before) for before, _ in pairs], np.float64)
    values = np.array(befores, np.float64), np.array(afters, np.float64)
    return Measurement(name, kind, *values, clusters, weights, chance, len(base), proves)


def choice_measurements(
    base: Sequence[Record], tuned: Sequence[Record], chance: float, prefix: str = ""
) -> list[Measurement]:
    """Of questions whose records have the `probability` of the right option, and whether it is the likeliest
    (`correct`): the mean probability, which decides, and the accuracy as a second look.

    The probability is the expected accuracy of a model that draws its option. It has no noise from near ties, so fewer
    questions decide (Miller 2024, arXiv 2411.00640, section 3.2). It also rises where a model only becomes surer of
    what it chose before; that is what the second look is for.
    """
    return [
        measurement(f"{prefix}probability", base, tuned, lambda record: record["probability"], chance=chance),
        measurement(f"{prefix}accuracy", base, tuned, lambda record: record["correct"], chance=chance, proves=False),
    ]


def option_probability(scores: Sequence[float | None], answer: int) -> float | None:
    """The probability of option `answer` when one is drawn by the softmax of the scores, in nats; None where a score is
    not a finite number."""
    known = [score for score in scores if score is not None]
    if len(known) < len(scores):
        return None
    largest = max(known)
    chances = [exp(score - largest) for score in known]
    return chances[answer] / sum(chances)


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
