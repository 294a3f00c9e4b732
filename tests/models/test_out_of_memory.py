"""A failed memory allocation becomes a RunError; other errors stay unchanged."""

from pathlib import Path

import pytest
import torch

from keeptune.errors import RunError
from keeptune.models.out_of_memory import explain_out_of_memory, is_out_of_memory


@explain_out_of_memory("writing a model")
def ask_for(values: int) -> torch.Tensor:
    return torch.empty(values)


def test_a_failed_allocation_names_the_activity() -> None:
    assert len(ask_for(3)) == 3
    with pytest.raises(RunError, match=r"writing a model.*plan"):
        ask_for(10**15)
    with pytest.raises(RunError, match="out of memory in sorting"), explain_out_of_memory("sorting"):
        bytearray(10**16)


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "NCCL error: unhandled cuda error. Last error: Cuda failure 2 'out of memory'",
        "CUDA out of memory. Tried to allocate 2.00 GiB",
    ],
)
def test_libraries_of_accelerators_run_out_of_memory_too(message: str) -> None:
    assert is_out_of_memory(RuntimeError(message))
    assert not is_out_of_memory(ValueError(message))
    assert not is_out_of_memory(RuntimeError("CUDA error: device-side assert triggered"))


def test_other_errors_stay_unchanged(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="shapes"), explain_out_of_memory("a product"):
        torch.zeros(2, 3) @ torch.zeros(4, 5)
    with pytest.raises(FileNotFoundError), explain_out_of_memory("reading"):
        (tmp_path / "none").read_text(encoding="utf-8")
