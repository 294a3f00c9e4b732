"""GGUF's hyperparameters and tensor names of a transformers model.

Sources: the GGUF specification (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), the `gguf` package, and
llama.cpp's convert_hf_to_gguf.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, GGUFWriter, RopeScalingType, get_tensor_name_map
from torch import Tensor

from keeptune.errors import ModelError
from keeptune.models.attention import head_size

ROPE_FACTORS = "rope_freqs.weight"
"""The tensor by whose entries llama.cpp divides the rotary frequencies of a Llama."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """How llama.cpp stores the models of one `model_type`.

    Attributes:
        id: the architecture in the `gguf` package.
        rotates_pairs: whether llama.cpp rotates neighboring dimensions of a head. transformers rotates its two halves.
        has_rope_factors: whether llama.cpp reads `ROPE_FACTORS` in this architecture.
    """

    id: MODEL_ARCH
    rotates_pairs: bool = False
    has_rope_factors: bool = False

    @property
    def name(self) -> str:
        """The value of `general.architecture`."""
        return str(MODEL_ARCH_NAMES[self.id])


_LLAMA = Architecture(MODEL_ARCH.LLAMA, rotates_pairs=True, has_rope_factors=True)

ARCHITECTURES: dict[str, Architecture] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": Architecture(MODEL_ARCH.QWEN2),
    "qwen3": Architecture(MODEL_ARCH.QWEN3),
}
"""The supported architectures by the `model_type` of config.json."""


def architecture_of(config: Any) -> Architecture:
    """The architecture of a model.

    Raises:
        ModelError: if llama.cpp would not compute what transformers computes, or keeptune does not know that it would.
    """
    architecture = ARCHITECTURES.get(config.model_type)
    if architecture is None:
        raise ModelError(
            f"model_type {config.model_type}: keeptune writes GGUF files of {', '.join(ARCHITECTURES)}; export with "
            "`--to merged` and convert that folder with llama.cpp's convert_hf_to_gguf.py"
        )
    rope = config.rope_parameters
    rope_types = ("default", "linear", "llama3") if architecture.has_rope_factors else ("default", "linear")
    for key, value, supported in (
        ("hidden_act", config.hidden_act, ("silu",)),
        ("rope_type", rope["rope_type"], rope_types),
        ("partial_rotary_factor", rope.get("partial_rotary_factor", 1), (1,)),
    ):
        if value not in supported:
            raise ModelError(
                f"{key} {value} of a {config.model_type} model is not supported in GGUF files, only "
                f"{', '.join(map(str, supported))}; export with `--to merged`"
            )
    return architecture


def context_length(config: Any) -> int:
    """The number of tokens up to which llama.cpp and transformers agree.

    llama.cpp attends to all tokens. Within the sliding window, transformers does so, too.
    """
    window = getattr(config, "sliding_window", None)
    return int(min(config.max_position_embeddings, window or config.max_position_embeddings))


def add_hyperparameters(writer: GGUFWriter, config: Any) -> None:
    """Adds the sizes of a model, and the settings of its norms and rotary embedding."""
    size, rope = head_size(config), config.rope_parameters
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(context_length(config))
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_rope_dimension_count(size)
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])


def rope_factors(model: Any) -> Tensor | None:
    """What llama.cpp divides the rotary frequencies by, of shape `(head size / 2,)`; None for plain frequencies."""
    rope, size = model.config.rope_parameters, head_size(model.config)
    if rope["rope_type"] != "llama3":
        return None
    used: Tensor = model.get_decoder().rotary_emb.inv_freq.float().cpu()
    exponents = torch.arange(0, size, 2, dtype=torch.float32) / size
    return float(rope["rope_theta"]) ** -exponents / used


class TensorNames:
    """Translates tensor names of one model from transformers to GGUF."""

    def __init__(self, config: Any) -> None:
        self._config = config
        self._architecture = architecture_of(config)
        self._names = get_tensor_name_map(self._architecture.id, config.num_hidden_layers)

    def translate(self, name: str) -> str:
        """GGUF's name of a tensor.

        Raises:
            ModelError: if llama.cpp has no such tensor in this architecture.
        """
        translated = self._names.get_name(name, try_suffixes=(".weight", ".bias"))
        if translated is None:
            raise ModelError(f"{name}: llama.cpp has no such tensor in a {self._architecture.name} model")
        return str(translated)

    def reorder(self, name: str, tensor: Tensor) -> Tensor:
        """The rows of a tensor in llama.cpp's order, which differs for queries and keys that it rotates in pairs.

        `tensor` has one row per output of the layer: a weight, a bias, or the matrix B of a LoRA.
        """
        if not self._architecture.rotates_pairs:
            return tensor
        if ".q_proj." in name:
            return _interleave_halves(tensor, self._config.num_attention_heads)
        return _interleave_halves(tensor, self._config.num_key_value_heads) if ".k_proj." in name else tensor


def _interleave_halves(tensor: Tensor, heads: int) -> Tensor:
    """Reorders the rows of each head from (first half, second half) to pairs of one row from each half."""
    rows = tensor.shape[0] // heads // 2
    return tensor.reshape(heads, 2, rows, *tensor.shape[1:]).swapaxes(1, 2).reshape(tensor.shape)
