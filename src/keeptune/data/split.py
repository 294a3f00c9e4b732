"""Which chosen problems are held back for choices (dev) and for the one final score (test).

A held-back problem must not be answerable from memory: a problem is in one part only, and so are problems that give
each other away, such as 3 + 4 and 4 + 3. In the contest's set 99.7 % of all possible equations occur, so a split
by rows would measure nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from keeptune.data.select import digest
from keeptune.errors import DataError

Part = Literal["train", "dev", "test"]

PARTS: tuple[Part, ...] = ("train", "dev", "test")


def split(kinds: Sequence[str], twins: Sequence[str], dev: int, test: int, seed: int) -> list[Part]:
    """The part of each problem, given its kind and a text that it shares with the problems that give it away.

    dev and test have the mix of kinds of the whole, by largest remainder. They can come out a little smaller where
    a kind consists of groups that may not be parted, never larger. What goes where follows from hashes alone.

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
    groups: dict[str, list[int]] = {}
    for index, twin in enumerate(twins):
        groups.setdefault(twin, []).append(index)
    parts: list[Part] = ["train"] * len(kinds)
    room = {kind: {"test": tested[kind], "dev": held[kind] - tested[kind]} for kind in sizes}
    for twin in sorted(groups, key=lambda twin: digest(str(seed), "split", twin)):
        group = groups[twin]
        left = room[kinds[group[0]]]
        for part in ("test", "dev"):
            if len(group) <= left[part]:
                left[part] -= len(group)
                for index in group:
                    parts[index] = part
                break
    return parts


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
