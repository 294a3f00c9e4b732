"""Reading comprehension scores: how much of its reading a model kept, measured on SQuAD in two ways.

`squad_v11` follows the rules of the official script; `contest` follows what the 2024 Ascend contest really computed,
which differs in five ways (one reference, other symbols removed, jieba segments, a contiguous run, no articles).
Their numbers must never be mixed, nor compared with each other.
Sources: Rajpurkar et al. 2016, evaluate-v1.1.py; MindFormers, mindformers/core/metric/metric.py, EmF1Metric.
"""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from keeptune.errors import DataError

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one prediction, as fractions from 0 to 1."""

    f1: float
    em: float


@dataclass(frozen=True, slots=True)
class Summary:
    """The scores of a whole set in percent, the number of questions, and how many predictions were blank."""

    f1_percent: float
    em_percent: float
    questions: int
    empty: int


def score_squad_v11(prediction: str, references: Sequence[str]) -> Scores:
    """The official SQuAD v1.1 scores: each the best over all references."""
    predicted = _official(prediction)
    expected = [_official(reference) for reference in references]
    return Scores(
        f1=max(_bag_f1(predicted.split(), text.split()) for text in expected),
        em=float(predicted in expected),
    )


def _official(text: str) -> str:
    """Lower case, no ASCII punctuation, no articles, single spaces; other scripts' punctuation stays."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_WITHOUT_PUNCTUATION)).split())


def _bag_f1(predicted: list[str], expected: list[str]) -> float:
    """The F1 of two bags of words; 0 where they share none, also where both are empty."""
    return f1_from_counts((Counter(predicted) & Counter(expected)).total(), len(predicted), len(expected))


def f1_from_counts(shared: int, predicted: int, expected: int) -> float:
    if shared == 0:
        return 0.0
    precision, recall = shared / predicted, shared / expected
    return 2 * precision * recall / (precision + recall)


def summarize_scores(scores: Sequence[Scores], predictions: Sequence[str]) -> Summary:
    """The mean scores in percent, with the share of blank predictions that explains many a low one."""
    if not scores or len(scores) != len(predictions):
        raise DataError(
            f"{len(scores)} scores for {len(predictions)} predictions; give one score per prediction, at least one"
        )
    return Summary(
        f1_percent=100 * sum(score.f1 for score in scores) / len(scores),
        em_percent=100 * sum(score.em for score in scores) / len(scores),
        questions=len(scores),
        empty=sum(not prediction.strip() for prediction in predictions),
    )


@dataclass(frozen=True, slots=True)
class ReadingItem:
    """A question on a passage. `paragraph` counts through the whole file, so it names a passage by itself."""

    article: str
    paragraph: int
    context: str
    question_id: str
    question: str
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Squad:
    """The answerable questions of a file, in its order, and how many unanswerable ones (v2.0) were left out."""

    items: list[ReadingItem]
    skipped_unanswerable: int


def load_squad(path: Path) -> Squad:
    """The questions of a file in the SQuAD v1.1 schema, every field checked before any model is asked.

    Unanswerable questions of a v2.0 file are left out and counted: neither metric can score them.
    """
    articles = _field(_json(path), "data", list, str(path))
    items: list[ReadingItem] = []
    skipped = paragraphs = 0
    seen: set[str] = set()
    for article_number, article in enumerate(articles, start=1):
        title = _field(article, "title", str, f"{path}: article {article_number}")
        for number, paragraph in enumerate(_field(article, "paragraphs", list, f"{path}: article {title!r}"), start=1):
            where = f"{path}: article {title!r}, paragraph {number}"
            context = _field(paragraph, "context", str, where)
            for question_id, question, answers in _questions(paragraph, where):
                if question_id in seen:
                    raise DataError(f"{where}, question {question_id!r}: the id was used before; give each its own")
                seen.add(question_id)
                if answers:
                    items.append(ReadingItem(title, paragraphs, context, question_id, question, answers))
                else:
                    skipped += 1
            paragraphs += 1
    if not items:
        raise DataError(f"{path}: no answerable question; give a file in the SQuAD v1.1 format")
    return Squad(items, skipped)


def load_reading_items(source: str, limit: int = 0) -> list[ReadingItem]:
    """The questions of a SQuAD file, or of the embedded reading set; the first `limit`, or all.

    errors: DataError when the file cannot be read.
    """
    if source != "embedded":
        items = load_squad(Path(source)).items
    else:
        with resources.as_file(resources.files("keeptune.grading") / "reading_set.json") as path:
            items = load_squad(path).items
    return items[:limit] if limit else items


def _questions(paragraph: object, where: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """The id, question and answers of each question of a paragraph; no answers where it is unanswerable."""
    for number, entry in enumerate(_field(paragraph, "qas", list, where), start=1):
        question_id = _field(entry, "id", str, f"{where}, question {number}")
        here = f"{where}, question {question_id!r}"
        question = _field(entry, "question", str, here)
        if entry.get("is_impossible") is True:
            yield question_id, question, ()
            continue
        answers = _field(entry, "answers", list, here)
        if not answers:
            raise DataError(f'{here}: no answer; give one, or mark the question "is_impossible": true')
        yield question_id, question, tuple(_field(answer, "text", str, f"{here}, answer") for answer in answers)


def _json(path: Path) -> object:
    try:
        return json.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give a SQuAD file") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON ({error}); give a file in the SQuAD v1.1 format") from error


def _field(container: object, name: str, kind: type, where: str) -> Any:
    """The named field of a JSON object: a list, or a text that is not blank and can be encoded."""
    value = container.get(name) if isinstance(container, dict) else None
    if not isinstance(value, kind):
        wanted = "a list" if kind is list else "a text"
        raise DataError(f"{where}: {name!r} must be {wanted}, as in the SQuAD v1.1 format")
    if isinstance(value, str):
        if not value.strip():
            raise DataError(f"{where}: {name!r} is blank; fill it in or remove the entry")
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise DataError(f"{where}: {name!r} holds half a character (a lone surrogate); repair the text")
    return value
