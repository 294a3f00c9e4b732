"""What the torch side hands to the MindSpore engine: numbers and names alone, for the two live in different Pythons.

Graphs are compiled for fixed shapes, so rows are padded to one of a few widths, and so many go through the model at
once as fill `tokens_per_batch` at that width. The gradient of a step is a sum over its tokens, so cutting batches this
way changes nothing but rounding.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int32]
FloatArray = NDArray[np.float32]

JOB, ROWS, BASE, STATE = "job.json", "rows.npz", "base.ckpt", "state.ckpt"

INVERSE_FREQUENCIES = "inverse_frequencies"
"""How fast each pair of a head turns with the position: a tensor beside the base's weights."""

MEANS = ("m.", "v.")
"""What the names of the optimiser's two means begin with."""

NARROWEST = 64


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a Llama."""

    layers: int
    heads: int
    groups: int
    head_size: int
    epsilon: float
    attention_scale: float
    tied: bool


@dataclass(frozen=True, slots=True)
class Optimiser:
    """Adam with float32 state: corrected for its start as torch's AdamW is, or not, as MindFormers' is not."""

    corrected: bool
    beta1: float
    beta2: float
    epsilon: float
    weight_decay: float
    clip_norm: float


@dataclass(frozen=True, slots=True)
class Job:
    """A training, but for its rows and weights. `adapted` maps the linear layers with LoRA to what LoRA+ multiplies the
    rate of their B by; `half` computes in bfloat16."""

    shape: Shape
    optimiser: Optimiser
    adapted: dict[str, float]
    lora_scale: float
    tokens_per_batch: int
    half: bool

    def write(self, folder: Path) -> None:
        """Puts the job into `folder`."""
        (folder / JOB).write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Job:
        """The job in `folder`."""
        given: dict[str, Any] = json.loads((folder / JOB).read_text(encoding="utf-8"))
        return cls(**{**given, "shape": Shape(**given["shape"]), "optimiser": Optimiser(**given["optimiser"])})


class Rows:
    """All rows as tokens, one behind the other, and which of them the model is trained to write."""

    def __init__(self, tokens: IntArray, labelled: NDArray[np.bool_], ends: NDArray[np.int64]) -> None:
        self.tokens, self.labelled, self.ends = tokens, labelled, ends

    @classmethod
    def of(cls, tokens: Sequence[Sequence[int]], labelled: Sequence[Sequence[bool]]) -> Rows:
        """The rows of a training."""
        ends = np.cumsum([len(row) for row in tokens])
        return cls(np.concatenate(tokens).astype(np.int32), np.concatenate(labelled).astype(np.bool_), ends)

    def write(self, folder: Path) -> None:
        """Puts the rows into `folder`."""
        np.savez(folder / ROWS, tokens=self.tokens, labelled=self.labelled, ends=self.ends)

    @classmethod
    def read(cls, folder: Path) -> Rows:
        """The rows in `folder`."""
        with np.load(folder / ROWS) as stored:
            return cls(stored["tokens"], stored["labelled"], stored["ends"])

    def row(self, index: int) -> tuple[IntArray, NDArray[np.bool_]]:
        """One row's tokens, and which of them are labelled."""
        part = slice(int(self.ends[index - 1]) if index else 0, int(self.ends[index]))
        return self.tokens[part], self.labelled[part]


class Pass(NamedTuple):
    """What goes through the model at once, padded to a fixed shape.

    `places` are where labelled tokens are predicted from, `owners` the row of each; behind them stands padding.
    shapes: ids (rows, tokens); places, labels, weights (rows · tokens,); owners (labelled,).
    """

    ids: IntArray
    places: IntArray
    labels: IntArray
    weights: FloatArray
    owners: list[int]


def width(longest: int) -> int:
    """The width that rows are padded to: 64, 128, 256 and so on. More of them would pad less, but on a processor every
    graph of a model with 30 layers takes 40 s to compile and keeps 5 GB."""
    return max(NARROWEST, 1 << (longest - 1).bit_length())


def passes(rows: Rows, batch: Sequence[int], tokens_per_batch: int, weight: float) -> Iterator[Pass]:
    """A batch cut into passes of one shape, in which every labelled token counts `weight`."""
    wide = width(max(len(rows.row(index)[0]) for index in batch))
    at_once = max(1, tokens_per_batch // wide)
    for start in range(0, len(batch), at_once):
        yield _pass(rows, batch[start : start + at_once], at_once, wide, weight)


def _pass(rows: Rows, some: Sequence[int], at_once: int, wide: int, weight: float) -> Pass:
    ids = np.zeros((at_once, wide), np.int32)
    places, labels = (np.zeros(at_once * wide, np.int32) for _ in range(2))
    weights = np.zeros(at_once * wide, np.float32)
    owners: list[int] = []
    for number, index in enumerate(some):
        tokens, labelled = rows.row(index)
        ids[number, : len(tokens)] = tokens
        (own,) = labelled.nonzero()
        into = slice(len(owners), len(owners) + len(own))
        # A token is predicted from the position before it.
        places[into], labels[into], weights[into] = number * wide + own - 1, tokens[own], weight
        owners += [index] * len(own)
    return Pass(ids, places, labels, weights, owners)
