"""Which problems say the same in almost the same words.

Near-duplicates in free text give each other away as copies do: one of them learnt is the other one answered. Two
problems with other numbers are two problems, however alike their words are, so they are never put together here.

Sources: Broder 1997, "On the resemblance and containment of documents" (shingles, MinHash); Leskovec, Rajaraman and
Ullman, "Mining of Massive Datasets", chapter 3 (bands).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rensa import RMinHash, RMinHashLSH

from keeptune.data.normalization import normalised
from keeptune.data.selection import digest

SHINGLE_WORDS = 3
"""Words in a row, or Chinese characters, that are compared together."""

HASHES = 256
"""Length of a MinHash signature; it takes four bytes a hash."""

RECALL = 0.99
"""Of the pairs exactly at the threshold, at least this share must become candidates; of closer pairs more do."""

COMPARED_DIRECTLY = 32
"""So few texts are compared each with each, which misses none."""

_SEED = 0

# In words, too, a number makes the problem: three apples are not four.
_COUNTING = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion dozen "
    "half third quarter once twice thrice double triple 零 〇 一 二 两 三 四 五 六 七 八 九 十 百 千 万 亿 半"
)
_NUMBER_WORDS = frozenset(_COUNTING.split())
_BRACKETS = frozenset("()[]{}")


def near_groups(texts: Sequence[str], threshold: float) -> list[int]:
    """The group number of each text; texts of one group are joined by a chain of near-duplicates.

    Two texts are near-duplicates when their numbers and operators are the same in the same order, and the Jaccard
    similarity of their shingles is at least `threshold` (above 0, at most 1). MinHash only proposes pairs: each is
    confirmed by the exact similarity. Groups are numbered by the smallest digest in them, so neither the grouping nor
    its numbers depend on the order of the texts.
    """
    spellings = [normalised(text) for text in texts]
    unique = sorted(set(spellings), key=digest)
    buckets: dict[tuple[str, ...], list[int]] = {}
    for index, spelling in enumerate(unique):
        buckets.setdefault(_figures(spelling), []).append(index)
    components = _Components(len(unique))
    for bucket in buckets.values():
        _join(bucket, unique, threshold, components)
    number = {first: count for count, first in enumerate(sorted(set(components.first)))}
    group = {spelling: number[first] for spelling, first in zip(unique, components.first, strict=True)}
    return [group[spelling] for spelling in spellings]


def representatives(texts: Sequence[str], groups: Sequence[int]) -> list[str]:
    """For each text, the text of its group with the smallest digest: what stands for the group in `split`."""
    chosen: dict[int, str] = {}
    for text, group in zip(texts, groups, strict=True):
        chosen[group] = min(chosen.get(group, text), text, key=digest)
    return [chosen[group] for group in groups]


class _Components:
    """Groups that grow together; each member knows the first, which is the smallest, of its group."""

    def __init__(self, size: int) -> None:
        self.first = list(range(size))
        self._members = {index: [index] for index in range(size)}

    def join(self, one: int, other: int) -> None:
        kept, gone = sorted((self.first[one], self.first[other]))
        if kept != gone:
            for member in self._members[gone]:
                self.first[member] = kept
            self._members[kept] += self._members.pop(gone)


def _join(bucket: Sequence[int], spellings: Sequence[str], threshold: float, components: _Components) -> None:
    """Joins the near-duplicates of a bucket, whose texts have the same numbers."""
    if len(bucket) <= COMPARED_DIRECTLY:
        proposals: Iterable[Sequence[int]] = (bucket[:place] for place in range(len(bucket)))
    else:
        proposals = _candidates([spellings[index] for index in bucket], bucket, threshold)
    for index, earlier in zip(bucket, proposals, strict=True):
        shingles: set[str] | None = None
        for other in earlier:
            # Where a chain already joins the two, the outcome cannot change.
            if components.first[index] != components.first[other]:
                shingles = shingles or _shingles(spellings[index])
                if _jaccard(shingles, _shingles(spellings[other])) >= threshold:
                    components.join(index, other)


def _candidates(spellings: Sequence[str], keys: Sequence[int], threshold: float) -> Iterable[Sequence[int]]:
    """For each text, the keys of earlier ones that are probably near it. One signature is held a text, no shingle."""
    index = RMinHashLSH(threshold, HASHES, HASHES // _band_hashes(threshold))
    for key, spelling in zip(keys, spellings, strict=True):
        signature = RMinHash(HASHES, _SEED)
        signature.update(list(_shingles(spelling)))
        yield index.query(signature)
        index.insert(key, signature)


def _band_hashes(threshold: float) -> int:
    """How many hashes make a band: as many as the recall allows, since longer bands propose fewer pairs in vain."""
    sizes = (size for size in (64, 32, 16, 8, 4, 2) if 1 - (1 - threshold**size) ** (HASHES // size) >= RECALL)
    return next(sizes, 1)


def _figures(spelling: str) -> tuple[str, ...]:
    """The numbers and operators of a text, in their order."""
    return tuple(
        token for token in spelling.split() if token in _NUMBER_WORDS or not (token.isalpha() or token in _BRACKETS)
    )


def _shingles(spelling: str) -> set[str]:
    words = spelling.split()
    return {" ".join(words[start : start + SHINGLE_WORDS]) for start in range(max(1, len(words) - SHINGLE_WORDS + 1))}


def _jaccard(one: set[str], other: set[str]) -> float:
    common = len(one & other)
    return common / (len(one) + len(other) - common)
