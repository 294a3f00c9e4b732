"""Reading score of a run: F1 and EM on the questions of the recipe's `score.retained`.

Every record holds two scores that are never mixed: SQuAD v1.1's official metric, and the metric of the 2024 Ascend
contest. The reading abilities of the retention suite are in abilities/reading.py.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict
from math import exp

import numpy as np

from keeptune.evaluation.statistics import FloatArray, Ratio, paired_difference, paired_ratio
from keeptune.files import Record
from keeptune.generation.answer_source import AnswerSource
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

SQUAD, CONTEST = "squad-v1.1", "contest"
LIKELIHOOD = "answer_nll"
"""Key of a record: the negative log-likelihood of the first reference answer, in nats per token."""


def score_reading(
    generator: AnswerSource,
    items: Sequence[ReadingItem],
    layout: ReadingLayout,
    progress: Callable[[int], None] | None = None,
) -> list[Record]:
    """Answers and scores the questions; returns one record per question, in their order. Scores are in percent."""
    texts = [question_text(item.context, item.question, layout) for item in items]
    prompts = [encode_prompt(generator.tokenizer, text) for text in texts]
    answers = generator.answer(prompts, [MAX_NEW_TOKENS] * len(prompts), is_answer_complete, progress)
    contest_ids = {item.question_id for item in select_contest_items(items)}
    records = []
    for item, text, answer in zip(items, texts, answers, strict=True):
        prediction = first_line(answer.text)
        in_contest = item.question_id in contest_ids
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


def fingerprint(items: Sequence[ReadingItem], layout: ReadingLayout) -> Record:
    """What the records of `score_reading` depend on besides the model."""
    fields = [asdict(item) for item in items]
    return {"what": "retained", "layout": layout, "tokens": MAX_NEW_TOKENS, "questions": sha256_of(fields)}


def summarize(records: Sequence[Record], metric: str = SQUAD) -> Record:
    """F1 and EM in percent, with the number of empty answers and of answers that used up their budget."""
    scored = [record for record in records if record[metric] is not None]
    scores = [Scores(record[metric]["f1"] / 100, record[metric]["em"] / 100) for record in scored]
    totals = summarize_scores(scores, [record["prediction"] for record in scored])
    summary = {
        "f1": totals.f1_percent,
        "em": totals.em_percent,
        "n": totals.questions,
        "empty": totals.empty,
        "unstopped": sum(not record["stopped"] for record in scored),
    }
    if metric == SQUAD and all(LIKELIHOOD in record for record in records):
        summary[LIKELIHOOD] = float(np.mean([record[LIKELIHOOD] for record in records]))
    return summary


def score_ratio(base: Sequence[Record], tuned: Sequence[Record], measure: str, resamples: int, seed: int) -> Ratio:
    """sum(tuned) / sum(base) with its 95 % interval, paired by question and clustered by paragraph.

    `measure` is "f1" or "em".
    """
    before, after = (per_question_scores(records, measure) for records in (base, tuned))
    return paired_ratio(before, after, paragraph_clusters(base), resamples=resamples, seed=seed)


def answer_nats(records: Sequence[Record]) -> float:
    """The mean loss on the reference answers, in nats per token; 0 where it was not measured."""
    losses = [record[LIKELIHOOD] for record in records if record.get(LIKELIHOOD) is not None]
    return sum(losses) / len(losses) if losses else 0.0


def likelihood_ratio(base: Sequence[Record], tuned: Sequence[Record], resamples: int, seed: int) -> Ratio | None:
    """Ratio of the probabilities that tuned and base give to a token of a reference answer; None if not measured.

    It is exp(mean(base) − mean(tuned)) of the negative log-likelihoods in nats per token, that is, a ratio of
    geometric means over questions.
    """
    if any(record.get(LIKELIHOOD) is None for record in (*base, *tuned)):
        return None
    before, after = (np.array([record[LIKELIHOOD] for record in records], np.float64) for records in (base, tuned))
    change = paired_difference(before, after, paragraph_clusters(base), resamples=resamples, seed=seed)
    return Ratio(exp(-change.point), exp(-change.high95), exp(-change.low95))


def per_question_scores(records: Sequence[Record], measure: str) -> FloatArray:
    """The SQuAD score of each question, from 0 to 1. Shape: (questions,)."""
    return np.array([record[SQUAD][measure] / 100 for record in records], dtype=np.float64)


def paragraph_clusters(records: Sequence[Record]) -> list[Hashable]:
    """The cluster of each question for the bootstrap: its paragraph, because questions on it share its difficulty."""
    return [(record["article"], record["paragraph"]) for record in records]


def _percent(scores: Scores) -> dict[str, float]:
    return {"f1": 100 * scores.f1, "em": 100 * scores.em}
