"""Groups problems that have almost the same wording and the same numbers.

A model that was trained on a problem can answer its near-duplicates from memory, as if they were copies. Problems with
different numbers are never grouped, however similar their wording is.

Sources: Broder 1997, "On the resemblance and containment of documents" (shingles, MinHash); Leskovec, Rajaraman and
Ullman, "Mining of Massive Datasets", chapter 3 (banding).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rensa import RMinHash, RMinHashLSH

from keeptune.data.normalization import normalize
from keeptune.data.selection import digest

SHINGLE_WORDS = 3
"""Number of consecutive words, or Chinese characters, per shingle."""

HASHES = 256
"""Length of a MinHash signature, at four bytes per hash."""

RECALL = 0.99
"""The minimum share of pairs exactly at the threshold that become candidates. More similar pairs exceed it."""

COMPARED_DIRECTLY = 32
"""Groups of at most this many texts are compared pairwise, which misses no pair."""

_SEED = 0

# Number words also distinguish problems: three apples are not four apples.
_COUNTING = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion dozen "
    "half third quarter once twice thrice double triple 零 〇 一 二 两 三 四 五 六 七 八 九 十 百 千 万 亿 半"
)
_NUMBER_WORDS = frozenset(_COUNTING.split())
_BRACKETS = frozenset("()[]{}")


def group_near_duplicates(texts: Sequence[str], threshold: float) -> list[int]:
    """Return the group number of each text. A chain of near-duplicates joins the texts of a group.

    Two texts are near-duplicates if both conditions hold. They have the same numbers and operators in the same order.
    The Jaccard similarity of their shingles is at least `threshold` (above 0, at most 1). MinHash only proposes pairs;
    the exact similarity confirms them. Groups are numbered by the smallest digest of their texts, so the result does
    not depend on the order of the texts.
    """
    normalized = [normalize(text) for text in texts]
    unique = sorted(set(normalized), key=digest)
    buckets: dict[tuple[str, ...], list[int]] = {}
    for index, text in enumerate(unique):
        buckets.setdefault(_numbers_and_operators(text), []).append(index)
    components = _Components(len(unique))
    for bucket in buckets.values():
        _join_near_duplicates(bucket, unique, threshold, components)
    numbers = {first: number for number, first in enumerate(sorted(set(components.first)))}
    group_of = {text: numbers[first] for text, first in zip(unique, components.first, strict=True)}
    return [group_of[text] for text in normalized]


def group_representatives(texts: Sequence[str], groups: Sequence[int]) -> list[str]:
    """Return, for each text, the text of its group with the smallest digest. `split` uses it as the group's key."""
    representatives: dict[int, str] = {}
    for text, group in zip(texts, groups, strict=True):
        representatives[group] = min(representatives.get(group, text), text, key=digest)
    return [representatives[group] for group in groups]


class _Components:
    """Connected components. `first` has, for each member, the smallest member of its component."""

    def __init__(self, size: int) -> None:
        self.first = list(range(size))
        self._members = {index: [index] for index in range(size)}

    def join(self, one: int, other: int) -> None:
        target, absorbed = sorted((self.first[one], self.first[other]))
        if target != absorbed:
            for member in self._members[absorbed]:
                self.first[member] = target
            self._members[target] += self._members.pop(absorbed)


def _join_near_duplicates(
    bucket: Sequence[int], texts: Sequence[str], threshold: float, components: _Components
) -> None:
    """Join the near-duplicates in a bucket of texts with the same numbers. `bucket` has indices into `texts`."""
    if len(bucket) <= COMPARED_DIRECTLY:
        candidates: Iterable[Sequence[int]] = (bucket[:place] for place in range(len(bucket)))
    else:
        candidates = _propose_candidates([texts[index] for index in bucket], bucket, threshold)
    for index, earlier in zip(bucket, candidates, strict=True):
        shingles: set[str] | None = None
        for other in earlier:
            # If the two are already connected, comparing them cannot change the result.
            if components.first[index] != components.first[other]:
                shingles = shingles or _shingles(texts[index])
                if _jaccard(shingles, _shingles(texts[other])) >= threshold:
                    components.join(index, other)


def _propose_candidates(texts: Sequence[str], keys: Sequence[int], threshold: float) -> Iterable[Sequence[int]]:
    """Yield, for each text, the keys of earlier texts that are probably similar.

    Only one signature per text is kept in memory, no shingles.
    """
    index = RMinHashLSH(threshold, HASHES, HASHES // _hashes_per_band(threshold))
    for key, text in zip(keys, texts, strict=True):
        signature = RMinHash(HASHES, _SEED)
        signature.update(list(_shingles(text)))
        yield index.query(signature)
        index.insert(key, signature)


def _hashes_per_band(threshold: float) -> int:
    """Return the largest band size that reaches `RECALL`. Longer bands propose fewer false pairs."""
    sizes = (size for size in (64, 32, 16, 8, 4, 2) if 1 - (1 - threshold**size) ** (HASHES // size) >= RECALL)
    return next(sizes, 1)


def _numbers_and_operators(text: str) -> tuple[str, ...]:
    """Return the numbers and operators of a normalized text in order."""
    return tuple(
        token for token in text.split() if token in _NUMBER_WORDS or not (token.isalpha() or token in _BRACKETS)
    )


def _shingles(text: str) -> set[str]:
    words = text.split()
    return {" ".join(words[start : start + SHINGLE_WORDS]) for start in range(max(1, len(words) - SHINGLE_WORDS + 1))}


def _jaccard(one: set[str], other: set[str]) -> float:
    common = len(one & other)
    return common / (len(one) + len(other) - common)
