"""Writes a LoRA adapter as a GGUF file, which llama.cpp adds to a GGUF file of the base (`--lora`).

llama.cpp adds alpha / rank · B A, with one alpha per file and the rank of each layer. The metadata follows llama.cpp's
convert_lora_to_gguf.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gguf import GGMLQuantizationType, GGUFType, GGUFValueType, GGUFWriter, Keys
from peft.tuners.lora import LoraLayer
from peft.utils import get_peft_model_state_dict

from keeptune.errors import ModelError
from keeptune.export.gguf.architecture import TensorNames, architecture_of
from keeptune.export.gguf.model_file import write_tensors
from keeptune.models.adapters import causal_model
from keeptune.models.invocation import invocation_of_config

_PREFIX = "base_model.model."
_PARTS = {".lora_A.weight": ".lora_a", ".lora_B.weight": ".lora_b"}


def write_adapter(path: Path, tuned: Any, name: str, license: str) -> None:
    """Writes the adapter of a PEFT model at its current scale, in float32, with its invocation tokens if it has some.

    Scalings that differ between layers are multiplied into their B matrices.

    Raises:
        ModelError: if the adapter is not a plain LoRA on layers that llama.cpp has.
    """
    config = causal_model(tuned).config
    scalings = _scalings(tuned)
    alpha = max((abs(scaling * rank) for scaling, rank in scalings.values()), default=0.0) or 1.0
    writer = GGUFWriter(path, architecture_of(config).name)
    writer.add_type(GGUFType.ADAPTER)
    writer.add_name(name)
    if license:
        writer.add_license(license)
    writer.add_string(Keys.Adapter.TYPE, "lora")
    writer.add_float32(Keys.Adapter.LORA_ALPHA, alpha)
    if invocation := invocation_of_config(tuned):
        writer.add_key_value(
            Keys.Adapter.ALORA_INVOCATION_TOKENS, invocation, GGUFValueType.ARRAY, GGUFValueType.UINT32
        )
    names, tensors = TensorNames(config), []
    for key, tensor in get_peft_model_state_dict(tuned, save_embedding_layers=False).items():
        layer, part = _split(key)
        matrix = tensor
        if part == ".lora_b":
            scaling, rank = scalings[layer]
            matrix = names.reorder(f"{layer}.weight", tensor) * (scaling * rank / alpha)
        translated = names.translate(f"{layer.removeprefix(_PREFIX)}.weight")
        tensors.append((f"{translated}{part}", matrix, GGMLQuantizationType.F32))
    write_tensors(writer, tensors)


def _scalings(tuned: Any) -> dict[str, tuple[float, int]]:
    """The scaling and the rank of each adapted layer, by the name of the layer.

    Raises:
        ModelError: if the adapter is not a plain LoRA.
    """
    config = tuned.peft_config["default"]
    if config.peft_type != "LORA" or config.use_dora:
        family = "dora" if getattr(config, "use_dora", False) else str(config.peft_type.value).lower()
        raise ModelError(
            f"llama.cpp adds adapters of the families lora, rslora and pissa, and this adapter is {family}; merge it "
            "with `--to gguf`"
        )
    return {
        name: (module.scaling["default"], module.r["default"])
        for name, module in tuned.named_modules()
        if isinstance(module, LoraLayer)
    }


def _split(key: str) -> tuple[str, str]:
    """The layer and GGUF's suffix of a tensor.

    Raises:
        ModelError: if the tensor is neither A nor B of a layer, such as a bias or a trained embedding.
    """
    for ending, part in _PARTS.items():
        if key.endswith(ending):
            return key.removesuffix(ending), part
    raise ModelError(f"{key}: a GGUF adapter holds only LoRA matrices; merge the adapter with `--to gguf`")
