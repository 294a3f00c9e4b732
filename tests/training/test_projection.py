"""An adapter taken off what other text needs: the closed form is the least, and the rows are told apart."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from keeptune.errors import ModelError
from keeptune.models.adapter import causal_model, scaled
from keeptune.training import projection, replay
from keeptune.training.batches import Example
from keeptune.training.forward import hidden_states
from keeptune.training.projection import project, project_down_matrix

WORDS = tiny.tokenizer()
SKILL = [row for row in tiny.examples(WORDS, 30) if len(row.tokens) < 120]
OTHER = [
    Example(
        f"text {n}", replay.KIND, tuple(WORDS.encode("The bell of the village rang for a stranger. " * 3)), (True,) * 9
    )
    for n in range(4)
]


def cost(change: torch.Tensor, before: torch.Tensor, skill: torch.Tensor, kept: torch.Tensor, strength: float) -> Any:
    """E‖(ΔW' − ΔW) s‖² + strength · E‖ΔW' g‖², from the moments."""
    moved = change - before
    return ((moved @ skill) * moved).sum() + strength * ((change @ kept) * change).sum()


@given(st.integers(0, 1000), st.floats(0.01, 100))
def test_no_other_adapter_costs_less(seed: int, strength: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    down, up = torch.randn(3, 8, generator=draw).double(), torch.randn(6, 3, generator=draw).double()
    samples = [torch.randn(20, 8, generator=draw).double() for _ in range(2)]
    skill, kept = (some.t() @ some / len(some) for some in samples)
    made = project_down_matrix(down, skill, kept, strength)
    least = cost(up @ made, up @ down, skill, kept, strength)
    for _ in range(5):
        beside = up @ (made + 0.1 * torch.randn(3, 8, generator=draw).double())
        assert cost(beside, up @ down, skill, kept, strength) > least * (1 - 1e-3)


def moved_by(model: Any, rows: list[Example]) -> float:
    """How far the adapter moves the last states, on average."""
    tokens = [row.tokens for row in rows]
    on = hidden_states(causal_model(model), tokens)
    with scaled(model, 0.0):
        off = hidden_states(causal_model(model), tokens)
    return (on - off).norm(dim=-1).mean().item()


@torch.no_grad()
def test_what_it_does_to_other_text_shrinks_most(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {what: moved_by(tiny.tune(tiny.load(model_folder)), rows) for what, rows in rows_by_sort().items()}
    left, downs = [], []
    for room in (projection.MOMENT_BYTES, 1):
        monkeypatch.setattr(projection, "MOMENT_BYTES", room)
        tuned = tiny.tune(tiny.load(model_folder))
        project(tuned, [*SKILL, *OTHER], 5.0, 0)
        left.append({what: moved_by(tuned, rows) / before[what] for what, rows in rows_by_sort().items()})
        downs.append([p.clone() for name, p in tuned.named_parameters() if "lora_A" in name])
    assert left[0]["other"] < 0.3
    assert left[0]["skill"] > 2 * left[0]["other"]
    assert all(torch.equal(one, other) for one, other in zip(*downs, strict=True)), "in parts as at once"


def rows_by_sort() -> dict[str, list[Example]]:
    return {"skill": SKILL, "other": OTHER}


def test_it_needs_rows_of_both_sorts_and_a_plain_adapter(model_folder: Path) -> None:
    with pytest.raises(ModelError, match="replayed ones"):
        project(tiny.tune(tiny.load(model_folder)), SKILL, 1.0, 0)
    with pytest.raises(ModelError, match="plain LoRA"):
        project(tiny.tune_as(tiny.load(model_folder), "dora"), [*SKILL, *OTHER], 1.0, 0)
