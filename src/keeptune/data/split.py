"""Splits the selected problems into train, dev (for model selection) and test (for the final score).

A held-out problem must not be answerable from memory. So each problem is in one split only, and so are problems that
reveal each other's answer, such as 3 + 4 and 4 + 3. In the contest's data set, 99.7 % of all possible equations occur.
There, a split by rows would measure nothing, and even a split by problems leaves all neighbors of a held-out problem in
training. A split by range holds out all problems with a number between two bounds, so that no neighbor is trained on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Literal

from keeptune.data.normalization import extract_numbers, find_free_text_kinds
from keeptune.data.selection import digest
from keeptune.errors import DataError

SplitName = Literal["train", "dev", "test"]

SPLITS: tuple[SplitName, ...] = ("train", "dev", "test")

RANGE_COUNT = 50
"""The number of ranges per kind. Narrower ranges would leave near neighbors in training; wider ranges would remove more
problems from training than dev and test need."""

_HELD_OUT: tuple[SplitName, ...] = ("test", "dev")


def split(
    kinds: Sequence[str],
    group_keys: Sequence[str],
    dev: int,
    test: int,
    seed: int,
    by: Literal["problem", "range"] = "problem",
    texts: Sequence[str] = (),
    train_only: Container[str] = (),
) -> list[SplitName | None]:
    """Return the split of each problem, given its kind and the key of its duplicate group.

    Problems with the same group key get the same split. dev and test have the mix of kinds of the whole, by largest
    remainder. They can be slightly smaller than requested if a kind consists of indivisible groups, but never larger.
    The assignment depends only on hashes, not on the order of the problems.

    If `by` is "range" (which needs `texts`), whole ranges of numbers are held out in the kinds whose problems differ in
    their numbers only; free-text kinds are split by problem. None means that the problem is in a held-out range but dev
    and test are full, so it is in no split.

    Problems whose group key is in `train_only` are not held out.

    Raises:
        DataError: a kind would have no training problem left.
    """
    sizes = Counter(kinds)
    if dev + test > len(kinds) - len(sizes):
        raise DataError(
            f"data.split holds out {dev} + {test} of {len(kinds)} selected problems, but each of {len(sizes)} kinds "
            "needs at least one training problem; lower data.split, or select more rows"
        )
    held_out = apportion(dev + test, sizes, {kind: size - 1 for kind, size in sizes.items()})
    test_sizes = apportion(test, held_out, held_out)
    room: dict[str, dict[SplitName, int]] = {
        kind: {"test": test_sizes[kind], "dev": held_out[kind] - test_sizes[kind]} for kind in sizes
    }
    assignment = _Assignment(kinds, group_keys, room, train_only)
    if by == "range":
        _assign_by_range(assignment, texts, seed)
    else:
        assignment.fill(_shuffle(assignment.unassigned, seed))
    untrained = sizes.keys() - {kind for kind, name in zip(kinds, assignment.splits, strict=True) if name == "train"}
    if untrained:
        raise DataError(
            f"data.split.by = range leaves no training problem of {', '.join(sorted(untrained))}; lower data.split, "
            "select more rows, or split by problem"
        )
    return assignment.splits


def assign_ranges(texts: Sequence[str], range_count: int) -> list[int]:
    """Return the range number of each text, below `range_count`. All ranges have about the same number of texts.

    The ranges divide one number of the texts: among the positions that every text has (first number, second number, …),
    the one with the most distinct values. Texts with the same value are in the same range. If there is no such
    position, all texts are in range 0.
    """
    numbers = [extract_numbers(text) for text in texts]
    values = max(zip(*numbers, strict=False), key=lambda column: len(set(column)), default=None)
    if values is None:
        return [0] * len(texts)
    counts = Counter(values)
    range_of: dict[Decimal, int] = {}
    smaller = 0
    for value in sorted(counts):
        range_of[value] = smaller * range_count // len(texts)
        smaller += counts[value]
    return [range_of[value] for value in values]


class _Assignment:
    """The split of each problem, and the room left in dev and test per kind. Duplicate groups are assigned whole."""

    def __init__(
        self,
        kinds: Sequence[str],
        group_keys: Sequence[str],
        room: dict[str, dict[SplitName, int]],
        train_only: Container[str],
    ) -> None:
        self.kinds = kinds
        self.train_only = train_only
        self.group_keys = group_keys
        self.room = room
        self.splits: list[SplitName | None] = ["train"] * len(kinds)
        self.unassigned: dict[str, list[int]] = {}
        """The problems of each group that is still in train by default."""
        for index, key in enumerate(group_keys):
            self.unassigned.setdefault(key, []).append(index)

    def kinds_of(self, key: str) -> set[str]:
        return {self.kinds[index] for index in self.unassigned[key]}

    def fill(self, keys: Iterable[str]) -> None:
        """Assign each group to test or dev, whichever has room first. Groups that do not fit stay in train."""
        for key in keys:
            for name in _HELD_OUT:
                if self._fits(key, name):
                    self._assign(key, name)
                    break

    def hold_out(self, keys: Sequence[str], name: SplitName) -> None:
        """Remove groups from train: assign them to a split while it has room, and to no split afterwards."""
        for key in keys:
            self._assign(key, name if self._fits(key, name) else None)

    def _fits(self, key: str, name: SplitName) -> bool:
        if key in self.train_only:
            return False
        needed = Counter(self.kinds[index] for index in self.unassigned[key])
        return all(count <= self.room[kind][name] for kind, count in needed.items())

    def _assign(self, key: str, name: SplitName | None) -> None:
        for index in self.unassigned.pop(key):
            self.splits[index] = name
            if name is not None:
                self.room[self.kinds[index]][name] -= 1


def _assign_by_range(assignment: _Assignment, texts: Sequence[str], seed: int) -> None:
    """Hold out ranges of the kinds that differ in numbers only, and single groups of the free-text kinds."""
    kinds = assignment.kinds
    free_text = find_free_text_kinds(zip(kinds, texts, strict=True))
    for kind in sorted(set(kinds) - free_text):
        members = [index for index, other in enumerate(kinds) if other == kind]
        _hold_out_ranges(assignment, kind, members, [texts[index] for index in members], seed)
    shuffled = _shuffle(assignment.unassigned, seed)
    assignment.fill(key for key in shuffled if not assignment.kinds_of(key).isdisjoint(free_text))


def _hold_out_ranges(
    assignment: _Assignment, kind: str, members: Sequence[int], texts: Sequence[str], seed: int
) -> None:
    """Hold out whole ranges of a kind, with the duplicate groups of their problems, until test and dev are full."""
    room = assignment.room[kind]
    ranges: dict[int, list[int]] = {}
    for index, number in zip(members, assign_ranges(texts, RANGE_COUNT), strict=True):
        ranges.setdefault(number, []).append(index)
    order = sorted(ranges, key=lambda number: digest(str(seed), "range", kind, str(number)), reverse=True)
    for name in _HELD_OUT:
        keys: set[str] = set()
        while order and sum(len(assignment.unassigned[key]) for key in keys) < room[name]:
            keys |= {assignment.group_keys[index] for index in ranges[order.pop()]} & assignment.unassigned.keys()
        assignment.hold_out(_shuffle(keys, seed), name)


def _shuffle(keys: Iterable[str], seed: int) -> list[str]:
    return sorted(keys, key=lambda key: digest(str(seed), "split", key))


def apportion(total: int, sizes: Mapping[str, int], room: Mapping[str, int]) -> dict[str, int]:
    """Distribute `total` in proportion to `sizes` by largest remainder, with at most `room` for each name.

    The sum of `room` must be at least `total`.
    """
    assert total <= sum(room.values())
    whole = max(1, sum(sizes.values()))
    shares = {name: min(room[name], total * size // whole) for name, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda name: (-(total * sizes[name] % whole), name))
    missing = total - sum(shares.values())
    while missing:
        for name in by_remainder:
            if missing and shares[name] < room[name]:
                shares[name] += 1
                missing -= 1
    return shares
