"""Imports a LoRA that MindFormers trained as a PEFT adapter.

A MindFormers checkpoint holds the matrices A and B of each layer but not alpha, which is only in the configuration. A
wrong alpha degrades the model without an error message. Therefore the configuration is required, its rank must match
the tensors, and all tensors must fit the model.
"""

from __future__ import annotations

from pathlib import Path

from peft import LoraConfig
from safetensors.torch import save_file
from torch import Tensor

from keeptune.errors import ModelError
from keeptune.files import new_folder
from keeptune.mindspore import ckpt
from keeptune.mindspore.configuration import load_configuration
from keeptune.mindspore.tensor_names import rename_from_mindformers
from keeptune.mindspore.tensors import to_torch
from keeptune.models import adapter_metadata, adapters
from keeptune.models import load as models
from keeptune.prompts.template import Prompt
from keeptune.run_files.directory import ADAPTER_WEIGHTS


def import_adapter(path: Path, configuration: Path, model: str, skill: str, prompt: Prompt, out: Path) -> None:
    """Writes the LoRA of a MindFormers checkpoint and its prompt to the new folder `out`, in PEFT's layout.

    Raises:
        ModelError: when checkpoint, configuration and model do not fit together.
        RunError: when `out` exists or cannot be written.
    """
    matrices = _lora_matrices(path)
    rank, alpha = _rank_and_alpha(configuration)
    ranks = {tensor.shape[0 if ".lora_A." in name else 1] for name, tensor in matrices.items()}
    if ranks != {rank}:
        raise ModelError(
            f"{configuration}: lora_rank is {rank}, but the tensors of {path} have {sorted(ranks)}; "
            "give the configuration that the adapter was trained with"
        )
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=sorted({name.split(".")[-3] for name in matrices}),
        task_type="CAUSAL_LM",
        base_model_name_or_path=model,
        inference_mode=True,
    )
    with new_folder(out) as scratch:
        config.save_pretrained(str(scratch))
        save_file(matrices, scratch / ADAPTER_WEIGHTS, metadata={"format": "pt"})
        adapters.load_adapter(models.load_model(model), scratch)  # raises if a tensor does not fit
        adapter_metadata.save(adapter_metadata.AdapterMetadata(model, skill, prompt, {}, scale=1.0), scratch)


def _lora_matrices(path: Path) -> dict[str, Tensor]:
    """The matrices A and B of each LoRA layer under PEFT's names, in float32. Base weights in the file are skipped."""
    stored = rename_from_mindformers(ckpt.read(path))
    matrices = {name: to_torch(tensor).float() for name, tensor in stored.items() if ".lora_" in name}
    if not matrices:
        raise ModelError(
            f"{path}: no LoRA tensor (mindpet_delta_lora_a, mindpet_delta_lora_b); give an adapter's checkpoint"
        )
    if invalid := sorted(name for name, tensor in matrices.items() if tensor.dim() != 2):
        raise ModelError(f"{path}: {invalid[0]} must be a matrix (got {matrices[invalid[0]].dim()} dims)")
    return matrices


def _rank_and_alpha(configuration: Path) -> tuple[int, int]:
    """`lora_rank` and `lora_alpha` of the `pet_config` section of a MindFormers configuration."""
    config = load_configuration(configuration)
    section = config.pet_config
    if section is None:
        raise ModelError(
            f"{configuration}: there is no pet_config; give the configuration that the adapter was trained with"
        )
    rank, alpha = (config.positive_integer(f"{section}.{key}") for key in ("lora_rank", "lora_alpha"))
    if rank is None or alpha is None:
        raise ModelError(f"{configuration}: {section} must have lora_rank and lora_alpha, both integers > 0")
    return rank, alpha
