"""Selects the problems to train on: each problem once, with a limit per kind, independently of the file order.

The selection depends only on a hash of the problem's text and the seed. So the other rows do not influence whether a
row is selected: more data, or files in another order, leave the selection as it was or extend it. A pass over the rows
keeps only those that may still be selected. Passes over parts of the rows can be merged. So one process, several
processes and a cluster select the same rows.
"""

from __future__ import annotations

import difflib
import math
from bisect import bisect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from hashlib import blake2b
from heapq import nsmallest
from typing import Any, Literal, NamedTuple

from keeptune.config.data import DataSection, SliceSection
from keeptune.errors import DataError, RecipeError
from keeptune.grading.chinese import HAN_CHARACTER
from keeptune.skills.base import Question


class Candidate(NamedTuple):
    """A row whose question was recognized: its stored solution, the fault in that solution, and its origin."""

    question: Question
    solution: str
    fault: str | None
    file: str
    line: int
    conversation: str | None = None
    """All turns and tools as JSON, if the row is more than a question and its answer."""


class CandidateBatch(list[Candidate]):
    """Candidates that are pickled column by column, which takes a third of the time of one object per row."""

    def __reduce__(self) -> tuple[Any, ...]:
        questions, *columns = zip(*self, strict=True) if self else ((), (), (), (), (), ())
        kinds, texts, truths = zip(*questions, strict=True) if self else ((), (), ())
        # Fraction pickles itself as text; a pair of integers is faster.
        ratios = [truth.as_integer_ratio() if isinstance(truth, Fraction) else truth for truth in truths]
        return _unpickle_batch, (kinds, texts, ratios, *columns)


def _unpickle_batch(
    kinds: Iterable[str], texts: Iterable[str], ratios: Iterable[tuple[int, int] | str], *columns: Iterable[Any]
) -> CandidateBatch:
    truths = (Fraction(*ratio) if isinstance(ratio, tuple) else ratio for ratio in ratios)
    questions = map(Question, kinds, texts, truths)
    return CandidateBatch(map(Candidate, questions, *columns))


@dataclass(frozen=True, slots=True)
class SelectedRows:
    """The selected rows, each problem once, in a random but reproducible order.

    `repeat_targets` has the number of training rows to reach by repetition, for the kinds with too few problems.
    """

    rows: list[Candidate]
    repeat_targets: dict[str, int]


@dataclass(frozen=True, slots=True)
class SelectionRules:
    """The settings of the recipe that determine the selection."""

    kinds: tuple[str, ...]
    seed: int
    quota: Mapping[str, int] = field(default_factory=dict)
    fraction: float = 1.0
    slices: tuple[SliceSection, ...] = ()
    max_repeats: int = 1
    conflicts: Literal["reject", "first", "all"] = "reject"
    kind_set: frozenset[str] = field(init=False, repr=False, compare=False)
    """The kinds again, because each row is looked up in them."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind_set", frozenset(self.kinds))

    @classmethod
    def from_section(cls, section: DataSection, kinds: tuple[str, ...], seed: int) -> SelectionRules:
        """Return the rules of a recipe's data section for the given kinds."""
        return cls(kinds, seed, section.quota, section.fraction, section.slices, section.max_repeats, section.conflicts)

    def quota_of(self, kind: str) -> int | None:
        """Return the maximum number of problems of a kind, or None if it is unlimited."""
        return self.quota.get(kind, self.quota.get("default"))


def digest(*parts: str) -> bytes:
    """Return a 16-byte BLAKE2b hash of texts in order. The digest of a single text identifies a problem."""
    if len(parts) == 1:
        return blake2b(parts[0].encode(), digest_size=16).digest()
    return blake2b(b"".join(blake2b(part.encode(), digest_size=16).digest() for part in parts), digest_size=16).digest()


def resolve_kinds(
    section: DataSection, known: Sequence[str], truncated_kinds: Collection[str] = frozenset()
) -> tuple[str, ...]:
    """Return the kinds to train on, in the skill's order.

    `truncated_kinds` are the kinds in train.truncate_targets; they are only checked.

    Raises:
        RecipeError: the recipe names an unknown kind, or excludes all kinds. The message lists every unknown name with
            the most similar known one.
    """
    names_by_key = {
        "data.kinds": section.kinds,
        "data.exclude": section.exclude,
        "data.slices.kinds": [kind for part in section.slices for kind in part.kinds],
        "data.quota": section.quota.keys() - {"default"},
        "data.styles": section.styles.keys() - {"default"},
        "data.rounding.decimals": section.rounding.decimals.keys() - {"default"},
        "data.rounding.significant_digits": section.rounding.significant_digits.keys() - {"default"},
        "data.teacher.kinds": section.teacher.kinds if section.teacher else (),
        "data.rounding.half": section.rounding.half.keys() - {"default"},
        "train.truncate_targets": truncated_kinds,
    }
    faults = [
        f"  - {key}: unknown kind {name!r}; {_suggest(name, known)}"
        for key, names in names_by_key.items()
        for name in sorted(set(names) - set(known))
    ]
    if faults:
        raise RecipeError("the recipe names unknown kinds:\n" + "\n".join(faults))
    chosen = set(section.kinds or known) - set(section.exclude)
    kinds = tuple(kind for kind in known if kind in chosen)
    if not kinds:
        raise RecipeError("data.kinds and data.exclude leave no kind to train on; change one of them")
    return kinds


def _suggest(name: str, known: Sequence[str]) -> str:
    matches = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {matches[0]}?" if matches else f"known kinds are {', '.join(known)}"


class Selection:
    """The problems that can still be selected among the rows seen so far.

    For a kind with a quota, at most twice the quota is kept in memory; with a fraction, about twice the fraction. If a
    problem has several solutions, one without a fault is preferred, and then the one with the smallest hash.
    """

    def __init__(self, rules: SelectionRules) -> None:
        self.rules = rules
        self.pools: dict[str, _Pool] = {}
        self._seed_hash = blake2b(str(rules.seed).encode(), digest_size=16).digest()

    def rank(self, problem: str) -> bytes:
        """Return digest(seed, problem). The problems with the smallest ranks are selected."""
        return blake2b(self._seed_hash + blake2b(problem.encode(), digest_size=16).digest(), digest_size=16).digest()

    def can_select(self, kind: str, rank: bytes) -> bool:
        """Return whether a row of this kind and rank may still be selected.

        After twice the quota has been seen, most rows cannot, so callers need not create a candidate for them.
        """
        if kind not in self.rules.kind_set:
            return False
        pool = self.pools.get(kind)
        return pool is None or rank <= pool.largest_rank

    def add(self, candidate: Candidate, rank: bytes) -> None:
        """Add a row; `rank` is the rank of its problem."""
        for name in self._pool_names(candidate):
            pool = self.pools.get(name)
            if pool is None:
                pool = self.pools[name] = self._create_pool(name)
            pool.add(candidate, rank)

    def merge(self, other: Selection) -> None:
        """Add the rows of another pass with the same rules."""
        for name, other_pool in other.pools.items():
            pool = self.pools.setdefault(name, other_pool)
            if pool is not other_pool:
                for rank, candidate in other_pool.candidates.items():
                    pool.add(candidate, rank)

    def prune(self) -> None:
        """Drop rows that can no longer be selected, before the selection is sent to another process."""
        for pool in self.pools.values():
            pool.prune()

    def select(self, distinct: Mapping[str, int]) -> SelectedRows:
        """Return the selected rows, given the number of distinct problems per kind.

        Raises:
            DataError: quotas or slices request more problems than there are. The message lists all of them.
        """
        rows, repeat_targets = self._select_by_slice() if self.rules.slices else self._select_by_kind(distinct)
        return SelectedRows([rows[rank] for rank in sorted(rows)], repeat_targets)

    def _pool_names(self, candidate: Candidate) -> Iterable[str]:
        kind = candidate.question.kind
        if kind not in self.rules.kind_set:
            return ()
        if not self.rules.slices:
            return (kind,)
        return [str(number) for number, part in enumerate(self.rules.slices) if _is_in_slice(candidate, part)]

    def _create_pool(self, name: str) -> _Pool:
        preference = _first_preference if self.rules.conflicts == "first" else _preference
        if self.rules.slices:
            # An earlier slice may take the same problem, so a later slice keeps as many in reserve.
            return _Pool(sum(part.take for part in self.rules.slices[: int(name) + 1]), preference=preference)
        return _Pool(self.rules.quota_of(name), self.rules.fraction, preference)

    def _select_by_kind(self, distinct: Mapping[str, int]) -> tuple[dict[bytes, Candidate], dict[str, int]]:
        share = Fraction(str(self.rules.fraction))
        available = {kind: math.ceil(distinct.get(kind, 0) * share) for kind in self.rules.kinds}
        limit = self.rules.max_repeats
        explicit_quota = {kind: count for kind, count in self.rules.quota.items() if kind != "default"}
        _require_available(explicit_quota, available, limit)
        rows: dict[bytes, Candidate] = {}
        repeat_targets = {}
        for kind in self.rules.kinds:
            quota = self.rules.quota_of(kind)
            pool = self.pools.get(kind, _Pool(0))
            count = available[kind] if quota is None else min(quota, available[kind])
            rows |= {rank: pool.candidates[rank] for rank in nsmallest(count, pool.candidates)}
            if quota is not None and quota > available[kind] and limit > 1:
                repeat_targets[kind] = min(quota, available[kind] * limit)
        return rows, repeat_targets

    def _select_by_slice(self) -> tuple[dict[bytes, Candidate], dict[str, int]]:
        rows: dict[bytes, Candidate] = {}
        requested: dict[str, int] = {}
        available: dict[str, int] = {}
        for number, part in enumerate(self.rules.slices):
            candidates = self.pools.get(str(number), _Pool(0)).candidates
            ranks = sorted(candidates.keys() - rows.keys())[: part.take]
            rows |= {rank: candidates[rank] for rank in ranks}
            name = f"slice {number + 1}"
            requested[name], available[name] = part.take, len(ranks)
        _require_available(requested, available, 1)
        return rows, {}


MIN_POOL_SIZE = 1000
"""At least this many of the smallest ranks are kept, even if a fraction will select fewer."""


class _Pool:
    """The problems of one kind or slice that can still be selected: those with the smallest ranks."""

    def __init__(
        self,
        limit: int | None,
        fraction: float = 1.0,
        preference: Callable[[Candidate], tuple[bool, Any]] | None = None,
    ) -> None:
        self.limit = limit
        self._preference = preference or _preference
        # Ranks are uniformly distributed. Of n problems, a fraction f has its ranks below about f. The probability that
        # fewer than f n ranks are below 2 f is less than e^-(f n / 4). MIN_POOL_SIZE covers small kinds.
        self.threshold = min(int(2 * fraction * 2**128), 2**128 - 1).to_bytes(16, "big")
        self.largest_rank = b"\xff" * 16
        self.candidates: dict[bytes, Candidate] = {}
        self._prune_at = 2 * limit if limit is not None else 4 * MIN_POOL_SIZE if fraction < 0.5 else None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "candidates": (list(self.candidates), CandidateBatch(self.candidates.values()))}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= {**state, "candidates": dict(zip(*state["candidates"], strict=True))}

    def add(self, candidate: Candidate, rank: bytes) -> None:
        """Add a row, unless enough rows with smaller ranks are present."""
        if rank > self.largest_rank:
            return
        present = self.candidates.setdefault(rank, candidate)
        if present is not candidate:
            self.candidates[rank] = _preferred(present, candidate, self._preference)
        elif self._prune_at is not None and len(self.candidates) > self._prune_at:
            self.prune()

    def prune(self) -> None:
        """Drop rows that can no longer be selected."""
        if self._prune_at is None:
            return
        if self.limit is not None:
            ranks = nsmallest(self.limit, self.candidates)
        else:
            ranks = sorted(self.candidates)
            below_threshold = bisect(ranks, self.threshold)
            ranks = ranks[: max(below_threshold, MIN_POOL_SIZE)]
            self._prune_at = 2 * max(len(ranks), 2 * MIN_POOL_SIZE)
        self.candidates = {rank: self.candidates[rank] for rank in ranks}
        if self.limit is not None:
            self.largest_rank = ranks[-1] if ranks else b""


def _is_in_slice(candidate: Candidate, part: SliceSection) -> bool:
    if part.rows is not None and not part.rows[0] <= candidate.line <= part.rows[1]:
        return False
    if part.kinds and candidate.question.kind not in part.kinds:
        return False
    if part.contains is not None and part.contains not in candidate.question.text:
        return False
    if part.language is None:
        return True
    return (part.language == "chinese") == bool(HAN_CHARACTER.search(candidate.question.text))


def _preferred(one: Candidate, other: Candidate, preference: Callable[[Candidate], tuple[bool, Any]]) -> Candidate:
    """Return the better of two rows with the same problem, or the one with the first origin if they are equal."""
    if one.solution == other.solution:
        return min(one, other, key=_origin)
    return min(one, other, key=preference)


def _origin(candidate: Candidate) -> tuple[str, int]:
    return candidate.file, candidate.line


def _preference(candidate: Candidate) -> tuple[bool, bytes]:
    return candidate.fault is not None, digest(candidate.question.text, candidate.solution)


def _first_preference(candidate: Candidate) -> tuple[bool, tuple[str, int]]:
    return candidate.fault is not None, _origin(candidate)


def _require_available(requested: Mapping[str, int], available: Mapping[str, int], max_repeats: int) -> None:
    shortages = [
        f"  {name}: {count} requested, {available.get(name, 0)} available"
        for name, count in requested.items()
        if count > available.get(name, 0) * max_repeats
    ]
    if shortages:
        listed = "\n".join(shortages)
        repeats = "" if max_repeats == 1 else f" (each used up to {max_repeats} times)"
        raise DataError(
            f"the recipe requests more unique problems than there are{repeats}:\n{listed}\n"
            "Lower data.quota or data.slices, add rows, or raise data.max_repeats."
        )
