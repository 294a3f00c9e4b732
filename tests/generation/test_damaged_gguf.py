"""GGUF files that are cut or changed are refused by name."""

import struct
from pathlib import Path

import numpy as np
import pytest
from cpu_time import bounded_work
from gguf import GGUFReader, GGUFValueType, GGUFWriter

from keeptune.errors import ModelError
from keeptune.generation import llamacpp
from keeptune.generation.gguf_metadata import read_metadata


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_token_list(["a", "b"])
    writer.add_token_types([1, 1])
    writer.add_rope_freq_base(1e4)
    writer.add_add_bos_token(True)
    writer.add_chat_template("{{ messages }}")
    writer.add_tensor("weight", np.zeros((4, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_cut_file_is_refused_by_name(gguf: Path) -> None:
    """A file that ended within its metadata ended in an IndexError of the gguf library."""
    content = gguf.read_bytes()
    assert llamacpp._context_length(gguf) == 128
    for length in range(content.index(b"weight") - 8):  # the name of the tensor, after its length
        gguf.write_bytes(content[:length])
        with pytest.raises(ModelError, match="is no GGUF file of a model"):
            llamacpp._context_length(gguf)


def test_the_metadata_is_that_of_the_gguf_package(gguf: Path) -> None:
    fields = GGUFReader(gguf).fields.items()
    scalars = {name: field.contents() for name, field in fields if field.types[0] != GGUFValueType.ARRAY}
    expected = {name: value for name, value in scalars.items() if not name.startswith("GGUF.")}
    assert read_metadata(gguf) == expected and len(expected) > 3


@pytest.mark.parametrize("kind", [GGUFValueType.UINT8, GGUFValueType.STRING, GGUFValueType.ARRAY])
def test_a_wrong_length_of_an_array_is_refused(gguf: Path, kind: GGUFValueType) -> None:
    """The gguf library read 2^40 numbers behind the end of the file, until the memory was full."""
    content = gguf.read_bytes()
    name = b"tokenizer.ggml.tokens"
    place = content.index(name) + len(name) + 4
    gguf.write_bytes(content[:place] + struct.pack("<IQ", kind, 1 << 40) + content[place + 12 :])
    with bounded_work(), pytest.raises(ModelError, match="is no GGUF file of a model"):
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
