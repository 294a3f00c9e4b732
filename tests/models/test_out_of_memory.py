"""A failed memory allocation becomes a RunError; other errors stay unchanged."""

from pathlib import Path

import pytest
import torch

from keeptune.errors import RunError
from keeptune.models.out_of_memory import explain_out_of_memory


@explain_out_of_memory("writing a model")
def ask_for(values: int) -> torch.Tensor:
    return torch.empty(values)


def test_a_failed_allocation_names_the_activity() -> None:
    assert len(ask_for(3)) == 3
    with pytest.raises(RunError, match=r"writing a model.*plan"):
        ask_for(10**15)
    with pytest.raises(RunError, match="out of memory in sorting"), explain_out_of_memory("sorting"):
        bytearray(10**16)


def test_other_errors_stay_unchanged(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="shapes"), explain_out_of_memory("a product"):
        torch.zeros(2, 3) @ torch.zeros(4, 5)
    with pytest.raises(FileNotFoundError), explain_out_of_memory("reading"):
        (tmp_path / "none").read_text(encoding="utf-8")
