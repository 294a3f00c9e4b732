"""Abilities `knowledge`, `commonsense` and `code`: select the best of four options by likelihood.

Four prompts share four options, and each option is right for one of them. Guessing from the options alone gives exactly
25 %. The score of an option is its log-likelihood after the prompt, minus its mean after the four prompts of the set.
It estimates what the prompt contributes (pointwise mutual information; Holtzman et al. 2021, arXiv 2104.08315), because
the length and the frequency of an option cancel. By this score, SmolLM2-135M is right on 94 % of 108 English questions,
against 70 % by the plain sum, which prefers common words.

Users' questions do not come in such sets. Their options are normalized by length instead (`most_likely`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from keeptune.evaluation.abilities.base import (
    Ability,
    Progress,
    Subject,
    choice_measurements,
    option_probability,
)
from keeptune.evaluation.continuation_likelihood import encode_options, log_likelihoods
from keeptune.evaluation.gate import Measurement
from keeptune.evaluation.suite.loader import ChoiceSet, Language, Size, Split, in_split, load
from keeptune.files import Record
from keeptune.prompts.chat import ChatLayout

CHANCE = 0.25
EVERY: dict[Size, int] = {"quick": 6, "standard": 2, "full": 1}
"""The suite uses every n-th set, by its size. Half of them suffice at size `standard`, because probabilities decide."""

PROGRESS_ITEMS = 64
"""Number of items between two reports of progress."""


@dataclass(frozen=True, slots=True)
class ChoiceItem:
    """One prompt of a set with the options of the set. `answer` is the index of the right option."""

    id: str
    language: Language
    cluster: str
    prompt: str
    options: tuple[str, ...]
    answer: int


@dataclass(frozen=True, slots=True)
class Wording:
    """The context before an option, what separates the two, and whether the tokenizer adds its special tokens."""

    context: str
    separator: str
    special_tokens: bool


WordingRule = Callable[[ChoiceItem, ChatLayout], Wording]


def question_wording(item: ChoiceItem, layout: ChatLayout) -> Wording:
    """A question and the start of its answer. With a chat template, the start is in the assistant's turn."""
    head, tail = ("问题：", "答案：") if item.language == "zh" else ("Question: ", "Answer:")
    question = layout.question(item.prompt) if layout.is_chat else f"{head}{item.prompt}\n"
    return Wording(question + tail, " ", not layout.is_chat)


def program_wording(item: ChoiceItem, layout: ChatLayout) -> Wording:
    """A program, followed by its output."""
    text = f"What does this Python program print?\n\n```python\n{item.prompt}\n```"
    question = layout.question(text) if layout.is_chat else f"{text}\n\n"
    return Wording(f"{question}Output:\n```\n", "", not layout.is_chat)


def continuation_wording(item: ChoiceItem, _: ChatLayout) -> Wording:
    """Plain text to continue, without a chat template, because the task is not to answer."""
    return Wording(item.prompt, "" if item.language == "zh" else " ", True)


class MultipleChoice(Ability):
    """An ability whose items are sets of four prompts over four options."""

    has_options = True

    def __init__(
        self,
        name: str,
        files: Sequence[str],
        wording: WordingRule,
        every: Mapping[Size, int] = EVERY,
        is_in_quick_suite: bool = True,
    ) -> None:
        self.name, self.files, self.wording, self.every = name, files, wording, every
        self.is_in_quick_suite = is_in_quick_suite

    def items(self, split: Split, size: Size) -> list[ChoiceItem]:
        sets = [choice_set for file in self.files for choice_set in in_split(load(file, ChoiceSet), split)]
        return [item for choice_set in sets[:: self.every[size]] for item in expand(choice_set)]

    def item_fields(self, item: ChoiceItem) -> Record:
        return {
            "id": item.id,
            "language": item.language,
            "cluster": item.cluster,
            "question": item.prompt,
            "options": list(item.options),
            "answer": item.answer,
        }

    def evaluate(
        self, subject: Subject, items: Sequence[ChoiceItem], base: Sequence[Record] | None, progress: Progress
    ) -> list[Record]:
        tokenizer = subject.generator.tokenizer
        records: list[Record] = []
        for start in range(0, len(items), PROGRESS_ITEMS):
            part = items[start : start + PROGRESS_ITEMS]
            wordings = [self.wording(item, subject.layout) for item in part]
            choices = [
                encode_options(
                    tokenizer,
                    wording.context,
                    [wording.separator + option for option in item.options],
                    wording.special_tokens,
                )
                for item, wording in zip(part, wordings, strict=True)
            ]
            sums = log_likelihoods(subject.generator, choices)
            records += [
                {"prompt": wording.context, "log_likelihoods": values}
                for wording, values in zip(wordings, sums, strict=True)
            ]
            progress(len(part))
        return records

    def grade_records(self, records: Sequence[Record]) -> list[Record]:
        sets: dict[str, list[list[float | None]]] = {}
        for record in records:
            sets.setdefault(record["cluster"], []).append(record["log_likelihoods"])
        grades = []
        for record in records:
            scores = centered_scores(record["log_likelihoods"], sets[record["cluster"]])
            chosen = None if scores is None else scores.index(max(scores))
            grades.append(
                {
                    "chosen": chosen,
                    "correct": chosen == record["answer"],
                    "probability": None if scores is None else option_probability(scores, record["answer"]),
                }
            )
        return grades

    def measurements(self, base: Sequence[Record], tuned: Sequence[Record]) -> list[Measurement]:
        return choice_measurements(base, tuned, CHANCE)


def expand(choice_set: ChoiceSet) -> list[ChoiceItem]:
    """The four items of a set."""
    return [
        ChoiceItem(
            f"{choice_set.id}.{place + 1}", choice_set.language, choice_set.id, prompt, choice_set.options, place
        )
        for place, prompt in enumerate(choice_set.prompts)
    ]


def centered_scores(
    log_likelihoods: Sequence[float | None], of_set: Sequence[Sequence[float | None]]
) -> list[float] | None:
    """The log-likelihood of each option minus its mean over the prompts of the set, in nats.

    score_i(prompt) = log p(option_i | prompt) − mean over prompts q of the set of log p(option_i | q). None if a value
    is not a finite number. Shapes: log_likelihoods, result (options,); of_set (prompts, options).
    """
    rows = (log_likelihoods, *of_set)
    values = np.array([[float("nan") if value is None else value for value in row] for row in rows])
    if not np.isfinite(values).all():
        return None
    scores: list[float] = (values[0] - values[1:].mean(axis=0)).tolist()
    return scores


def most_likely(log_likelihoods: Sequence[float | None], lengths: Sequence[int]) -> int | None:
    """The index of the option with the highest log-likelihood per character, the first one of equals.

    None if a value is not a finite number.
    """
    if any(value is None for value in log_likelihoods):
        return None
    scores = [value / length for value, length in zip(log_likelihoods, lengths, strict=True) if value is not None]
    return scores.index(max(scores))
