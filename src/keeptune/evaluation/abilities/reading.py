"""Abilities `reading-en` and `reading-zh`: few-shot questions on passages, scored by F1 and EM of SQuAD v1.1.

English follows the official script. Chinese has no spaces between words, so its F1 counts characters, and whole runs of
Latin letters and digits, as the CMRC 2018 script does. Its EM ignores punctuation.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache
from importlib import resources
from operator import itemgetter

from keeptune.evaluation.abilities.base import Ability, Progress, Subject, paired_measurement
from keeptune.evaluation.gate import Measurement
from keeptune.evaluation.suite.loader import DEV_EVERY, Language, Size, Split
from keeptune.files import Record
from keeptune.grading.chinese import HAN
from keeptune.grading.squad import ReadingItem, Scores, load_reading_items, load_squad, score_squad_v11
from keeptune.prompts.reading import MAX_NEW_TOKENS, first_line, is_answer_complete, question_text
from keeptune.prompts.template import encode_prompt

FILE_ZH = "reading-zh.json"
MAX_NEW_TOKENS_ZH = 28
"""Maximum number of new tokens of a Chinese answer: about two per character in English vocabularies."""

EVERY: dict[Language, dict[Size, int]] = {
    "en": {"quick": 6, "standard": 2, "full": 1},
    "zh": {"quick": 6, "standard": 3, "full": 1},
}
"""The suite uses every n-th passage, by language and size. Chinese passages have twice the tokens in most
vocabularies."""

_SEGMENT = re.compile(rf"[{HAN}]|[^\W{HAN}]+")

_WORKED_ZH = (
    "文章：青石镇的图书馆建于一九三四年，由木匠陈守义出资修建。馆里最初只有三百本书，都是镇上的人捐来的。"
    "后来屋顶漏雨，书被搬到小学的仓库里，直到新馆落成才搬回来。\n"
    "问题：图书馆是谁出资修建的？\n答案：陈守义\n问题：书为什么被搬到仓库里？\n答案：屋顶漏雨\n\n"
    "文章：刺猬白天睡在落叶堆里，傍晚才出来找吃的。它们最爱吃甲虫和蚯蚓，遇到危险时会缩成一个球。\n"
    "问题：刺猬什么时候出来找吃的？\n答案：傍晚\n\n"
)


def segments_zh(text: str) -> list[str]:
    """Splits text into single Chinese characters and whole other words, without punctuation.

    Full-width forms become ordinary ones, and letters become lower case.
    """
    return _SEGMENT.findall(unicodedata.normalize("NFKC", text).lower())


def squad_zh(prediction: str, references: Sequence[str]) -> Scores:
    """F1 over segments and exact match, each the best over all references."""
    predicted = segments_zh(prediction)
    expected = [segments_zh(reference) for reference in references]
    return Scores(max(_f1(predicted, segments) for segments in expected), float(predicted in expected))


def _f1(predicted: list[str], expected: list[str]) -> float:
    """2 · shared / (len(predicted) + len(expected)), with `shared` counted as a multiset."""
    shared = (Counter(predicted) & Counter(expected)).total()
    return 2 * shared / (len(predicted) + len(expected)) if shared else 0.0


class Reading(Ability):
    """Questions about passages in one language."""

    def __init__(self, language: Language) -> None:
        self.language: Language = language
        self.name = f"reading-{language}"
        self.is_in_quick_suite = language == "en"

    def items(self, split: Split, size: Size) -> list[ReadingItem]:
        items = [item for item in _load_items(self.language) if self._is_dev(item) == (split == "dev")]
        places = {paragraph: place for place, paragraph in enumerate(dict.fromkeys(item.paragraph for item in items))}
        return [item for item in items if places[item.paragraph] % EVERY[self.language][size] == 0]

    def item_fields(self, item: ReadingItem) -> Record:
        return {
            "id": item.question_id,
            "language": self.language,
            "cluster": f"{item.article}/{item.paragraph}",
            "question": item.question,
            "prompt": self._prompt(item),
            "references": list(item.answers),
        }

    def evaluate(
        self, subject: Subject, items: Sequence[ReadingItem], base: Sequence[Record] | None, progress: Progress
    ) -> list[Record]:
        tokenizer = subject.generator.tokenizer
        prompts = [encode_prompt(tokenizer, self._prompt(item)) for item in items]
        budget = MAX_NEW_TOKENS_ZH if self.language == "zh" else MAX_NEW_TOKENS
        answers = subject.generator.answer(prompts, [budget] * len(prompts), is_answer_complete, progress)
        return [
            {"output": answer.text, "stopped": answer.stopped, "output_tokens": answer.tokens} for answer in answers
        ]

    def grade_record(self, record: Record) -> Record:
        prediction = first_line(record["output"])
        metric = squad_zh if self.language == "zh" else score_squad_v11
        scores = metric(prediction, record["references"])
        return {"prediction": prediction, "f1": scores.f1, "em": scores.em}

    def measurements(self, base: Sequence[Record], tuned: Sequence[Record]) -> list[Measurement]:
        return [paired_measurement(name, base, tuned, itemgetter(name)) for name in ("f1", "em")]

    def _is_dev(self, item: ReadingItem) -> bool:
        """Whether an item is for checkpoint selection. English has no dev items: a run splits those of
        `score.retained`."""
        return self.language == "zh" and (item.paragraph + 1) % DEV_EVERY == 0

    def _prompt(self, item: ReadingItem) -> str:
        if self.language == "en":
            return question_text(item.context, item.question, "few-shot")
        return f"{_WORKED_ZH}文章：{item.context}\n问题：{item.question}\n答案："


@cache
def _load_items(language: Language) -> tuple[ReadingItem, ...]:
    if language == "en":
        return tuple(load_reading_items("embedded"))
    with resources.as_file(resources.files("keeptune.evaluation.suite") / FILE_ZH) as path:
        return tuple(load_squad(path).items)
