"""Skill score: greedy answers to the test questions of the trained skill, graded one by one.

Base and tuned use the same prompt, budgets and stop rule, so that only the adapter differs between them. Each question
gives one record, from which every figure is computed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from keeptune.errors import ModelError
from keeptune.evaluation.statistics import wilson
from keeptune.files import Record
from keeptune.generation.engine import Generator
from keeptune.generation.record_cache import sha256_of
from keeptune.grading.answers import ANSWER_MARKER, Truth
from keeptune.grading.number import HEADLINE, POLICIES, find_final_answer, grade
from keeptune.prompts.template import Prompt

DEFAULT_BUDGET_TOKENS = 320
"""Maximum number of new tokens for a model without stored budgets, that is, one that was not trained here."""


@dataclass(frozen=True, slots=True)
class SkillQuestion:
    """A test question of the skill: its id, kind, text and exact answer."""

    name: str
    kind: str
    problem: str
    truth: Truth


def has_final_answer(text: str) -> bool:
    """Stop rule: whether the last complete line contains a final answer."""
    last_line = text[: text.rfind("\n") + 1].rstrip().rpartition("\n")[2]
    return ANSWER_MARKER in last_line and find_final_answer(last_line) is not None


def default_budget(budgets: Mapping[str, int]) -> int:
    """Maximum number of new tokens for kinds without a budget: the largest budget, or DEFAULT_BUDGET_TOKENS."""
    return max(budgets.values(), default=DEFAULT_BUDGET_TOKENS)


def check_invoked(generator: Generator, prompt: Prompt, problems: Iterable[str]) -> None:
    """Checks that the prompt of every problem contains the invocation of the adapter, if it has one.

    Raises:
        ModelError: if a prompt does not contain it, because then the base model would answer.
    """
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
    questions: Sequence[SkillQuestion],
    budgets: Mapping[str, int],
    progress: Callable[[int], None] | None = None,
) -> list[Record]:
    """Answers and grades the questions; returns one record per question, in their order.

    `budgets` is the maximum number of new tokens by kind. Kinds without a budget get `default_budget`.
    """
    prompts = [prompt.encode(generator.tokenizer, question.problem) for question in questions]
    limits = [budgets.get(question.kind, default_budget(budgets)) for question in questions]
    answers = generator.answer(prompts, limits, has_final_answer, progress)
    records = []
    for question, answer in zip(questions, answers, strict=True):
        graded = grade(answer.text, question.truth, question.kind)
        records.append(
            {
                "id": question.name,
                "kind": question.kind,
                "problem": question.problem,
                "prompt": prompt.render(question.problem),
                "output": answer.text,
                "truth": str(question.truth),
                "answer": graded.answer,
                "source": graded.source,
                "verdicts": dict(graded.verdicts),
                "stopped": answer.stopped,
                "output_tokens": answer.tokens,
            }
        )
    return records


def fingerprint(prompt: Prompt, questions: Sequence[SkillQuestion], budgets: Mapping[str, int]) -> Record:
    """What the records of `score_skill` depend on besides the model."""
    fields = [[question.name, question.kind, question.problem, str(question.truth)] for question in questions]
    return {"what": "skill", "prompt": prompt.template, "budgets": dict(budgets), "questions": sha256_of(fields)}


def summarize(records: Sequence[Record]) -> Record:
    """The `skill` section of result.json: accuracy with its 95 % Wilson interval, by kind and by grading policy."""
    kinds = sorted({record["kind"] for record in records})
    return {
        **_accuracy(records),
        "by_kind": {kind: _accuracy([r for r in records if r["kind"] == kind]) for kind in kinds},
        "by_policy": {policy: _share_right(records, policy) for policy in POLICIES},
        "by_source": dict(Counter(record["source"] or "none" for record in records)),
        "unstopped": sum(not record["stopped"] for record in records),
    }


def _accuracy(records: Sequence[Record]) -> Record:
    right = sum(record["verdicts"][HEADLINE] for record in records)
    accuracy = right / len(records) if records else 0.0
    return {"accuracy": accuracy, "n": len(records), "ci95": list(wilson(right, len(records)))}


def _share_right(records: Sequence[Record], policy: str) -> float:
    """The share of records that are right under a grading policy."""
    return sum(record["verdicts"][policy] for record in records) / len(records) if records else 0.0
