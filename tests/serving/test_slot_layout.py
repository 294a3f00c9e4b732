"""Slots of several models in one cache, against a list of slots that carries out the moves."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeptune.serving.slot_layout import Move, SlotLayout


class Slots:
    """A cache as a list of names; a move to a slot in use, or from the wrong one, fails."""

    def __init__(self, groups: int, size: int) -> None:
        self.layout = SlotLayout[str](groups)
        self.slots: list[str | None] = [None] * size
        self.groups = groups

    def carry_out(self, move: Move[str]) -> None:
        assert self.slots[move.source] == move.row
        assert self.slots[move.target] is None
        self.slots[move.source], self.slots[move.target] = None, move.row

    def add(self, group: int, names: list[str]) -> None:
        for move in self.layout.open(group, len(names)):
            self.carry_out(move)
        start = self.layout.first_slot(group) + len(self.layout.rows(group))
        assert self.slots[start : start + len(names)] == [None] * len(names)
        self.slots[start : start + len(names)] = names
        self.layout.append(group, names)

    def remove(self, group: int, name: str) -> None:
        self.slots[self.slots.index(name)] = None
        for move in self.layout.remove(group, name):
            self.carry_out(move)

    def check(self) -> None:
        rows = [name for group in range(self.groups) for name in self.layout.rows(group)]
        assert self.slots == [*rows, *[None] * (len(self.slots) - len(rows))]
        assert len(self.layout) == len(rows)


@given(st.integers(1, 4), st.integers(0, 2**32))
def test_rows_of_a_group_are_neighbors_whatever_comes_and_leaves(groups: int, seed: int) -> None:
    draw, slots, number = random.Random(seed), Slots(groups, 12), 0
    for _ in range(30):
        group = draw.randrange(groups)
        rows, free = slots.layout.rows(group), 12 - len(slots.layout)
        if free and (not rows or draw.random() < 0.5):
            names = [f"row {number + place}" for place in range(draw.randint(1, min(3, free)))]
            number += len(names)
            slots.add(group, names)
        elif rows:
            slots.remove(group, draw.choice(rows))
        slots.check()


@pytest.mark.parametrize("count", [1, 3])
def test_few_rows_move(count: int) -> None:
    slots = Slots(3, 40)
    slots.add(1, [f"b{place}" for place in range(10)])
    slots.add(2, [f"c{place}" for place in range(10)])
    assert len(list(slots.layout.open(0, count))) == 2 * count


def test_equal_rows_are_told_apart() -> None:
    layout = SlotLayout[list[int]](1)
    first, second = [1], [1]
    layout.append(0, [first, second])
    list(layout.remove(0, second))
    assert layout.rows(0)[0] is first
