"""Too little memory ends a command with one message; other errors stay what they are."""

from pathlib import Path

import pytest
import torch

from keeptune.errors import RunError
from keeptune.models.out_of_memory import memory_for


@memory_for("writing a model")
def ask_for(values: int) -> torch.Tensor:
    return torch.empty(values)


def test_an_allocation_that_fails_says_what_it_was_for() -> None:
    assert len(ask_for(3)) == 3
    with pytest.raises(RunError, match=r"out of memory in writing a model; .*keeptune plan"):
        ask_for(10**15)
    with pytest.raises(RunError, match="out of memory in sorting"), memory_for("sorting"):
        bytearray(10**16)


def test_other_errors_are_not_taken_for_it(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="shapes"), memory_for("a product"):
        torch.zeros(2, 3) @ torch.zeros(4, 5)
    with pytest.raises(FileNotFoundError), memory_for("reading"):
        (tmp_path / "none").read_text(encoding="utf-8")
