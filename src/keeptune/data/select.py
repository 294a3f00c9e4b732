"""Which problems are taught: each once, and so many of each kind, whatever the order of the files.

Every choice follows from a hash of the problem's text and the seed. So a row's fate does not depend on which rows
stand beside it: more data, or files in another order, leave the choice as it was or extend it.
"""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from hashlib import blake2b
from heapq import nsmallest

from keeptune.errors import DataError, RecipeError
from keeptune.recipe import DataSection
from keeptune.skill.base import Question


@dataclass(frozen=True, slots=True)
class Candidate:
    """An understood row: its question, its stored solution and what is wrong with it, and where it stands."""

    question: Question
    solution: str
    fault: str | None
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen rows in random but fixed order, and what they were chosen from.

    `kept` counts rows and `unique` problems, by kind; `conflicts` counts the problems that came with several
    different solutions, of which one was taken.
    """

    rows: list[Candidate]
    kept: Counter[str]
    unique: Counter[str]
    conflicts: int


def digest(*parts: str) -> bytes:
    """A hash of texts in their order: 16 bytes of BLAKE2b. Of one text alone, it is what identifies a problem."""
    if len(parts) == 1:
        return blake2b(parts[0].encode(), digest_size=16).digest()
    return blake2b(b"".join(blake2b(part.encode(), digest_size=16).digest() for part in parts), digest_size=16).digest()


def wanted_kinds(section: DataSection, known: Sequence[str]) -> tuple[str, ...]:
    """The kinds that the recipe asks for, in the skill's order.

    errors: RecipeError listing every name of a kind that does not exist, with the nearest one that does.
    """
    named = {
        "kinds": section.kinds,
        "exclude": section.exclude,
        "quota": section.quota,
        "styles": section.styles.keys() - {"default"},
        "places": section.places.keys() - {"default"},
    }
    faults = [
        f"  - data.{key}: there is no kind {name!r}; {_nearest(name, known)}"
        for key, names in named.items()
        for name in sorted(set(names) - set(known))
    ]
    if faults:
        raise RecipeError("the recipe cannot be used:\n" + "\n".join(faults))
    wanted = tuple(kind for kind in known if kind in (section.kinds or known) and kind not in section.exclude)
    if not wanted:
        raise RecipeError("data.kinds and data.exclude leave no kind to teach; change one of them")
    return wanted


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"


def choose(
    candidates: Iterable[Candidate], kinds: Sequence[str], quota: Mapping[str, int], fraction: float, seed: int
) -> Choice:
    """The unique problems of `kinds`: a fraction of each kind, and no more than its quota where it has one.

    Of several solutions of one problem, one without fault is kept, and the one with the smaller hash of those.
    One pass; of a kind with a quota, no more than twice the quota is held.

    errors: DataError listing every kind that has fewer problems than its quota asks for.
    """
    pools = {kind: _Pool(limit=quota.get(kind)) for kind in kinds}
    others: dict[str, _Pool] = {}
    kept: Counter[str] = Counter()
    for candidate in candidates:
        kind = candidate.question.kind
        kept[kind] += 1
        pool = pools.get(kind) or others.setdefault(kind, _Pool(limit=0))
        pool.add(candidate, digest(str(seed), candidate.question.text))
    every = {**pools, **others}
    unique = Counter({kind: len(pool.solutions) for kind, pool in every.items()})
    available = {kind: math.ceil(unique[kind] * Fraction(str(fraction))) for kind in pools}
    _require(quota, available)
    taken = {kind: quota.get(kind, available[kind]) for kind in pools}
    chosen = {rank: pool.kept[rank] for kind, pool in pools.items() for rank in nsmallest(taken[kind], pool.kept)}
    return Choice(
        rows=[chosen[rank] for rank in sorted(chosen)],
        kept=kept,
        unique=unique,
        conflicts=sum(len(pool.conflicting) for pool in every.values()),
    )


@dataclass(slots=True)
class _Pool:
    """The unique problems of one kind: which were seen, and those that can still be chosen."""

    limit: int | None
    solutions: dict[bytes, bytes] = field(default_factory=dict)
    conflicting: set[bytes] = field(default_factory=set)
    kept: dict[bytes, Candidate] = field(default_factory=dict)

    def add(self, candidate: Candidate, rank: bytes) -> None:
        """Takes a row in. The rank of its problem decides whether it is chosen: the smallest are."""
        solution = digest(candidate.question.text, candidate.solution)
        first = self.solutions.setdefault(rank, solution)
        if first is solution:
            self.kept[rank] = candidate
            self._prune()
        elif first != solution:
            self.conflicting.add(rank)
            if rank in self.kept:
                self.kept[rank] = min(self.kept[rank], candidate, key=_preference)

    def _prune(self) -> None:
        if self.limit is not None and len(self.kept) > 2 * self.limit:
            self.kept = {rank: self.kept[rank] for rank in nsmallest(self.limit, self.kept)}


def _preference(candidate: Candidate) -> tuple[bool, bytes]:
    return candidate.fault is not None, digest(candidate.question.text, candidate.solution)


def _require(quota: Mapping[str, int], available: Mapping[str, int]) -> None:
    short = [
        f"  {kind}: {asked} asked, {available.get(kind, 0)} there"
        for kind, asked in quota.items()
        if asked > available.get(kind, 0)
    ]
    if short:
        listed = "\n".join(short)
        raise DataError(f"data.quota asks for more unique problems than there are:\n{listed}\nLower it, or add rows.")
