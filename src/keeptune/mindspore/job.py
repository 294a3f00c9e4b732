"""The files and batches that the torch process and the MindSpore engine share, as plain numbers and names.

The two run in different Pythons, so this module imports neither torch nor MindSpore.

MindSpore compiles one graph per shape. Rows are therefore padded to a few lengths, and each micro-batch holds as many
rows as `tokens_per_batch` allows at that length. A step's gradient is a sum over its tokens, so micro-batches change
only the rounding.
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

JOB_FILE, ROWS_FILE, BASE_FILE, STATE_FILE = "job.json", "rows.npz", "base.ckpt", "state.ckpt"

INVERSE_FREQUENCIES = "inverse_frequencies"
"""The name, beside the base's weights, of the tensor with the inverse frequencies of the rotary position embedding."""

MOMENT_PREFIXES = ("m.", "v.")
"""The prefixes of Adam's first and second moments in a checkpoint."""

MIN_PADDED_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Shape:
    """The dimensions of a Llama."""

    layers: int
    heads: int
    key_value_heads: int
    head_size: int
    epsilon: float
    attention_scale: float
    is_tied: bool


@dataclass(frozen=True, slots=True)
class Optimizer:
    """Adam with float32 state: with bias correction, as torch's AdamW, or without it, as MindFormers'."""

    has_bias_correction: bool
    beta1: float
    beta2: float
    epsilon: float
    weight_decay: float
    clip_norm: float


@dataclass(frozen=True, slots=True)
class Job:
    """A training without its rows and weights.

    `adapted` maps each linear layer with LoRA to the LoRA+ ratio, the factor on the learning rate of its matrix B.
    `is_half` selects bfloat16.
    """

    shape: Shape
    optimizer: Optimizer
    adapted: dict[str, float]
    lora_scale: float
    tokens_per_batch: int
    is_half: bool

    def write(self, folder: Path) -> None:
        """Writes the job into `folder`."""
        (folder / JOB_FILE).write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Job:
        """Reads the job in `folder`."""
        tree: dict[str, Any] = json.loads((folder / JOB_FILE).read_text(encoding="utf-8"))
        return cls(**{**tree, "shape": Shape(**tree["shape"]), "optimizer": Optimizer(**tree["optimizer"])})


class Rows:
    """The tokens of all rows, concatenated, the mask of tokens with loss, and the end offset of each row."""

    def __init__(self, tokens: IntArray, labelled: NDArray[np.bool_], ends: NDArray[np.int64]) -> None:
        self.tokens, self.labelled, self.ends = tokens, labelled, ends

    @classmethod
    def from_lists(cls, tokens: Sequence[Sequence[int]], labelled: Sequence[Sequence[bool]]) -> Rows:
        """Concatenates the rows of a training."""
        ends = np.cumsum([len(row) for row in tokens])
        return cls(np.concatenate(tokens).astype(np.int32), np.concatenate(labelled).astype(np.bool_), ends)

    def write(self, folder: Path) -> None:
        """Writes the rows into `folder`."""
        np.savez(folder / ROWS_FILE, tokens=self.tokens, labelled=self.labelled, ends=self.ends)

    @classmethod
    def read(cls, folder: Path) -> Rows:
        """Reads the rows in `folder`."""
        with np.load(folder / ROWS_FILE) as stored:
            return cls(stored["tokens"], stored["labelled"], stored["ends"])

    def row(self, index: int) -> tuple[IntArray, NDArray[np.bool_]]:
        """One row's tokens, and the mask of its tokens with loss."""
        part = slice(int(self.ends[index - 1]) if index else 0, int(self.ends[index]))
        return self.tokens[part], self.labelled[part]


class MicroBatch(NamedTuple):
    """Rows for one forward pass, padded to a fixed shape.

    `positions` are the flat positions that predict the labelled tokens; padding follows them. `row_indices` has the
    row of each labelled token.

    Shapes: `ids` (rows, tokens); `positions`, `labels`, `weights` (rows · tokens,); `row_indices` (labelled tokens,).
    """

    ids: IntArray
    positions: IntArray
    labels: IntArray
    weights: FloatArray
    row_indices: list[int]


def padded_tokens(longest: int) -> int:
    """The padded length of rows in tokens: 64, 128, 256, …

    More lengths would need less padding. But on a CPU, each graph of a 30-layer model compiles for 40 s and keeps 5 GB.
    """
    return max(MIN_PADDED_TOKENS, 1 << (longest - 1).bit_length())


def micro_batches(rows: Rows, batch: Sequence[int], tokens_per_batch: int, weight: float) -> Iterator[MicroBatch]:
    """Splits a batch into micro-batches of one shape, with the same loss weight for each labelled token."""
    length = padded_tokens(max(len(rows.row(index)[0]) for index in batch))
    size = max(1, tokens_per_batch // length)
    for start in range(0, len(batch), size):
        yield _micro_batch(rows, batch[start : start + size], (size, length), weight)


def _micro_batch(rows: Rows, indices: Sequence[int], shape: tuple[int, int], weight: float) -> MicroBatch:
    size, length = shape
    ids = np.zeros(shape, np.int32)
    positions, labels = (np.zeros(size * length, np.int32) for _ in range(2))
    weights = np.zeros(size * length, np.float32)
    row_indices: list[int] = []
    for number, index in enumerate(indices):
        tokens, labelled = rows.row(index)
        ids[number, : len(tokens)] = tokens
        (targets,) = labelled.nonzero()
        part = slice(len(row_indices), len(row_indices) + len(targets))
        # A token is predicted from the position before it.
        positions[part], labels[part], weights[part] = number * length + targets - 1, tokens[targets], weight
        row_indices += [index] * len(targets)
    return MicroBatch(ids, positions, labels, weights, row_indices)
