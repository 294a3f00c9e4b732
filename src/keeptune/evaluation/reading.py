"""The retained-ability score: reading questions, by SQuAD's rules and by the contest's, never mixed."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict
from math import exp
from typing import Any

import numpy as np

from keeptune.evaluation.statistics import FloatArray, Ratio, paired_difference, paired_ratio
from keeptune.generation.engine import Generator
from keeptune.generation.record_cache import sha256_of
from keeptune.grading.contest_reading import score_contest, select_contest_items
from keeptune.grading.squad import (
    ReadingItem,
    Scores,
    score_squad_v11,
    summarize_scores,
)
from keeptune.prompts.reading import MAX_NEW_TOKENS, ReadingLayout, first_line, is_answer_complete, question_text
from keeptune.prompts.template import encode_prompt

Record = dict[str, Any]
SQUAD, CONTEST = "squad-v1.1", "contest"
LIKELIHOOD = "answer_nll"
"""The key of a record's negative log-likelihood of the first reference answer, in nats a token."""


def score_retained(
    generator: Generator,
    items: Sequence[ReadingItem],
    layout: ReadingLayout,
    progress: Callable[[int], None] | None = None,
) -> list[Record]:
    """One record a question, in their order, with both metrics' scores in percent."""
    texts = [question_text(item.context, item.question, layout) for item in items]
    prompts = [encode_prompt(generator.tokenizer, text) for text in texts]
    answers = generator.answer(prompts, [MAX_NEW_TOKENS] * len(prompts), is_answer_complete, progress)
    first_of_paragraph = {item.question_id for item in select_contest_items(items)}
    records = []
    for item, text, answer in zip(items, texts, answers, strict=True):
        prediction = first_line(answer.text)
        in_contest = item.question_id in first_of_paragraph
        records.append(
            {
                "id": item.question_id,
                "article": item.article,
                "paragraph": item.paragraph,
                "question": item.question,
                "prompt": text,
                "output": answer.text,
                "prediction": prediction,
                "references": list(item.answers),
                SQUAD: _percent(score_squad_v11(prediction, item.answers)),
                CONTEST: _percent(score_contest(prediction, item.answers[0])) if in_contest else None,
                "stopped": answer.stopped,
                "output_tokens": answer.tokens,
            }
        )
    return records


def facts(items: Sequence[ReadingItem], layout: ReadingLayout) -> Record:
    """What the records of `score_retained` depend on besides the model."""
    asked = [asdict(item) for item in items]
    return {"what": "retained", "layout": layout, "tokens": MAX_NEW_TOKENS, "questions": sha256_of(asked)}


def summary(records: Sequence[Record], metric: str = SQUAD) -> Record:
    """F1 and EM in percent, with how many answers were empty or did not end by themselves."""
    counted = [record for record in records if record[metric] is not None]
    scores = [Scores(record[metric]["f1"] / 100, record[metric]["em"] / 100) for record in counted]
    totals = summarize_scores(scores, [record["prediction"] for record in counted])
    made = {
        "f1": totals.f1_percent,
        "em": totals.em_percent,
        "n": totals.questions,
        "empty": totals.empty,
        "unstopped": sum(not record["stopped"] for record in counted),
    }
    if metric == SQUAD and all(LIKELIHOOD in record for record in records):
        made[LIKELIHOOD] = float(np.mean([record[LIKELIHOOD] for record in records]))
    return made


def ratio(base: Sequence[Record], tuned: Sequence[Record], measure: str, resamples: int, seed: int) -> Ratio:
    """Tuned over base with its interval, paired by question and clustered by paragraph. `measure`: f1 or em."""
    return paired_ratio(points(base, measure), points(tuned, measure), clusters(base), resamples=resamples, seed=seed)


def likelihood_ratio(base: Sequence[Record], tuned: Sequence[Record], resamples: int, seed: int) -> Ratio | None:
    """Tuned over base, of the probability that a token of a reference answer has, in the geometric mean over questions;
    None where it was not measured."""
    if any(record.get(LIKELIHOOD) is None for record in (*base, *tuned)):
        return None
    before, after = (np.array([record[LIKELIHOOD] for record in records], np.float64) for records in (base, tuned))
    change = paired_difference(before, after, clusters(base), resamples=resamples, seed=seed)
    return Ratio(exp(-change.point), exp(-change.high95), exp(-change.low95))


def points(records: Sequence[Record], measure: str) -> FloatArray:
    """Each question's SQuAD score, from 0 to 1."""
    return np.array([record[SQUAD][measure] / 100 for record in records], dtype=np.float64)


def clusters(records: Sequence[Record]) -> list[Hashable]:
    """Questions on one paragraph share its difficulty, so they are drawn together."""
    return [(record["article"], record["paragraph"]) for record in records]


def _percent(scores: Scores) -> dict[str, float]:
    return {"f1": 100 * scores.f1, "em": 100 * scores.em}
