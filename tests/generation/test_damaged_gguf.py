"""GGUF files that are cut or changed are refused by name."""

from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter

from keeptune.errors import ModelError
from keeptune.generation import llamacpp


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_token_list(["a", "b"])
    writer.add_tensor("weight", np.zeros((4, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_cut_file_is_refused_by_name(gguf: Path) -> None:
    """A file that ended within its header ended in an IndexError of the gguf library."""
    content = gguf.read_bytes()
    assert llamacpp._context_length(gguf) == 128
    for length in range(len(content)):
        gguf.write_bytes(content[:length])
        with pytest.raises(ModelError, match="is no GGUF file of a model"):
            llamacpp._context_length(gguf)


def test_a_changed_file_is_read_or_refused(gguf: Path) -> None:
    content = gguf.read_bytes()
    for place in range(len(content)):
        for byte in (0x00, 0x7F, 0xFF):
            gguf.write_bytes(content[:place] + bytes([byte]) + content[place + 1 :])
            try:
                llamacpp._context_length(gguf)
            except ModelError as error:
                assert "model.gguf" in str(error)
