"""Which chosen problems are held back for choices (dev) and for the one final score (test).

A held-back problem must not be answerable from memory: a problem is in one part only, and so are problems that give
each other away, such as 3 + 4 and 4 + 3. In the contest's set 99.7 % of all possible equations occur, so a split
by rows would measure nothing, and even of a problem that was held back all neighbours are trained on. A split by range
holds back all problems with a number between two bounds, so that no neighbour is left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Literal

from keeptune.data.normalization import free_text_kinds, operands
from keeptune.data.selection import digest
from keeptune.errors import DataError

Part = Literal["train", "dev", "test"]

PARTS: tuple[Part, ...] = ("train", "dev", "test")

RANGES = 50
"""A kind's numbers are cut into so many ranges: narrower ones would leave near neighbours to train on, and of wider
ones more problems are lost to training than dev and test need."""

_HELD: tuple[Part, ...] = ("test", "dev")


def split(
    kinds: Sequence[str],
    twins: Sequence[str],
    dev: int,
    test: int,
    seed: int,
    by: Literal["problem", "range"] = "problem",
    texts: Sequence[str] = (),
) -> list[Part | None]:
    """The part of each problem, given its kind and a text that it shares with the problems that give it away.

    dev and test have the mix of kinds of the whole, by largest remainder. They can come out a little smaller where
    a kind consists of groups that may not be parted, never larger. What goes where follows from hashes alone.

    With `by` "range" (which asks for the `texts`), whole ranges of numbers are kept from training in the kinds whose
    problems differ in their numbers only; kinds in free text are split by problem. None stands for a problem of such a
    range that dev and test have no room for: it is in no part.

    errors: DataError when a kind would have no training problem left.
    """
    sizes = Counter(kinds)
    if dev + test > len(kinds) - len(sizes):
        raise DataError(
            f"data.split holds back {dev} + {test} of {len(kinds)} chosen problems, but each of {len(sizes)} kinds "
            "needs at least one to train on; lower data.split, or choose more rows"
        )
    held = apportion(dev + test, sizes, {kind: size - 1 for kind, size in sizes.items()})
    tested = apportion(test, held, held)
    places = _Places(kinds, twins, {kind: {"test": tested[kind], "dev": held[kind] - tested[kind]} for kind in sizes})
    if by == "range":
        free = free_text_kinds(zip(kinds, texts, strict=True))
        for kind in sorted(sizes.keys() - free):
            members = [index for index, other in enumerate(kinds) if other == kind]
            _hold_ranges(places, kind, members, [texts[index] for index in members], seed)
        places.fill(twin for twin in _shuffled(places.open, seed) if not places.kinds_of(twin).isdisjoint(free))
    else:
        places.fill(_shuffled(places.open, seed))
    untaught = sizes.keys() - {kind for kind, part in zip(kinds, places.parts, strict=True) if part == "train"}
    if untaught:
        raise DataError(
            f"data.split.by = range leaves no problem of {', '.join(sorted(untaught))} to train on; lower data.split, "
            "choose more rows, or split by problem"
        )
    return places.parts


def range_groups(texts: Sequence[str], ranges: int) -> list[int]:
    """The number of the range that each text is in, below `ranges`; a range holds about as many texts as another.

    Ranges are of the number with the most different values, of those numbers that every text has: the first, or the
    second, and so on. Texts with the same value are in the same range. Without any such number all are in one.
    """
    numbers = [operands(text) for text in texts]
    values = max(zip(*numbers, strict=False), key=lambda column: len(set(column)), default=None)
    if values is None:
        return [0] * len(texts)
    counts = Counter(values)
    group: dict[Decimal, int] = {}
    before = 0
    for value in sorted(counts):
        group[value] = before * ranges // len(texts)
        before += counts[value]
    return [group[value] for value in values]


class _Places:
    """Where each problem goes, and how much room is left in dev and test. Twins are placed together."""

    def __init__(self, kinds: Sequence[str], twins: Sequence[str], room: dict[str, dict[Part, int]]) -> None:
        self.kinds = kinds
        self.room = room
        self.parts: list[Part | None] = ["train"] * len(kinds)
        self.twins = twins
        self.open: dict[str, list[int]] = {}
        for index, twin in enumerate(twins):
            self.open.setdefault(twin, []).append(index)

    def kinds_of(self, twin: str) -> set[str]:
        return {self.kinds[index] for index in self.open[twin]}

    def fill(self, twins: Iterable[str]) -> None:
        """Puts twins, one after the other, into the first of test and dev that has room; the others stay."""
        for twin in twins:
            for part in _HELD:
                if self._fits(twin, part):
                    self._put(twin, part)
                    break

    def hold(self, twins: Sequence[str], part: Part) -> None:
        """Takes twins out of training, into a part as long as it has room."""
        for twin in twins:
            self._put(twin, part if self._fits(twin, part) else None)

    def _fits(self, twin: str, part: Part) -> bool:
        needed = Counter(self.kinds[index] for index in self.open[twin])
        return all(count <= self.room[kind][part] for kind, count in needed.items())

    def _put(self, twin: str, part: Part | None) -> None:
        for index in self.open.pop(twin):
            self.parts[index] = part
            if part is not None:
                self.room[self.kinds[index]][part] -= 1


def _hold_ranges(places: _Places, kind: str, members: Sequence[int], texts: Sequence[str], seed: int) -> None:
    """Holds back whole ranges of a kind, with all twins of what is in them, until test and dev are full."""
    wanted = places.room[kind]
    groups: dict[int, list[int]] = {}
    for index, group in zip(members, range_groups(texts, RANGES), strict=True):
        groups.setdefault(group, []).append(index)
    order = sorted(groups, key=lambda group: digest(str(seed), "range", kind, str(group)), reverse=True)
    for part in _HELD:
        held: set[str] = set()
        while order and sum(len(places.open[twin]) for twin in held) < wanted[part]:
            held |= {places.twins[index] for index in groups[order.pop()]} & places.open.keys()
        places.hold(_shuffled(held, seed), part)


def _shuffled(twins: Iterable[str], seed: int) -> list[str]:
    return sorted(twins, key=lambda twin: digest(str(seed), "split", twin))


def apportion(total: int, sizes: Mapping[str, int], room: Mapping[str, int]) -> dict[str, int]:
    """`total` distributed in proportion to `sizes` by largest remainder, to none more than its `room`.

    There must be room for all of it.
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
