"""The projection of an adapter is the minimum of its objective, and distinguishes skill rows from replayed rows."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from keeptune.errors import ModelError
from keeptune.models.adapters import causal_model, scaled
from keeptune.training import projection, replay
from keeptune.training.batches import TokenizedExample
from keeptune.training.forward import hidden_states
from keeptune.training.projection import project, project_down_matrix

WORDS = tiny.tokenizer()
SKILL = [row for row in tiny.examples(WORDS, 30) if len(row.tokens) < 120]
OTHER = [
    TokenizedExample(
        f"text {n}",
        replay.REPLAY_KIND,
        tuple(WORDS.encode("The bell of the village rang for a stranger. " * 3)),
        (True,) * 9,
    )
    for n in range(4)
]


def cost(
    change: torch.Tensor, before: torch.Tensor, skill: torch.Tensor, replayed: torch.Tensor, strength: float
) -> Any:
    """E‖(ΔW' − ΔW) s‖² + strength · E‖ΔW' g‖², from the moments."""
    moved = change - before
    return ((moved @ skill) * moved).sum() + strength * ((change @ replayed) * change).sum()


@given(st.integers(0, 1000), st.floats(0.01, 100))
def test_the_projection_is_the_minimum(seed: int, strength: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    down, up = torch.randn(3, 8, generator=generator).double(), torch.randn(6, 3, generator=generator).double()
    samples = [torch.randn(20, 8, generator=generator).double() for _ in range(2)]
    skill, replayed = (some.t() @ some / len(some) for some in samples)
    projected = project_down_matrix(down, skill, replayed, strength)
    minimum = cost(up @ projected, up @ down, skill, replayed, strength)
    for _ in range(5):
        neighbor = up @ (projected + 0.1 * torch.randn(3, 8, generator=generator).double())
        assert cost(neighbor, up @ down, skill, replayed, strength) > minimum * (1 - 1e-3)


def moved_by(model: Any, rows: list[TokenizedExample]) -> float:
    """The mean change of the last hidden states by the adapter."""
    tokens = [row.tokens for row in rows]
    on = hidden_states(causal_model(model), tokens)
    with scaled(model, 0.0):
        off = hidden_states(causal_model(model), tokens)
    return (on - off).norm(dim=-1).mean().item()


@torch.no_grad()
def test_the_change_on_other_text_shrinks_most(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {sort: moved_by(tiny.tune(tiny.load(model_folder)), rows) for sort, rows in rows_by_sort().items()}
    remaining, downs = [], []
    for room in (projection.MOMENT_BYTES, 1):
        monkeypatch.setattr(projection, "MOMENT_BYTES", room)
        tuned = tiny.tune(tiny.load(model_folder))
        project(tuned, [*SKILL, *OTHER], 5.0, 0)
        remaining.append({sort: moved_by(tuned, rows) / before[sort] for sort, rows in rows_by_sort().items()})
        downs.append([p.clone() for name, p in tuned.named_parameters() if "lora_A" in name])
    assert remaining[0]["other"] < 0.3
    assert remaining[0]["skill"] > 2 * remaining[0]["other"]
    assert all(torch.equal(one, other) for one, other in zip(*downs, strict=True)), "in parts as at once"


def rows_by_sort() -> dict[str, list[TokenizedExample]]:
    return {"skill": SKILL, "other": OTHER}


def test_missing_rows_and_other_adapters_raise(model_folder: Path) -> None:
    with pytest.raises(ModelError, match="set retain"):
        project(tiny.tune(tiny.load(model_folder)), SKILL, 1.0, 0)
    with pytest.raises(ModelError, match="plain LoRA"):
        project(tiny.tune_as(tiny.load(model_folder), "dora"), [*SKILL, *OTHER], 1.0, 0)
