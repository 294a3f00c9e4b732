"""Knowledge, common sense and code: the best of four options, by likelihood.

Four prompts share their options, each being right once: guessing from the options alone gives exactly 25 %. The score
of an option is its log-likelihood behind the prompt minus its mean behind the four prompts of the set. The difference
estimates what the prompt contributes (pointwise mutual information; Holtzman et al. 2021, arXiv 2104.08315): the length
and the frequency of an option cancel. SmolLM2-135M answers 94 % of 108 English questions right by this score and 70 %
by the plain sum; the rest is a preference for common words.

Options without such sets, as users bring them, are normalised by length instead (`most_likely`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from keeptune.evaluation.abilities.base import (
    Ability,
    Progress,
    Record,
    Subject,
    choice_measurements,
    option_probability,
)
from keeptune.evaluation.gate import Measurement
from keeptune.evaluation.likelihood import encode_choice, log_likelihoods
from keeptune.evaluation.suite.loader import ChoiceSet, Language, Size, Split, in_split, load
from keeptune.prompts.chat import ChatLayout

CHANCE = 0.25
EVERY: dict[Size, int] = {"quick": 6, "standard": 2, "full": 1}
"""Of the sets, by the size of the suite. Half of them decide at the standard size, because probabilities decide."""

PROGRESS_ITEMS = 64
"""Items that are scored between two reports of progress."""


@dataclass(frozen=True, slots=True)
class ChoiceItem:
    """One prompt of a set with the set's options; `answer` is the index of the right one."""

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


Words = Callable[[ChoiceItem, ChatLayout], Wording]


def question_words(item: ChoiceItem, layout: ChatLayout) -> Wording:
    """A question and the beginning of its answer, in the assistant's turn where there is a chat template."""
    head, tail = ("问题：", "答案：") if item.language == "zh" else ("Question: ", "Answer:")
    before = layout.question(item.prompt) if layout.is_chat else f"{head}{item.prompt}\n"
    return Wording(before + tail, " ", not layout.is_chat)


def program_words(item: ChoiceItem, layout: ChatLayout) -> Wording:
    """A program and what it prints."""
    text = f"What does this Python program print?\n\n```python\n{item.prompt}\n```"
    before = layout.question(text) if layout.is_chat else f"{text}\n\n"
    return Wording(f"{before}Output:\n```\n", "", not layout.is_chat)


def continuation_words(item: ChoiceItem, _: ChatLayout) -> Wording:
    """Plain text that goes on: the same for all models, because the task is to continue a text and not to answer."""
    return Wording(item.prompt, "" if item.language == "zh" else " ", True)


class MultipleChoice(Ability):
    """An ability whose items are sets of four prompts over four options."""

    has_options = True

    def __init__(
        self,
        name: str,
        files: Sequence[str],
        words: Words,
        every: Mapping[Size, int] = EVERY,
        in_quick: bool = True,
    ) -> None:
        self.name, self.files, self.words, self.every, self.in_quick = name, files, words, every, in_quick

    def items(self, split: Split, size: Size) -> list[ChoiceItem]:
        sets = [one for file in self.files for one in in_split(load(file, ChoiceSet), split)]
        return [item for one in sets[:: self.every[size]] for item in expand(one)]

    def stated(self, item: ChoiceItem) -> Record:
        return {
            "id": item.id,
            "language": item.language,
            "cluster": item.cluster,
            "question": item.prompt,
            "options": list(item.options),
            "answer": item.answer,
        }

    def ask(
        self, subject: Subject, items: Sequence[ChoiceItem], base: Sequence[Record] | None, progress: Progress
    ) -> list[Record]:
        tokenizer = subject.generator.tokenizer
        records: list[Record] = []
        for start in range(0, len(items), PROGRESS_ITEMS):
            part = items[start : start + PROGRESS_ITEMS]
            words = [self.words(item, subject.layout) for item in part]
            choices = [
                encode_choice(
                    tokenizer, own.context, [own.separator + option for option in item.options], own.special_tokens
                )
                for item, own in zip(part, words, strict=True)
            ]
            found = log_likelihoods(subject.generator, choices)
            records += [
                {"prompt": own.context, "log_likelihoods": values} for own, values in zip(words, found, strict=True)
            ]
            progress(len(part))
        return records

    def grade(self, records: Sequence[Record]) -> list[Record]:
        sets: dict[str, list[list[float | None]]] = {}
        for record in records:
            sets.setdefault(record["cluster"], []).append(record["log_likelihoods"])
        graded = []
        for record in records:
            scores = centred(record["log_likelihoods"], sets[record["cluster"]])
            chosen = None if scores is None else scores.index(max(scores))
            graded.append(
                {
                    "chosen": chosen,
                    "correct": chosen == record["answer"],
                    "probability": None if scores is None else option_probability(scores, record["answer"]),
                }
            )
        return graded

    def measurements(self, base: Sequence[Record], tuned: Sequence[Record]) -> list[Measurement]:
        return choice_measurements(base, tuned, CHANCE)


def expand(one: ChoiceSet) -> list[ChoiceItem]:
    """The four items of a set."""
    return [
        ChoiceItem(f"{one.id}.{place + 1}", one.language, one.id, prompt, one.options, place)
        for place, prompt in enumerate(one.prompts)
    ]


def centred(own: Sequence[float | None], of_set: Sequence[Sequence[float | None]]) -> list[float] | None:
    """The log-likelihood of each option minus its mean over the prompts of the set, in nats; None where a value is not
    a finite number."""
    values = np.array([[float("nan") if value is None else value for value in row] for row in (own, *of_set)])
    if not np.isfinite(values).all():
        return None
    scores: list[float] = (values[0] - values[1:].mean(axis=0)).tolist()
    return scores


def most_likely(log_likelihoods: Sequence[float | None], lengths: Sequence[int]) -> int | None:
    """The index of the option with the highest log-likelihood per character; the first of equals; None where a value
    is not a finite number."""
    if any(value is None for value in log_likelihoods):
        return None
    scores = [value / length for value, length in zip(log_likelihoods, lengths, strict=True) if value is not None]
    return scores.index(max(scores))
