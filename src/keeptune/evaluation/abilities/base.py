"""Base class of the abilities in the retention suite, and the helpers that build their measurements.

A record is one question with one model's answer. Its fields come from three sources, which `verify` checks separately:

- `item_fields`: follow from the item alone;
- `evaluate`: come from the model;
- `grade_records`: follow from the other two.
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
from keeptune.files import Record
from keeptune.generation.answer_source import AnswerSource
from keeptune.prompts.chat import ChatLayout

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Subject:
    """A model ready to be evaluated. `generator` answers in the state to measure; `layout` renders its prompts."""

    generator: AnswerSource
    layout: ChatLayout

    @property
    def vocabulary(self) -> int:
        """The size of the model's vocabulary."""
        return self.generator.vocabulary


class Ability(ABC):
    """A retained ability: its items, how a model is evaluated on them, and what the verdict measures."""

    name: str
    """The name in recipes, on the command line and in result.json."""

    is_in_quick_suite = True
    """Whether the quick suite includes the ability by default."""

    has_options = False
    """Whether its questions have options. The probability of the right option then decides."""

    requires_same_tokens = False
    """Whether base and tuned must share a tokenizer, because a measure is a loss per token."""

    @abstractmethod
    def items(self, split: Split, size: Size) -> Sequence[Any]:
        """The items of a split, in a fixed order."""

    @abstractmethod
    def item_fields(self, item: Any) -> Record:
        """The fields of a record that follow from the item: at least `id`, `language` and `cluster`."""

    @abstractmethod
    def evaluate(
        self, subject: Subject, items: Sequence[Any], base: Sequence[Record] | None, progress: Progress
    ) -> list[Record]:
        """The fields that come from the model, one record per item.

        Args:
            base: the base's records if the tuned model is evaluated; None if the base is.
            progress: called with the number of items that have finished since the last call.
        """

    def grade_records(self, records: Sequence[Record]) -> list[Record]:
        """The grades of all records. Override this method if the grade of an item depends on other items."""
        return [self.grade_record(record) for record in records]

    def grade_record(self, record: Record) -> Record:
        """The grade fields of one record. Override this method if they depend on this record alone."""
        raise NotImplementedError(f"{type(self).__name__} must define `grade_records` or `grade_record`")

    @abstractmethod
    def measurements(self, base: Sequence[Record], tuned: Sequence[Record]) -> list[Measurement]:
        """The paired values for the verdict, the headline first."""

    def collect_records(
        self, subject: Subject, items: Sequence[Any], base: Sequence[Record] | None, progress: Progress = lambda _: None
    ) -> list[Record]:
        """Complete records with item fields, model fields and grades, one per item in their order."""
        answers = self.evaluate(subject, items, base, progress)
        records = [{**self.item_fields(item), **answer} for item, answer in zip(items, answers, strict=True)]
        return [{**record, **grade} for record, grade in zip(records, self.grade_records(records), strict=True)]


def paired_measurement(
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
    """Pairs the records of both models to a measurement.

    Args:
        value: the value of a record; None if it is not a finite number.
        weight: the weight of a question, from the base's record.
        usable: whether a question is used, from the base's record.
    """
    pairs = [(before, after) for before, after in zip(base, tuned, strict=True) if usable(before)]
    base_values, tuned_values = (
        np.array([_number(value(pair[side])) for pair in pairs], np.float64) for side in (0, 1)
    )
    clusters: list[Hashable] = [before["cluster"] for before, _ in pairs]
    weights = np.array([weight(before) for before, _ in pairs], np.float64)
    return Measurement(name, kind, base_values, tuned_values, clusters, weights, chance, len(base), proves)


def choice_measurements(
    base: Sequence[Record], tuned: Sequence[Record], chance: float, prefix: str = ""
) -> list[Measurement]:
    """Two measurements of multiple-choice questions: the mean probability of the right option, which decides, and the
    accuracy as a second check.

    The records have the `probability` of the right option, and whether it is the most likely one (`correct`). The
    probability is the expected accuracy of a model that samples its option. It has no noise from near ties, so fewer
    questions decide (Miller 2024, arXiv 2411.00640, section 3.2). It also rises if a model only becomes more certain of
    its previous choices. The second check detects that.
    """
    return [
        paired_measurement(f"{prefix}probability", base, tuned, lambda record: record["probability"], chance=chance),
        paired_measurement(
            f"{prefix}accuracy", base, tuned, lambda record: record["correct"], chance=chance, proves=False
        ),
    ]


def option_probability(scores: Sequence[float | None], answer: int) -> float | None:
    """The softmax probability exp(s_answer) / Σ exp(s_i) of option `answer`, for scores in nats.

    None if a score is not a finite number.
    """
    finite = [score for score in scores if score is not None]
    if len(finite) < len(scores):
        return None
    largest = max(finite)
    weights = [exp(score - largest) for score in finite]
    return weights[answer] / sum(weights)


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
