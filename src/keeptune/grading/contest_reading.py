"""Reading metric of the 2024 Ascend contest, with the questions that the contest evaluated.

The contest's metric differs from the official SQuAD metric in five ways. It uses one reference per question, removes
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

# EmF1Metric removes exactly these symbols. The English full stop, comma, quotes, brackets and percent sign stay.
# Its list also has the two-character ……, which never equals a single character, so … stays too.
_SYMBOL_REMOVAL = str.maketrans("", "", "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
# The range of EmF1Metric ends at U+9FA5, before the end of the block.
_CHINESE_OR_REST = re.compile(r"[\u4e00-\u9fa5]|[^\u4e00-\u9fa5]+")


def score_contest(prediction: str, reference: str) -> Scores:
    """Return the contest's scores of the first line of a prediction against one reference.

    Spaces are segments like any other. The overlap is the longest contiguous run of segments in both texts, although
    the docstring of the original metric says subsequence.
    """
    predicted = _normalize(prediction.strip().split("\n", 1)[0])
    expected = _normalize(reference)
    predicted_segments, expected_segments = _segments(predicted), _segments(expected)
    matcher = SequenceMatcher(None, predicted_segments, expected_segments, autojunk=False)
    run = matcher.find_longest_match().size
    f1 = f1_from_counts(run, len(predicted_segments), len(expected_segments))
    return Scores(f1, em=float(predicted == expected))


def _normalize(text: str) -> str:
    """Lowercase and strip the text, then remove the symbols; a space before a removed `。` stays."""
    return text.lower().strip().translate(_SYMBOL_REMOVAL)


def _segments(text: str) -> list[str]:
    """Split a text into segments: each Chinese character, and the jieba segments of the rest."""
    segmenter = _segmenter()
    return [segment for run in _CHINESE_OR_REST.findall(text) for segment in segmenter.cut(run)]


@cache
def _segmenter() -> Any:
    """Return a jieba tokenizer with the default dictionary, loaded without log output and without a cache file.

    jieba itself would load a cache file with `marshal` from a path that any user of the machine can write to.
    """
    with warnings.catch_warnings():
        # The jieba sources contain invalid escapes and import the deprecated pkg_resources.
        warnings.simplefilter("ignore")
        import jieba

        segmenter = jieba.Tokenizer()
        segmenter.FREQ, segmenter.total = segmenter.gen_pfdict(segmenter.get_dict_file())
        segmenter.initialized = True
    return segmenter


def select_contest_items(items: Sequence[ReadingItem]) -> list[ReadingItem]:
    """Return the first question of each paragraph with its first answer: the contest's 2,067 questions of dev-v1.1."""
    first: dict[int, ReadingItem] = {}
    for item in items:
        first.setdefault(item.paragraph, item)
    return [
        ReadingItem(item.article, item.paragraph, item.context, item.question_id, item.question, item.answers[:1])
        for item in first.values()
    ]
