"""Every figure of docs/how-to/scale.md follows from the code that plans a training, or from results/data.json."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig

from keeptune.config.adapter import AdapterSection
from keeptune.models.activation_checkpointing import BYTES_PER_TRAINABLE_PARAMETER
from keeptune.models.activation_memory import ActivationMemory, estimate
from keeptune.pipeline.plan import count_parameters
from keeptune.training.batches import TokenizedExample

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "docs" / "how-to" / name for name in ("scale.md", "scale.zh.md")]
SHAPE = {"vocab_size": 128_256, "num_key_value_heads": 8, "tie_word_embeddings": False}
MODELS = {
    "8 B": LlamaConfig(
        **SHAPE, hidden_size=4096, intermediate_size=14_336, num_hidden_layers=32, num_attention_heads=32
    ),
    "70 B": LlamaConfig(
        **SHAPE, hidden_size=8192, intermediate_size=28_672, num_hidden_layers=80, num_attention_heads=64
    ),
}
ADAPTER = AdapterSection()
SPEED = 400e12
GATHER_BYTES_PER_SECOND = 300e9
CARDS = 8


def tables(page: Path) -> list[list[str]]:
    """The cells of all rows of tables."""
    lines = page.read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


def assert_rows(rows: list[list[str]]) -> None:
    """Both pages have these figures, each list in one row of a table."""
    for page in PAGES:
        cells = [row[1:] for row in tables(page)]
        for row in rows:
            assert row in cells, (page.name, row)


def embedding_bytes(config: Any) -> float:
    return 2.0 * 2 * config.vocab_size * config.hidden_size


def gigabytes(value: float) -> str:
    return f"{value / 1e9:.1f} GB"


@pytest.fixture(scope="module")
def memories() -> list[ActivationMemory]:
    cuda = torch.device("cuda")
    return [estimate(config, ADAPTER, torch.bfloat16, cuda) for config in MODELS.values()]


def test_memory_per_card(memories: list[ActivationMemory]) -> None:
    counts = [count_parameters(config, ADAPTER) for config in MODELS.values()]
    weights = [2 * count.total for count in counts]
    adapters = [BYTES_PER_TRAINABLE_PARAMETER * count.trainable for count in counts]
    recomputed = [memory.stored(8192, is_checkpointed=True) for memory in memories]
    embeddings = [embedding_bytes(config) for config in MODELS.values()]
    shares = [own + (whole - own) / CARDS for whole, own in zip(weights, embeddings, strict=True)]
    per_token = [(memory.stored(2048) - memory.stored(1024)) / 1024 for memory in memories]
    assert_rows(
        [
            list(map(gigabytes, weights)),
            [f"{value / 1e9:.2f} GB" for value in adapters],
            [f"{value / 1e6:.1f} MB" for value in per_token],
            [gigabytes(memory.stored(2048)) for memory in memories],
            list(map(gigabytes, recomputed)),
            [gigabytes(sum(parts)) for parts in zip(weights, adapters, recomputed, strict=True)],
            [gigabytes(sum(parts)) for parts in zip(shares, adapters, recomputed, strict=True)],
        ]
    )


def seconds_per_token(config: Any) -> float:
    """Four operations per parameter outside of the embedding, on one card."""
    parameters = count_parameters(config, ADAPTER).total - config.vocab_size * config.hidden_size
    return 4 * parameters / SPEED


def test_training_times() -> None:
    small, large = map(seconds_per_token, MODELS.values())
    layout = [(small, 1), (small, 8), (small, 64), (large, 8), (large, 64)]
    hours = [1e9 * seconds / cards / 3600 for seconds, cards in layout]
    units = [("h", "days"), ("小时", "天")]
    for page, (hour, day) in zip(PAGES, units, strict=True):
        cells = [row[1:] for row in tables(page)]
        assert [f"{value:.1f} {hour}" for value in hours] in cells
        assert [f"{100 * value / 24:.1f} {day}" for value in hours] in cells
        text = page.read_text(encoding="utf-8")
        assert f"{round(1 / small, -2):,.0f}" in text and f"{round(1 / large, -1):,.0f}" in text
        blocks = 2 * count_parameters(MODELS["70 B"], ADAPTER).total - embedding_bytes(MODELS["70 B"])
        assert f"2 × {blocks / 1e9:.0f} GB" in text
        assert f"{2 * blocks * (CARDS - 1) / CARDS / GATHER_BYTES_PER_SECOND:.1f} s" in text
        assert f"{512 * large:.1f} s" in text and f"{8192 * large:.1f} s" in text
        assert f"{4 * count_parameters(MODELS['8 B'], ADAPTER).trainable / 1e9:.2f} GB" in text


def test_rows() -> None:
    measured = json.loads((ROOT / "results" / "data.json").read_text(encoding="utf-8"))["large"]
    per_row = measured["seconds"] / measured["rows"]
    assert measured["peak_memory_bytes"] < 0.94e9 and round(measured["seconds"]) == 52
    tracemalloc.start()
    rows = [
        TokenizedExample(str(row), "a", tuple(1000 + row + place for place in range(100)), (False, True) * 50)
        for row in range(200)
    ]
    row_bytes = tracemalloc.get_traced_memory()[0] / len(rows)
    tracemalloc.stop()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        cells = [row[-1] for row in tables(page)]
        for count in (measured["rows"], 10_000_000, 1_000_000_000):
            sizes = [float(cell.removesuffix(" GB").replace(",", "")) for cell in cells if cell.endswith(" GB")]
            assert any(size == pytest.approx(row_bytes * count / 1e9, rel=0.1) for size in sizes), (page, count)
        assert f"{1e7 * per_row:.0f} " in text and f"{1e9 * per_row / 3600:.1f} " in text
        assert f"{1e9 * per_row / 32 / 60:.1f} " in text
