"""Ability `questions`: the user's own questions from a JSON Lines file, each with a grader.

    {"prompt": "Which color is the sky?", "options": ["blue", "green"], "answer": 0}
    {"prompt": "Our return period?", "answer": ["30 days", "thirty days"], "grader": "contains"}
    {"messages": [{"role": "user", "content": "…"}], "constraints": [{"type": "no_comma"}]}

Options are scored by likelihood per character. All other questions get a greedy answer through the chat template.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    Strict,
    ValidationError,
    model_validator,
)

from keeptune.errors import DataError, RecipeError
from keeptune.evaluation.abilities.base import Ability, Progress, Subject, paired_measurement
from keeptune.evaluation.abilities.constraints import satisfied, validate
from keeptune.evaluation.abilities.conversation import written_answers
from keeptune.evaluation.abilities.multiple_choice import most_likely
from keeptune.evaluation.continuation_likelihood import encode_options, log_likelihoods
from keeptune.evaluation.gate import Measurement
from keeptune.evaluation.overlap import NgramIndex
from keeptune.evaluation.suite.loader import Size, Split, Text
from keeptune.files import Record, read_regular_bytes
from keeptune.grading.number import HEADLINE, parse_number
from keeptune.grading.number import grade as grade_number
from keeptune.grading.squad import score_squad_v11
from keeptune.prompts.chat import Message

BUDGET_TOKENS = 128
"""Default maximum number of new tokens of an answer."""

Grader = Callable[[str, Sequence[str]], float]
"""The score of an answer, from 0 to 1, given the acceptable answers."""


def exact(output: str, answers: Sequence[str]) -> float:
    """1 if the output equals an acceptable answer, ignoring case, surrounding spaces and a final full stop; else 0."""
    return float(_normalized(output) in [_normalized(answer) for answer in answers])


def contains(output: str, answers: Sequence[str]) -> float:
    """1 if the output contains an acceptable answer, ignoring case; else 0."""
    return float(any(answer.casefold() in output.casefold() for answer in answers))


def f1(output: str, answers: Sequence[str]) -> float:
    """The F1 of SQuAD v1.1, the best over the acceptable answers."""
    return score_squad_v11(output, answers).f1


def number(output: str, answers: Sequence[str]) -> float:
    """1 if the final number equals an acceptable answer to two decimals or four significant digits; else 0."""
    truths = [truth for truth in map(parse_number, answers) if truth is not None]
    return float(any(grade_number(output, truth).verdicts[HEADLINE] for truth in truths))


GRADERS: dict[str, Grader] = {"exact": exact, "contains": contains, "f1": f1, "number": number}


class Question(BaseModel):
    """One question: a line of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Text | None = None
    prompt: Text | None = Field(None, validation_alias=AliasChoices("prompt", "question", "problem"))
    messages: tuple[Message, ...] | None = None
    options: Annotated[tuple[Text, ...], Field(min_length=2)] | None = None
    answer: Annotated[int, Strict()] | str | tuple[str, ...] | None = Field(
        None, validation_alias=AliasChoices("answer", "answers")
    )
    constraints: tuple[dict[str, Any], ...] | None = None
    grader: str | None = None
    group: Text | None = Field(None, description="questions on one text; the interval draws whole groups")
    tokens: Annotated[int, Field(gt=0, le=4096)] = BUDGET_TOKENS

    @model_validator(mode="after")
    def _is_complete(self) -> Question:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either `prompt` or `messages`")
        if self.messages is not None and (not self.messages or self.messages[-1].role != "user"):
            raise ValueError("the last message must be the user's")
        if self.options is not None:
            if len(set(self.options)) < len(self.options):
                raise ValueError("the options must differ")
            if isinstance(self.answer, str) and self.answer not in self.options:
                raise ValueError(f"`answer` must be one of the options (got {self.answer!r})")
            if isinstance(self.answer, int) and not 0 <= self.answer < len(self.options):
                raise ValueError(f"`answer` must be an index from 0 to {len(self.options) - 1} (got {self.answer})")
            if self.answer is None or isinstance(self.answer, tuple):
                raise ValueError("with `options`, `answer` must be an option or its index")
        elif not self.constraints and not self.references:
            raise ValueError("give `answer`, `options` with `answer`, or `constraints`")
        elif not all(reference.strip() for reference in self.references):
            raise ValueError("an answer is blank; fill it in or leave it out")
        if self.grader is not None and self.grader not in GRADERS:
            raise ValueError(_unknown_grader_message(self.grader))
        for constraint in self.constraints or ():
            validate(constraint, "constraints")
        return self

    @property
    def turns(self) -> tuple[Message, ...]:
        """The conversation that the model answers."""
        return self.messages or (Message(role="user", content=self.prompt or ""),)

    @property
    def references(self) -> list[str]:
        """The acceptable answers as texts. For a question with options, that is the right option."""
        if self.answer is None:
            return []
        if self.options is not None and isinstance(self.answer, int):
            return [self.options[self.answer]]
        return list(self.answer) if isinstance(self.answer, tuple) else [str(self.answer)]


def read_questions(path: Path, grader: str | None = None) -> list[Question]:
    """Reads the questions of a file. `grader` is the grader of lines that name none.

    Raises:
        RecipeError: if `grader` is not in GRADERS.
        DataError: if a line is not valid; the message names file and line.
    """
    if grader is not None and grader not in GRADERS:
        raise RecipeError(_unknown_grader_message(grader))
    try:
        lines = read_regular_bytes(path).decode("utf-8-sig").split("\n")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give a JSON Lines file of questions") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    questions: dict[str, Question] = {}
    for line_number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            question = Question.model_validate_json(line)
        except (ValidationError, DataError) as error:
            raise DataError(f"{path}:{line_number}: {_message(error)}") from None
        name = question.id or f"line-{line_number}"
        if name in questions:
            raise DataError(f"{path}:{line_number}: the id {name!r} is used twice; ids must be unique")
        questions[name] = question.model_copy(update={"id": name, "grader": question.grader or grader})
        if problem := _missing_number(questions[name]):
            raise DataError(f"{path}:{line_number}: {problem}")
    if not questions:
        raise DataError(f"{path}: contains no question; write one JSON object per line")
    return list(questions.values())


def check_no_overlap(path: Path, questions: Sequence[Question], rows: Sequence[str], source: str) -> None:
    """Checks that no question shares a 13-gram, or its whole text, with the training rows.

    `source` is the name of the rows in the message.

    Raises:
        DataError: if a question does.
    """
    index, ids_by_text = NgramIndex(), {}
    for question in questions:
        text = "\n".join(turn.content for turn in question.turns)
        index.add(str(question.id), text)
        ids_by_text[_normalized(text)] = str(question.id)
    equal = {ids_by_text[_normalized(row)] for row in rows if _normalized(row) in ids_by_text}
    if overlapping := index.overlapping(rows) | equal:
        first = ", ".join(sorted(overlapping)[:3])
        raise DataError(
            f"{path}: {len(overlapping)} questions overlap with {source} ({first}), so they would measure the training "
            "data; remove them"
        )


class Questions(Ability):
    """The user's questions of one file."""

    name = "questions"

    def __init__(self, questions: Sequence[Question]) -> None:
        self.questions = list(questions)

    def items(self, split: Split, size: Size) -> list[Question]:
        return self.questions if split == "final" else []

    def item_fields(self, item: Question) -> Record:
        return {
            "id": item.id,
            "language": "en",
            "cluster": item.group or item.id,
            "messages": [turn.model_dump() for turn in item.turns],
            "options": list(item.options) if item.options else None,
            "answer": item.references,
            "constraints": list(item.constraints) if item.constraints else None,
            "grader": item.grader,
        }

    def evaluate(
        self, subject: Subject, items: Sequence[Question], base: Sequence[Record] | None, progress: Progress
    ) -> list[Record]:
        open_questions = [item for item in items if item.options is None]
        answers = iter(self._answers(subject, open_questions, progress))
        choice_questions = [item for item in items if item.options is not None]
        likelihoods = iter(self._option_likelihoods(subject, choice_questions))
        progress(len(choice_questions))
        return [next(answers) if item.options is None else next(likelihoods) for item in items]

    @staticmethod
    def _answers(subject: Subject, items: Sequence[Question], progress: Progress) -> list[Record]:
        records: dict[int, Record] = {}
        for budget in sorted({item.tokens for item in items}):
            places = [place for place, item in enumerate(items) if item.tokens == budget]
            answers = written_answers(subject, [items[place].turns for place in places], budget, progress)
            records |= dict(zip(places, answers, strict=True))
        return [records[place] for place in range(len(items))]

    @staticmethod
    def _option_likelihoods(subject: Subject, items: Sequence[Question]) -> list[Record]:
        prompts = [subject.layout.conversation(item.turns) for item in items]
        choices = [
            encode_options(subject.generator.tokenizer, prompt, item.options or (), not subject.layout.is_chat)
            for prompt, item in zip(prompts, items, strict=True)
        ]
        sums = log_likelihoods(subject.generator, choices)
        return [
            {"layout": subject.layout.name, "prompt": prompt, "log_likelihoods": values}
            for prompt, values in zip(prompts, sums, strict=True)
        ]

    def grade_record(self, record: Record) -> Record:
        return {"score": _score(record)}

    def measurements(self, base: Sequence[Record], tuned: Sequence[Record]) -> list[Measurement]:
        options = [len(record["options"]) for record in base if record["options"]]
        chance = sum(1 / count for count in options) / len(base) if options else 0.0
        return [paired_measurement("score", base, tuned, lambda record: record["score"], chance=chance)]


def _score(record: Record) -> float:
    options = record["options"]
    if options:
        chosen = most_likely(record["log_likelihoods"], [len(option) for option in options])
        return float(chosen == options.index(record["answer"][0]))
    if record["constraints"]:
        is_met = satisfied(record["constraints"], record["output"], loose=False)
        return sum(is_met) / len(is_met)
    output, answers = record["output"].strip(), record["answer"]
    are_numbers = all(parse_number(answer) is not None for answer in answers)
    grader = GRADERS[record["grader"] or ("number" if are_numbers else "exact")]
    return grader(output, answers)


def _unknown_grader_message(name: str) -> str:
    matches = difflib.get_close_matches(name, GRADERS, n=1)
    advice = f"did you mean {matches[0]}?" if matches else f"choose one of {', '.join(GRADERS)}"
    return f"unknown grader {name!r}; {advice}"


def _missing_number(question: Question) -> str | None:
    """The problem of a question with the grader `number` and an answer that is not a number; None if there is none."""
    if question.options or question.constraints or question.grader != "number":
        return None
    wrong = next((reference for reference in question.references if parse_number(reference) is None), None)
    if wrong is None:
        return None
    return f"with the grader `number`, `answer` must be a number (got {wrong!r}); use another grader"


def _normalized(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().rstrip(".。").casefold()


def _message(error: ValidationError | DataError) -> str:
    """The first problem of a line, with its key."""
    if isinstance(error, DataError):
        return str(error)
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        matches = difflib.get_close_matches(key, Question.model_fields, n=1, cutoff=0.5)
        advice = f"did you mean {matches[0]}?" if matches else f"known keys: {', '.join(Question.model_fields)}"
        return f"{key}: unknown key; {advice}"
    message = first["msg"].removeprefix("Value error, ")
    return f"{key}: {message}" if key else message
