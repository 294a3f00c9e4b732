"""The skill score: every question asked once, greedily, and graded; one record a question, kept for ever.

Base and tuned go through the same call with the same prompt, budgets and stop rule, so nothing but the adapter can
make a difference between them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keeptune.errors import ModelError
from keeptune.evaluation.statistics import wilson
from keeptune.generation.engine import Generator
from keeptune.generation.record_cache import sha256_of
from keeptune.grading.answers import ANSWER_MARKER, Truth
from keeptune.grading.number import HEADLINE, POLICIES, find_final_answer, grade
from keeptune.grading.number import parse_truth as parse_truth
from keeptune.prompts.template import Prompt

Record = dict[str, Any]

UNTAUGHT_TOKENS = 320
"""How long an answer may be where no kind says how long its solutions are: for a model that was taught nothing."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One question to score: its name, kind, text and exact answer."""

    name: str
    kind: str
    problem: str
    truth: Truth


def answered(text: str) -> bool:
    """The stop rule: a line with a final answer has ended."""
    last_line = text[: text.rfind("\n") + 1].rstrip().rpartition("\n")[2]
    return ANSWER_MARKER in last_line and find_final_answer(last_line) is not None


def longest(budgets: Mapping[str, int]) -> int:
    """The budget where none is stated."""
    return max(budgets.values(), default=UNTAUGHT_TOKENS)


def require_invoked(generator: Generator, prompt: Prompt, problems: Iterable[str]) -> None:
    """Raises ModelError if the adapter has an invocation that a problem's prompt does not contain: the base would
    answer."""
    invocation = generator.invocation
    for problem in problems if invocation else ():
        if invocation and invocation.start(prompt.encode(generator.tokenizer, problem)) is None:
            raise ModelError(
                f"the prompt of the problem {problem!r} does not contain the invocation of the adapter, so the base "
                "model would answer; use the prompt that is stored with the adapter"
            )


def score_skill(
    generator: Generator,
    prompt: Prompt,
    questions: Sequence[Asked],
    budgets: Mapping[str, int],
    progress: Callable[[int], None] | None = None,
) -> list[Record]:
    """One graded record a question, in their order. `budgets` bounds the new tokens by kind; a kind that was not
    taught may take as many as the longest."""
    prompts = [prompt.encode(generator.tokenizer, asked.problem) for asked in questions]
    limits = [budgets.get(asked.kind, longest(budgets)) for asked in questions]
    answers = generator.answer(prompts, limits, answered, progress)
    records = []
    for asked, answer in zip(questions, answers, strict=True):
        graded = grade(answer.text, asked.truth, asked.kind)
        records.append(
            {
                "id": asked.name,
                "kind": asked.kind,
                "problem": asked.problem,
                "prompt": prompt.render(asked.problem),
                "output": answer.text,
                "truth": str(asked.truth),
                "answer": graded.answer,
                "source": graded.source,
                "verdicts": dict(graded.verdicts),
                "stopped": answer.stopped,
                "output_tokens": answer.tokens,
            }
        )
    return records


def facts(prompt: Prompt, questions: Sequence[Asked], budgets: Mapping[str, int]) -> Record:
    """What the records of `score_skill` depend on besides the model."""
    asked = [[own.name, own.kind, own.problem, str(own.truth)] for own in questions]
    return {"what": "skill", "prompt": prompt.template, "budgets": dict(budgets), "questions": sha256_of(asked)}


def summary(records: Sequence[Record]) -> Record:
    """Accuracy with its interval, by kind and by policy: the `skill` part of result.json."""
    kinds = sorted({record["kind"] for record in records})
    return {
        **_accuracy(records),
        "by_kind": {kind: _accuracy([r for r in records if r["kind"] == kind]) for kind in kinds},
        "by_policy": {policy: _share(records, policy) for policy in POLICIES},
        "by_source": dict(Counter(record["source"] or "none" for record in records)),
        "unstopped": sum(not record["stopped"] for record in records),
    }


def _accuracy(records: Sequence[Record]) -> Record:
    right = sum(record["verdicts"][HEADLINE] for record in records)
    share = right / len(records) if records else 0.0
    return {"accuracy": share, "n": len(records), "ci95": list(wilson(right, len(records)))}


def _share(records: Sequence[Record], policy: str) -> float:
    return sum(record["verdicts"][policy] for record in records) / len(records) if records else 0.0
