"""Writes a whole model as one GGUF file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from gguf import GGML_QUANT_VERSION, GGMLQuantizationType, GGUFType, GGUFWriter, LlamaFileType, quants
from numpy.typing import NDArray
from torch import Tensor

from keeptune.errors import ModelError
from keeptune.export.gguf.architecture import (
    ROPE_FACTORS,
    TensorNames,
    add_hyperparameters,
    architecture_of,
    rope_factors,
)
from keeptune.export.gguf.vocabulary import add_vocabulary
from keeptune.models.load import end_tokens_of

GgufType = Literal["f16", "bf16", "q8_0", "q4_0", "q4_1"]
"""The number format of a file's matrices."""

_FORMATS: dict[GgufType, tuple[GGMLQuantizationType, LlamaFileType]] = {
    "f16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "bf16": (GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "q4_0": (GGMLQuantizationType.Q4_0, LlamaFileType.MOSTLY_Q4_0),
    "q4_1": (GGMLQuantizationType.Q4_1, LlamaFileType.MOSTLY_Q4_1),
}

_BLOCK = 32
"""Q8_0, Q4_0 and Q4_1 round blocks of 32 numbers of a row together."""

_EMBEDDINGS = ("token_embd.weight", "output.weight")
"""Embeddings and output layer lose most by 4 bits. They get 8 bits, as in llama.cpp's own 4-bit files."""

_LARGEST_F16 = 65504.0


@dataclass(frozen=True, slots=True)
class Labels:
    """What a file says about itself.

    Attributes:
        name: the name of the model.
        license: the license of its weights; empty if unknown.
        chat_templates: Jinja templates by name; `default` is the one that programs use.
        is_greedy: whether programs should choose the most probable token, as keeptune does.
    """

    name: str
    license: str
    chat_templates: dict[str, str]
    is_greedy: bool


def write_model(path: Path, model: Any, tokenizer: Any, gguf_type: GgufType, labels: Labels) -> None:
    """Writes a model with its tokenizer. Vectors, such as the weights of norms, are stored in float32.

    Raises:
        ModelError: if llama.cpp would compute other results than transformers, or a weight exceeds float16.
    """
    config = model.config
    names, (matrix_format, file_type) = TensorNames(config), _FORMATS[gguf_type]
    writer = GGUFWriter(path, architecture_of(config).name)
    writer.add_type(GGUFType.MODEL)
    writer.add_name(labels.name)
    writer.add_file_type(file_type)
    writer.add_quantization_version(GGML_QUANT_VERSION)
    if labels.license:
        writer.add_license(labels.license)
    if labels.is_greedy:
        writer.add_sampling_temp(0.0)
    add_hyperparameters(writer, config)
    add_vocabulary(writer, tokenizer, config.vocab_size, end_tokens_of(model, tokenizer))
    writer.add_chat_template([{"name": name, "template": text} for name, text in labels.chat_templates.items()])
    write_tensors(
        writer, [(name, tensor, _storage(name, tensor, matrix_format)) for name, tensor in _tensors(model, names)]
    )


def write_tensors(writer: GGUFWriter, tensors: list[tuple[str, Tensor, GGMLQuantizationType]]) -> None:
    """Writes header and tensors, and closes the file. Only one tensor at a time is converted in memory."""
    for name, tensor, storage in tensors:
        # The `gguf` package computes the shape of a quantized tensor from that of its bytes.
        shape = tuple(tensor.shape)
        if storage not in (GGMLQuantizationType.F32, GGMLQuantizationType.F16):
            shape = quants.quant_shape_to_byte_shape(shape, storage)
        dtype = {GGMLQuantizationType.F32: np.float32, GGMLQuantizationType.F16: np.float16}.get(storage, np.uint8)
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        writer.add_tensor_info(name, shape, np.dtype(dtype), size, raw_dtype=storage)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, tensor, storage in tensors:
            writer.write_tensor_data(_convert(name, tensor, storage))
    finally:
        writer.close()


def _tensors(model: Any, names: TensorNames) -> Iterator[tuple[str, Tensor]]:
    """All tensors of a model under GGUF's names. An output layer that is tied to the embeddings is left out."""
    embeddings = model.get_input_embeddings().weight
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and tensor.data_ptr() == embeddings.data_ptr():
            continue
        yield names.translate(name), names.reorder(name, tensor)
    if (factors := rope_factors(model)) is not None:
        yield ROPE_FACTORS, factors


def _storage(name: str, tensor: Tensor, matrix_format: GGMLQuantizationType) -> GGMLQuantizationType:
    """The number format of a tensor: float32 for vectors, float16 where a row has no whole number of blocks."""
    if tensor.ndim < 2:
        return GGMLQuantizationType.F32
    if matrix_format in (GGMLQuantizationType.F16, GGMLQuantizationType.BF16):
        return matrix_format
    if tensor.shape[-1] % _BLOCK:
        return GGMLQuantizationType.F16
    return GGMLQuantizationType.Q8_0 if name in _EMBEDDINGS else matrix_format


def _convert(name: str, tensor: Tensor, storage: GGMLQuantizationType) -> NDArray[Any]:
    if storage == GGMLQuantizationType.F16 and float(tensor.abs().max()) > _LARGEST_F16:
        raise ModelError(f"{name}: exceeds the largest float16 number; export with `--gguf-type bf16`")
    converted: NDArray[Any] = quants.quantize(tensor.detach().float().cpu().contiguous().numpy(), storage)
    return converted
