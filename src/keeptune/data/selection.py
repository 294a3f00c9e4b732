"""Which problems are taught: each once, and so many of each kind, whatever the order of the files.

Every choice follows from a hash of the problem's text and the seed. So a row's fate does not depend on which rows
stand beside it: more data, or files in another order, leave the choice as it was or extend it. The selection is one
pass over the rows that holds no more than it may still choose, and two passes over parts of the rows merge into the
pass over all of them: the same choice comes from one process, several, or a cluster.
"""

from __future__ import annotations

import difflib
import math
from bisect import bisect
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from hashlib import blake2b
from heapq import nsmallest
from typing import Any, NamedTuple

from keeptune.config.data import DataSection, SliceSection
from keeptune.errors import DataError, RecipeError
from keeptune.grading.chinese import HAN_CHARACTER
from keeptune.skills.base import Question


class Candidate(NamedTuple):
    """An understood row: its question, its stored solution and what is wrong with it, and where it stands."""

    question: Question
    solution: str
    fault: str | None
    file: str
    line: int


class Candidates(list[Candidate]):
    """Rows that go to another process column by column, which takes a third of the time of one object a row."""

    def __reduce__(self) -> tuple[Any, ...]:
        questions, *columns = zip(*self, strict=True) if self else ((), (), (), (), ())
        kinds, texts, truths = zip(*questions, strict=True) if self else ((), (), ())
        # A fraction would be sent as text.
        ratios = [truth.as_integer_ratio() if isinstance(truth, Fraction) else truth for truth in truths]
        return _received, (kinds, texts, ratios, *columns)


def _received(
    kinds: Iterable[str], texts: Iterable[str], ratios: Iterable[tuple[int, int] | str], *columns: Iterable[Any]
) -> Candidates:
    truths = (Fraction(*ratio) if isinstance(ratio, tuple) else ratio for ratio in ratios)
    questions = map(Question, kinds, texts, truths)
    return Candidates(map(Candidate, questions, *columns))


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen rows, each problem once, in random but fixed order; and how many training rows a kind shall be
    brought to by repeating its problems, for the kinds that have too few."""

    rows: list[Candidate]
    repeated: dict[str, int]


@dataclass(frozen=True, slots=True)
class Rules:
    """What decides the choice: the part of the recipe that `Selection` follows."""

    kinds: tuple[str, ...]
    seed: int
    quota: Mapping[str, int] = field(default_factory=dict)
    fraction: float = 1.0
    slices: tuple[SliceSection, ...] = ()
    max_repeats: int = 1

    @classmethod
    def of(cls, section: DataSection, kinds: tuple[str, ...], seed: int) -> Rules:
        """The rules of a recipe's data section, for these of its kinds."""
        return cls(kinds, seed, section.quota, section.fraction, section.slices, section.max_repeats)

    def most(self, kind: str) -> int | None:
        """The largest number of problems of a kind that is taken, or None where all are."""
        return self.quota.get(kind, self.quota.get("default"))


def digest(*parts: str) -> bytes:
    """A hash of texts in their order: 16 bytes of BLAKE2b. Of one text alone, it is what identifies a problem."""
    if len(parts) == 1:
        return blake2b(parts[0].encode(), digest_size=16).digest()
    return blake2b(b"".join(blake2b(part.encode(), digest_size=16).digest() for part in parts), digest_size=16).digest()


def wanted_kinds(section: DataSection, known: Sequence[str], opened: Collection[str] = frozenset()) -> tuple[str, ...]:
    """The kinds that the recipe asks for, in the skill's order; `opened` are those that train.truncate_targets names.

    errors: RecipeError listing every name of a kind that does not exist, with the nearest one that does.
    """
    named = {
        "data.kinds": section.kinds,
        "data.exclude": section.exclude,
        "data.quota": section.quota.keys() - {"default"},
        "data.styles": section.styles.keys() - {"default"},
        "data.rounding.decimals": section.rounding.decimals.keys() - {"default"},
        "data.rounding.significant_digits": section.rounding.significant_digits.keys() - {"default"},
        "data.teacher.kinds": section.teacher.kinds if section.teacher else (),
        "data.rounding.half": section.rounding.half.keys() - {"default"},
        "train.truncate_targets": opened,
    }
    faults = [
        f"  - {key}: there is no kind {name!r}; {_nearest(name, known)}"
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


class Selection:
    """The problems that can still be chosen, of the rows seen so far.

    Of a kind with a quota no more than twice the quota is held; of a fraction, about twice of it. Of several
    solutions of one problem, one without fault is kept, and the one with the smaller hash of those.
    """

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.pools: dict[str, _Pool] = {}
        self._seed = blake2b(str(rules.seed).encode(), digest_size=16).digest()

    def rank(self, problem: str) -> bytes:
        """The place of a problem in the order of choice: digest(seed, problem)."""
        return blake2b(self._seed + blake2b(problem.encode(), digest_size=16).digest(), digest_size=16).digest()

    def is_open(self, kind: str, rank: bytes) -> bool:
        """Whether a row of this kind and rank may be chosen still. Most may not once a quota has been seen twice, and
        need not be made a candidate."""
        if kind not in self.rules.kinds:
            return False
        pool = self.pools.get(kind)
        return pool is None or rank <= pool.largest

    def add(self, candidate: Candidate, rank: bytes) -> None:
        """Takes a row in; `rank` is that of its problem."""
        for name in self._pools_of(candidate):
            pool = self.pools.get(name)
            if pool is None:
                pool = self.pools[name] = self._pool(name)
            pool.add(candidate, rank)

    def merge(self, other: Selection) -> None:
        """Takes in what another pass with the same rules has seen."""
        for name, theirs in other.pools.items():
            mine = self.pools.setdefault(name, theirs)
            if mine is not theirs:
                for rank, candidate in theirs.kept.items():
                    mine.add(candidate, rank)

    def trim(self) -> None:
        """Lets go of what can no longer be chosen, before the selection is sent to another process."""
        for pool in self.pools.values():
            pool.prune()

    def choose(self, unique: Mapping[str, int]) -> Choice:
        """The choice, given how many different problems of each kind there are.

        errors: DataError listing every quota, or slice, that asks for more problems than there are.
        """
        rows, repeated = self._by_slice() if self.rules.slices else self._by_kind(unique)
        return Choice([rows[rank] for rank in sorted(rows)], repeated)

    def _pools_of(self, candidate: Candidate) -> Iterable[str]:
        kind = candidate.question.kind
        if kind not in self.rules.kinds:
            return ()
        if not self.rules.slices:
            return (kind,)
        return [str(number) for number, part in enumerate(self.rules.slices) if _inside(candidate, part)]

    def _pool(self, name: str) -> _Pool:
        if self.rules.slices:
            # A problem may be taken by an earlier slice, so a later one needs as many in reserve.
            return _Pool(sum(part.take for part in self.rules.slices[: int(name) + 1]))
        return _Pool(self.rules.most(name), self.rules.fraction)

    def _by_kind(self, unique: Mapping[str, int]) -> tuple[dict[bytes, Candidate], dict[str, int]]:
        share = Fraction(str(self.rules.fraction))
        available = {kind: math.ceil(unique.get(kind, 0) * share) for kind in self.rules.kinds}
        limit = self.rules.max_repeats
        _require({kind: asked for kind, asked in self.rules.quota.items() if kind != "default"}, available, limit)
        rows: dict[bytes, Candidate] = {}
        repeated = {}
        for kind in self.rules.kinds:
            wanted, there = self.rules.most(kind), available[kind]
            pool = self.pools.get(kind, _Pool(0))
            taken = there if wanted is None else min(wanted, there)
            rows |= {rank: pool.kept[rank] for rank in nsmallest(taken, pool.kept)}
            if wanted is not None and wanted > there and limit > 1:
                repeated[kind] = min(wanted, there * limit)
        return rows, repeated

    def _by_slice(self) -> tuple[dict[bytes, Candidate], dict[str, int]]:
        rows: dict[bytes, Candidate] = {}
        asked: dict[str, int] = {}
        available: dict[str, int] = {}
        for number, part in enumerate(self.rules.slices):
            kept = self.pools.get(str(number), _Pool(0)).kept
            free = sorted(kept.keys() - rows.keys())[: part.take]
            rows |= {rank: kept[rank] for rank in free}
            name = f"slice {number + 1}"
            asked[name], available[name] = part.take, len(free)
        _require(asked, available, 1)
        return rows, {}


SPARE = 1000
"""So many of the smallest ranks are held even where a fraction will ask for fewer."""


class _Pool:
    """The problems of one kind, or slice, that can still be chosen: those with the smallest ranks."""

    def __init__(self, limit: int | None, fraction: float = 1.0) -> None:
        self.limit = limit
        # Ranks are evenly spread, so of n problems a fraction f has its ranks below about f; below 2 f there are
        # fewer than f n only with a chance of less than e^-(f n / 4), and small kinds are held whole by SPARE.
        self.threshold = min(int(2 * fraction * 2**128), 2**128 - 1).to_bytes(16, "big")
        self.largest = b"\xff" * 16
        self.kept: dict[bytes, Candidate] = {}
        self._prune_at = 2 * limit if limit is not None else 4 * SPARE if fraction < 0.5 else None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "kept": (list(self.kept), Candidates(self.kept.values()))}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= {**state, "kept": dict(zip(*state["kept"], strict=True))}

    def add(self, candidate: Candidate, rank: bytes) -> None:
        """Takes a row in, unless so many with smaller ranks are there that it cannot be chosen."""
        if rank > self.largest:
            return
        first = self.kept.setdefault(rank, candidate)
        if first is not candidate:
            self.kept[rank] = _preferred(first, candidate)
        elif self._prune_at is not None and len(self.kept) > self._prune_at:
            self.prune()

    def prune(self) -> None:
        """Keeps only what can still be chosen."""
        if self._prune_at is None:
            return
        if self.limit is not None:
            ranks = nsmallest(self.limit, self.kept)
        else:
            ranks = sorted(self.kept)
            below = bisect(ranks, self.threshold)
            ranks = ranks[: max(below, SPARE)]
            self._prune_at = 2 * max(len(ranks), 2 * SPARE)
        self.kept = {rank: self.kept[rank] for rank in ranks}
        if self.limit is not None:
            self.largest = ranks[-1] if ranks else b""


def _inside(candidate: Candidate, part: SliceSection) -> bool:
    if part.rows is not None and not part.rows[0] <= candidate.line <= part.rows[1]:
        return False
    if part.language is None:
        return True
    return (part.language == "chinese") == bool(HAN_CHARACTER.search(candidate.question.text))


def _preferred(one: Candidate, other: Candidate) -> Candidate:
    """The better of two rows with the same problem; of equal ones the one that is named first."""
    if one.solution == other.solution:
        return min(one, other, key=_place)
    return min(one, other, key=_preference)


def _place(candidate: Candidate) -> tuple[str, int]:
    return candidate.file, candidate.line


def _preference(candidate: Candidate) -> tuple[bool, bytes]:
    return candidate.fault is not None, digest(candidate.question.text, candidate.solution)


def _require(quota: Mapping[str, int], available: Mapping[str, int], max_repeats: int) -> None:
    short = [
        f"  {name}: {asked} asked, {available.get(name, 0)} there"
        for name, asked in quota.items()
        if asked > available.get(name, 0) * max_repeats
    ]
    if short:
        listed = "\n".join(short)
        repeats = "" if max_repeats == 1 else f" (each used up to {max_repeats} times)"
        raise DataError(
            f"the recipe asks for more unique problems than there are{repeats}:\n{listed}\n"
            "Lower data.quota or data.slices, add rows, or raise data.max_repeats."
        )
