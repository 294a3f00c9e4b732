"""Reading metric of the 2024 Ascend contest, with the questions that the contest evaluated.

The contest's metric differs from the official SQuAD metric in five ways: it uses one reference per question, removes
other symbols, splits text into jieba segments, counts the longest contiguous run, and keeps articles. Never mix the
numbers of the two metrics and never compare one with the other.
Source: MindFormers, mindformers/core/metric/metric.py, class EmF1Metric.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from difflib import SequenceMatcher
from functools import cache
from typing import Any

from keeptune.grading.squad import ReadingItem, Scores, f1_from_counts

# EmF1Metric removes these and no others: the full stop, comma, quotes, brackets and percent sign of English stay.
# Its list names the two-character …… as well, which never equals one character, so … stays too.
_WITHOUT_CONTEST_SYMBOLS = str.maketrans("", "", "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
_CHINESE_OR_REST = re.compile(r"[\u4e00-\u9fa5]|[^\u4e00-\u9fa5]+")


def score_contest(prediction: str, reference: str) -> Scores:
    """The contest's scores of the first line of a prediction against one reference.

    Spaces are segments like any other, and what counts is the longest run of segments that stands unbroken in both
    texts, although the metric's own docstring speaks of a subsequence.
    """
    predicted = _contest(prediction.strip().split("\n", 1)[0])
    expected = _contest(reference)
    predicted_segments, expected_segments = _segments(predicted), _segments(expected)
    matcher = SequenceMatcher(None, predicted_segments, expected_segments, autojunk=False)
    run = matcher.find_longest_match().size
    f1 = f1_from_counts(run, len(predicted_segments), len(expected_segments))
    return Scores(f1, em=float(predicted == expected))


def _contest(text: str) -> str:
    """Lower case, stripped, then without the metric's symbols: a space before a removed `。` stays."""
    return text.lower().strip().translate(_WITHOUT_CONTEST_SYMBOLS)


def _segments(text: str) -> list[str]:
    """The segments of a text: every Chinese character alone, and what jieba makes of the rest."""
    segmenter = _segmenter()
    return [segment for run in _CHINESE_OR_REST.findall(text) for segment in segmenter.cut(run)]


@cache
def _segmenter() -> Any:
    """jieba with its default dictionary, loaded here and not by jieba: silently, and with no cache file.

    jieba would read that file with `marshal` from a name that any user of the machine can write to.
    """
    with warnings.catch_warnings():
        # Its sources hold invalid escapes, and it imports the deprecated pkg_resources.
        warnings.simplefilter("ignore")
        import jieba

        segmenter = jieba.Tokenizer()
        segmenter.FREQ, segmenter.total = segmenter.gen_pfdict(segmenter.get_dict_file())
        segmenter.initialized = True
    return segmenter


def select_contest_items(items: Sequence[ReadingItem]) -> list[ReadingItem]:
    """The first question of each paragraph with its first answer: the 2,067 that the contest asked of dev-v1.1."""
    first: dict[int, ReadingItem] = {}
    for item in items:
        first.setdefault(item.paragraph, item)
    return [
        ReadingItem(item.article, item.paragraph, item.context, item.question_id, item.question, item.answers[:1])
        for item in first.values()
    ]
