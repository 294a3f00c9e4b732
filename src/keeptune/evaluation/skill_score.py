"""Skill score: greedy answers to the test questions of the trained skill, graded one by one.

Base and tuned use the same prompt, budgets and stop rule, so that only the adapter differs between them. Each question
gives one record, from which every figure is computed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from keeptune.errors import ModelError
from keeptune.evaluation.statistics import FloatArray, mcnemar, weighted_mean, wilson
from keeptune.files import Record
from keeptune.generation.answer_source import AnswerSource
from keeptune.generation.engine import Generator, StopRule
from keeptune.generation.record_cache import sha256_of
from keeptune.grading.answers import ANSWER_MARKER, Truth
from keeptune.grading.base import RIGHT, Grade, Grader
from keeptune.grading.number import HEADLINE, POLICIES, find_final_answer, grade
from keeptune.prompts.chat_prompt import AnyPrompt

DEFAULT_BUDGET_TOKENS = 320
"""Maximum number of new tokens for a model without stored budgets, that is, one that was not trained here."""


@dataclass(frozen=True, slots=True)
class SkillQuestion:
    """A test question of the skill: its id, kind, text and exact answer."""

    name: str
    kind: str
    problem: str
    truth: Truth
    conversation: str | None = None
    """The turns before the answer as JSON, if the question is more than its problem."""


def has_final_answer(text: str) -> bool:
    """Stop rule: whether the last complete line contains a final answer."""
    last_line = text[: text.rfind("\n") + 1].rstrip().rpartition("\n")[2]
    return ANSWER_MARKER in last_line and find_final_answer(last_line) is not None


def stop_rule(grader: Grader | None) -> StopRule:
    """The rule that ends an answer: at the place where the grader finds it, or at the marker of exact answers."""
    return grader.location.ends_output if grader else has_final_answer


def default_budget(budgets: Mapping[str, int]) -> int:
    """Maximum number of new tokens for kinds without a budget: the largest budget, or DEFAULT_BUDGET_TOKENS."""
    return max(budgets.values(), default=DEFAULT_BUDGET_TOKENS)


def check_invoked(generator: Generator, prompt: AnyPrompt, problems: Iterable[str]) -> None:
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
    generator: AnswerSource,
    prompt: AnyPrompt,
    questions: Sequence[SkillQuestion],
    budgets: Mapping[str, int],
    progress: Callable[[int], None] | None = None,
    grader: Grader | None = None,
) -> list[Record]:
    """Answers and grades the questions; returns one record per question, in their order.

    `budgets` is the maximum number of new tokens by kind. Kinds without a budget get `default_budget`. Without a
    `grader`, answers are compared with exact values, under all policies.
    """
    prompts = [prompt.encode(generator.tokenizer, one.problem, one.conversation) for one in questions]
    limits = [budgets.get(question.kind, default_budget(budgets)) for question in questions]
    answers = generator.answer(prompts, limits, stop_rule(grader), progress)
    if grader:
        grader.prepare(
            [answer.text for answer in answers],
            [str(question.truth) for question in questions],
            [question.problem for question in questions],
        )
    return [
        {
            "id": question.name,
            "kind": question.kind,
            "problem": question.problem,
            "prompt": prompt.render(question.problem, question.conversation),
            "output": answer.text,
            "truth": str(question.truth),
            **grade_fields(answer.text, question.truth, question.kind, question.problem, grader),
            "stopped": answer.stopped,
            "output_tokens": answer.tokens,
        }
        for question, answer in zip(questions, answers, strict=True)
    ]


def grade_fields(output: str, truth: Truth, kind: str, problem: str, grader: Grader | None) -> Record:
    """The fields of a record that follow from the output; `verify` computes them again."""
    if grader is None:
        graded = grade(output, truth, kind)
        return {"answer": graded.answer, "source": graded.source, "verdicts": dict(graded.verdicts)}
    result = grader.grade(output, str(truth), problem)
    details = dict(result.details)
    return {"answer": result.answer, "source": None, "verdicts": {}, "score": result.score, "details": details}


def fingerprint(
    prompt: AnyPrompt, questions: Sequence[SkillQuestion], budgets: Mapping[str, int], grader: Grader | None = None
) -> Record:
    """What the records of `score_skill` depend on besides the model."""
    fields = [
        [one.name, one.kind, one.problem, str(one.truth), *([one.conversation] if one.conversation else [])]
        for one in questions
    ]
    facts = {"what": "skill", "prompt": prompt.cache_key, "budgets": dict(budgets), "questions": sha256_of(fields)}
    return {**facts, "grader": grader.describe()} if grader else facts


def score_of(record: Record) -> float:
    """The score of a record, from 0 to 1. Without a grader, that is the headline verdict."""
    return float(record["score"] if "score" in record else record["verdicts"][HEADLINE])


def scores_of(records: Sequence[Record]) -> FloatArray:
    """The scores of records. Shape: (questions,)."""
    return np.array([score_of(record) for record in records], dtype=np.float64)


def mcnemar_p_value(base: FloatArray, tuned: FloatArray) -> float | None:
    """The p-value of McNemar's test, or None if a score is neither 0 nor 1: the test is for right and wrong answers."""
    if not np.isin(np.concatenate([base, tuned]), (0.0, 1.0)).all():
        return None
    return mcnemar(base == 1, tuned == 1).p_value


def summarize(records: Sequence[Record], grader: Grader | None = None) -> Record:
    """The `skill` section of result.json: the mean score with its 95 % interval, by kind, and figures of the grader.

    Without a grader, accuracy is also given for each grading policy and place of the answer.
    """
    kinds = sorted({record["kind"] for record in records})
    is_binary = grader is None or grader.is_binary
    summary = {
        **_accuracy(records, is_binary),
        "by_kind": {kind: _accuracy([r for r in records if r["kind"] == kind], is_binary) for kind in kinds},
        "by_policy": {} if grader else {policy: _share_right(records, policy) for policy in POLICIES},
        "by_source": {} if grader else dict(Counter(record["source"] or "none" for record in records)),
        "unstopped": sum(not record["stopped"] for record in records),
    }
    return {**summary, "grader": grader.name, "figures": _figures(records, grader)} if grader else summary


def _accuracy(records: Sequence[Record], is_binary: bool) -> Record:
    """The mean score with its interval: Wilson's for right and wrong answers, a bootstrap for scores in between."""
    if is_binary or not records:
        right = sum(score_of(record) >= RIGHT for record in records)
        accuracy = right / len(records) if records else 0.0
        return {"accuracy": accuracy, "n": len(records), "ci95": list(wilson(right, len(records)))}
    mean = weighted_mean(scores_of(records), np.ones(len(records)), seed=0)
    return {"accuracy": mean.point, "n": len(records), "ci95": [max(0.0, mean.low95), min(1.0, mean.high95)]}


def _figures(records: Sequence[Record], grader: Grader) -> Record:
    """The aggregate of the grader, and the number of outputs without an answer."""
    grades = [Grade(record["score"], record["answer"], record["details"]) for record in records]
    aggregate = grader.aggregate([record["truth"] for record in records], grades)
    return {"without_answer": sum(record["answer"] is None for record in records), **aggregate}


def _share_right(records: Sequence[Record], policy: str) -> float:
    """The share of records that are right under a grading policy."""
    return sum(record["verdicts"][policy] for record in records) / len(records) if records else 0.0
