"""Official SQuAD v1.1 reading metric, and the loader of SQuAD files.

The metric follows the official script. `contest_reading.py` holds the metric of the 2024 Ascend contest. Never mix the
numbers of the two metrics and never compare one with the other.
Source: Rajpurkar et al. 2016, evaluate-v1.1.py.
"""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from keeptune.errors import DataError
from keeptune.files import read_regular_bytes

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION_REMOVAL = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one prediction, from 0 to 1."""

    f1: float
    em: float


@dataclass(frozen=True, slots=True)
class Summary:
    """Mean scores of a set in percent, the number of questions, and the number of blank predictions."""

    f1_percent: float
    em_percent: float
    questions: int
    empty: int


def score_squad_v11(prediction: str, references: Sequence[str]) -> Scores:
    """Return the official SQuAD v1.1 scores, each the maximum over all references."""
    predicted = _normalize(prediction)
    expected = [_normalize(reference) for reference in references]
    return Scores(
        f1=max(_bag_f1(predicted.split(), text.split()) for text in expected),
        em=float(predicted in expected),
    )


def _normalize(text: str) -> str:
    """Lowercase a text and remove ASCII punctuation, articles and repeated spaces; other punctuation stays."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION_REMOVAL)).split())


def _bag_f1(predicted: list[str], expected: list[str]) -> float:
    """Return the F1 of two bags of words, or 0 if they share no word, even if both are empty."""
    return f1_from_counts((Counter(predicted) & Counter(expected)).total(), len(predicted), len(expected))


def f1_from_counts(shared: int, predicted: int, expected: int) -> float:
    """Return the F1 for the sizes of the overlap, the prediction and the reference."""
    if shared == 0:
        return 0.0
    precision, recall = shared / predicted, shared / expected
    return 2 * precision * recall / (precision + recall)


def summarize_scores(scores: Sequence[Scores], predictions: Sequence[str]) -> Summary:
    """Return the mean scores in percent, and the number of blank predictions, a common cause of low scores.

    Raises:
        DataError: If there are no scores, or the numbers of scores and predictions differ.
    """
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
    """A question on a passage. `paragraph` is unique in the file, so it identifies the passage."""

    article: str
    paragraph: int
    context: str
    question_id: str
    question: str
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SquadFile:
    """The answerable questions of a file in their order, and the ids of the skipped unanswerable ones (v2.0)."""

    items: list[ReadingItem]
    unanswerable_ids: tuple[str, ...] = ()

    @property
    def skipped_unanswerable(self) -> int:
        """The number of skipped questions."""
        return len(self.unanswerable_ids)

    def skipped_message(self) -> str:
        """The number of skipped questions and some of their ids; empty if there are none."""
        if not self.unanswerable_ids:
            return ""
        total = self.skipped_unanswerable + len(self.items)
        names = ", ".join(self.unanswerable_ids[:3]) + (", …" if self.skipped_unanswerable > 3 else "")
        return (
            f"skipped {self.skipped_unanswerable} of {total} questions as unanswerable ({names}), because neither "
            "metric can score them"
        )


def load_squad(path: Path) -> SquadFile:
    """Load and validate a file in the SQuAD v1.1 format.

    Unanswerable questions of a v2.0 file are skipped and counted, because neither metric can score them.

    Raises:
        DataError: If the file cannot be read or a field is invalid.
    """
    articles = _field(_load_json(path), "data", list, str(path))
    items: list[ReadingItem] = []
    paragraphs = 0
    unanswerable_ids: list[str] = []
    seen: set[str] = set()
    for article_number, article in enumerate(articles, start=1):
        title = _field(article, "title", str, f"{path}: article {article_number}")
        for number, paragraph in enumerate(_field(article, "paragraphs", list, f"{path}: article {title!r}"), start=1):
            where = f"{path}: article {title!r}, paragraph {number}"
            context = _field(paragraph, "context", str, where)
            for question_id, question, answers in _questions(paragraph, where):
                if question_id in seen:
                    raise DataError(f"{where}, question {question_id!r}: duplicate id; give each question a unique id")
                seen.add(question_id)
                if answers:
                    items.append(ReadingItem(title, paragraphs, context, question_id, question, answers))
                else:
                    unanswerable_ids.append(question_id)
            paragraphs += 1
    if not items:
        raise DataError(f"{path}: no answerable question; provide a file in the SQuAD v1.1 format")
    return SquadFile(items, tuple(unanswerable_ids))


def load_reading_items(source: str, limit: int = 0, inform: Callable[[str], None] | None = None) -> list[ReadingItem]:
    """Return the first `limit` questions (0: all) of a SQuAD file, or of the embedded reading set.

    Args:
        source: The path of a file, or "embedded".
        limit: The maximum number of questions; 0 means all.
        inform: Called with a line about skipped unanswerable questions, if there are any.

    Raises:
        DataError: If the file cannot be read.
    """
    if source != "embedded":
        loaded = load_squad(Path(source))
        items = loaded.items
        if inform and (message := loaded.skipped_message()):
            inform(f"{source}: {message}")
    else:
        with resources.as_file(resources.files("keeptune.grading") / "reading_set.json") as path:
            items = load_squad(path).items
    return items[:limit] if limit else items


def _questions(paragraph: object, where: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield the id, the question and the answers of each question; unanswerable questions have no answers."""
    for number, entry in enumerate(_field(paragraph, "qas", list, where), start=1):
        question_id = _field(entry, "id", str, f"{where}, question {number}")
        here = f"{where}, question {question_id!r}"
        question = _field(entry, "question", str, here)
        if entry.get("is_impossible") is True:
            yield question_id, question, ()
            continue
        answers = _field(entry, "answers", list, here)
        if not answers:
            raise DataError(f'{here}: no answer; add one, or mark the question "is_impossible": true')
        yield question_id, question, tuple(_field(answer, "text", str, f"{here}, answer") for answer in answers)


def _load_json(path: Path) -> object:
    try:
        return json.loads(read_regular_bytes(path).decode("utf-8-sig"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); provide a SQuAD file") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON ({error}); provide a file in the SQuAD v1.1 format") from error


def _field(container: object, name: str, kind: type, where: str) -> Any:
    """Return the named field of a JSON object: a list, or a nonblank string that can be encoded."""
    value = container.get(name) if isinstance(container, dict) else None
    if not isinstance(value, kind):
        expected = "a list" if kind is list else "a string"
        raise DataError(f"{where}: {name!r} must be {expected}, as in the SQuAD v1.1 format")
    if isinstance(value, str):
        if not value.strip():
            raise DataError(f"{where}: {name!r} is blank; fill it in or remove the entry")
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise DataError(f"{where}: {name!r} contains a lone surrogate; repair the text")
    return value
