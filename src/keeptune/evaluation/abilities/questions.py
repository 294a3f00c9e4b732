"""The user's own questions as one more ability: a JSON Lines file, each question with the grader that it names.

    {"prompt": "Which colour is the sky?", "options": ["blue", "green"], "answer": 0}
    {"prompt": "Our return period?", "answer": ["30 days", "thirty days"], "grader": "contains"}
    {"messages": [{"role": "user", "content": "…"}], "constraints": [{"type": "no_comma"}]}

Options are scored by likelihood per character; everything else by a greedy answer through the chat template.
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
from keeptune.evaluation.abilities.base import Ability, Progress, Record, Subject
from keeptune.evaluation.abilities.base import measurement as paired
from keeptune.evaluation.abilities.constraints import satisfied, validate
from keeptune.evaluation.abilities.conversation import written_answers
from keeptune.evaluation.abilities.multiple_choice import most_likely
from keeptune.evaluation.gate import Measurement
from keeptune.evaluation.likelihood import encode_choice, log_likelihoods
from keeptune.evaluation.overlap import NgramIndex
from keeptune.evaluation.suite.loader import Size, Split, Text
from keeptune.grading.number import HEADLINE, parse_number
from keeptune.grading.number import grade as grade_number
from keeptune.grading.squad import score_squad_v11
from keeptune.prompts.chat import Message

BUDGET_TOKENS = 128
Grader = Callable[[str, Sequence[str]], float]


def exact(output: str, answers: Sequence[str]) -> float:
    """1 where the answer equals a reference, apart from case, outer spaces and a final full stop."""
    return float(_plain(output) in [_plain(own) for own in answers])


def contains(output: str, answers: Sequence[str]) -> float:
    """1 where a reference stands in the answer, apart from case."""
    return float(any(own.casefold() in output.casefold() for own in answers))


def f1(output: str, answers: Sequence[str]) -> float:
    """SQuAD's F1, the best over the references."""
    return score_squad_v11(output, answers).f1


def number(output: str, answers: Sequence[str]) -> float:
    """1 where the final number is a reference, to two decimals or four significant digits."""
    truths = [own for own in map(parse_number, answers) if own is not None]
    return float(any(grade_number(output, own).verdicts[HEADLINE] for own in truths))


GRADERS: dict[str, Grader] = {"exact": exact, "contains": contains, "f1": f1, "number": number}


class Question(BaseModel):
    """One line of the file."""

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
                raise ValueError(f"the answer {self.answer!r} is none of the options")
            if isinstance(self.answer, int) and not 0 <= self.answer < len(self.options):
                raise ValueError(f"the answer {self.answer} is no index of an option; the first is 0")
            if self.answer is None or isinstance(self.answer, tuple):
                raise ValueError("with `options`, `answer` is an option or its index")
        elif not self.constraints and not self.references:
            raise ValueError("give `answer`, `options` with `answer`, or `constraints`")
        elif not all(own.strip() for own in self.references):
            raise ValueError("an answer is blank; fill it in or leave it out")
        if self.grader is not None and self.grader not in GRADERS:
            raise ValueError(_unknown_grader(self.grader))
        for constraint in self.constraints or ():
            validate(constraint, "constraints")
        return self

    @property
    def turns(self) -> tuple[Message, ...]:
        """The conversation that the model answers."""
        return self.messages or (Message(role="user", content=self.prompt or ""),)

    @property
    def references(self) -> list[str]:
        """The acceptable answers as texts; of a choice, the right option."""
        if self.answer is None:
            return []
        if self.options is not None and isinstance(self.answer, int):
            return [self.options[self.answer]]
        return list(self.answer) if isinstance(self.answer, tuple) else [str(self.answer)]


def read_questions(path: Path, grader: str | None = None) -> list[Question]:
    """The questions of a file. `grader` applies where a line names none.

    Raises:
        RecipeError: no grader is called `grader`.
        DataError: naming file and line of what cannot be used.
    """
    if grader is not None and grader not in GRADERS:
        raise RecipeError(_unknown_grader(grader))
    try:
        lines = path.read_bytes().decode("utf-8-sig").split("\n")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give a JSON Lines file of questions") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    questions: dict[str, Question] = {}
    for place, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            own = Question.model_validate_json(line)
        except (ValidationError, DataError) as error:
            raise DataError(f"{path}:{place}: {_fault(error)}") from None
        name = own.id or f"line-{place}"
        if name in questions:
            raise DataError(f"{path}:{place}: the id {name!r} is used before; ids must be unique")
        questions[name] = own.model_copy(update={"id": name, "grader": own.grader or grader})
        if fault := _without_number(questions[name]):
            raise DataError(f"{path}:{place}: {fault}")
    if not questions:
        raise DataError(f"{path}: holds no question; write one JSON object per line")
    return list(questions.values())


def require_no_overlap(path: Path, questions: Sequence[Question], rows: Sequence[str], what: str) -> None:
    """Raises DataError when questions share a 13-gram, or their whole text, with the training rows."""
    index, whole = NgramIndex(), {}
    for own in questions:
        text = "\n".join(turn.content for turn in own.turns)
        index.add(str(own.id), text)
        whole[_plain(text)] = str(own.id)
    found = index.overlapping(rows) | {whole[_plain(row)] for row in rows if _plain(row) in whole}
    if found:
        first = ", ".join(sorted(found)[:3])
        raise DataError(
            f"{path}: {len(found)} questions overlap with {what} ({first}); they would measure what was trained: "
            "take them out"
        )


class Questions(Ability):
    """The questions of one file."""

    name = "questions"

    def __init__(self, questions: Sequence[Question]) -> None:
        self.questions = list(questions)

    def items(self, split: Split, size: Size) -> list[Question]:
        return self.questions if split == "final" else []

    def stated(self, item: Question) -> Record:
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

    def ask(
        self, subject: Subject, items: Sequence[Question], base: Sequence[Record] | None, progress: Progress
    ) -> list[Record]:
        written = [item for item in items if item.options is None]
        answers = iter(self._written(subject, written, progress))
        scored = [item for item in items if item.options is not None]
        likelihoods = iter(self._scored(subject, scored))
        progress(len(scored))
        return [next(answers) if item.options is None else next(likelihoods) for item in items]

    @staticmethod
    def _written(subject: Subject, items: Sequence[Question], progress: Progress) -> list[Record]:
        records: dict[int, Record] = {}
        for budget in sorted({item.tokens for item in items}):
            places = [place for place, item in enumerate(items) if item.tokens == budget]
            made = written_answers(subject, [items[place].turns for place in places], budget, progress)
            records |= dict(zip(places, made, strict=True))
        return [records[place] for place in range(len(items))]

    @staticmethod
    def _scored(subject: Subject, items: Sequence[Question]) -> list[Record]:
        prompts = [subject.layout.conversation(item.turns) for item in items]
        choices = [
            encode_choice(subject.generator.tokenizer, prompt, item.options or (), not subject.layout.is_chat)
            for prompt, item in zip(prompts, items, strict=True)
        ]
        found = log_likelihoods(subject.generator, choices)
        return [
            {"layout": subject.layout.name, "prompt": prompt, "log_likelihoods": values}
            for prompt, values in zip(prompts, found, strict=True)
        ]

    def graded(self, record: Record) -> Record:
        return {"score": _score(record)}

    def measurements(self, base: Sequence[Record], tuned: Sequence[Record]) -> list[Measurement]:
        options = [len(record["options"]) for record in base if record["options"]]
        chance = sum(1 / count for count in options) / len(base) if options else 0.0
        return [paired("score", base, tuned, lambda record: record["score"], chance=chance)]


def _score(record: Record) -> float:
    options = record["options"]
    if options:
        chosen = most_likely(record["log_likelihoods"], [len(option) for option in options])
        return float(chosen == options.index(record["answer"][0]))
    if record["constraints"]:
        met = satisfied(record["constraints"], record["output"], loose=False)
        return sum(met) / len(met)
    output, answers = record["output"].strip(), record["answer"]
    numeric = all(parse_number(own) is not None for own in answers)
    grader = GRADERS[record["grader"] or ("number" if numeric else "exact")]
    return grader(output, answers)


def _unknown_grader(name: str) -> str:
    near = difflib.get_close_matches(name, GRADERS, n=1)
    return f"no grader is called {name!r}; {f'did you mean {near[0]}?' if near else ', '.join(GRADERS)}"


def _without_number(question: Question) -> str | None:
    """What is wrong with a question that is graded as a number and whose answer is none."""
    if question.options or question.constraints or question.grader != "number":
        return None
    wrong = next((own for own in question.references if parse_number(own) is None), None)
    return None if wrong is None else f"the answer {wrong!r} is no number; use another grader than `number`"


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().rstrip(".。").casefold()


def _fault(error: ValidationError | DataError) -> str:
    if isinstance(error, DataError):
        return str(error)
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(place, Question.model_fields, n=1, cutoff=0.5)
        advice = f"did you mean {near[0]}?" if near else f"known: {', '.join(Question.model_fields)}"
        return f"{place}: no such key; {advice}"
    message = first["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message
