"""A LoRA that MindFormers trained, as an adapter of PEFT's layout that keeptune scores, asks and trains on.

A MindFormers checkpoint holds the halves of every layer but not what they are multiplied by: alpha stands in the
configuration alone. A wrong one is as bad as a wrong prompt, and nothing would say so; so the configuration has to be
given, its rank has to be that of the tensors, and all tensors have to fit the model.
"""

from __future__ import annotations

from pathlib import Path

from peft import LoraConfig
from safetensors.torch import save_file
from torch import Tensor

from keeptune.errors import ModelError
from keeptune.files import new_folder
from keeptune.mindspore import ckpt
from keeptune.mindspore import tensor_names as names
from keeptune.mindspore.configuration import read
from keeptune.mindspore.tensors import restored
from keeptune.models import adapter_metadata, adapters
from keeptune.models import load as models
from keeptune.prompts.template import Prompt


def adopt(path: Path, configuration: Path, model: str, skill: str, prompt: Prompt, out: Path) -> None:
    """Writes the adapter in a MindFormers checkpoint into the folder `out`, which must not exist, with its prompt.

    errors: ModelError when the checkpoint, the configuration and the model do not fit together; RunError when `out`
    cannot be written.
    """
    halves = _halves(path)
    rank, alpha = _rank_and_alpha(configuration)
    ranks = {tensor.shape[0 if ".lora_A." in name else 1] for name, tensor in halves.items()}
    if ranks != {rank}:
        raise ModelError(
            f"{configuration}: lora_rank is {rank}, and the tensors of {path} have {', '.join(map(str, sorted(ranks)))}"
            "; give the configuration that it was trained with, for its lora_alpha would be another, too"
        )
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=sorted({name.split(".")[-3] for name in halves}),
        task_type="CAUSAL_LM",
        base_model_name_or_path=model,
        inference_mode=True,
    )
    with new_folder(out) as scratch:
        config.save_pretrained(str(scratch))
        save_file(halves, scratch / "adapter_model.safetensors", metadata={"format": "pt"})
        adapters.load_adapter(models.load_model(model), scratch)  # it refuses tensors that do not fit
        adapter_metadata.save(adapter_metadata.AdapterMetadata(model, skill, prompt, {}, scale=1.0), scratch)


def _halves(path: Path) -> dict[str, Tensor]:
    """The two halves of every LoRA layer under PEFT's names, in float32; base weights beside them are passed over."""
    stored = names.imported(ckpt.read(path))
    halves = {name: restored(own).float() for name, own in stored.items() if ".lora_" in name}
    if not halves:
        raise ModelError(f"{path}: it holds no LoRA tensor (mindpet_delta_lora_a, mindpet_delta_lora_b)")
    if flat := sorted(name for name, tensor in halves.items() if tensor.dim() != 2):
        raise ModelError(f"{path}: {flat[0]} is no matrix, so it is no half of a LoRA layer")
    return halves


def _rank_and_alpha(configuration: Path) -> tuple[int, int]:
    """The two numbers of the `pet_config` in a MindFormers configuration, wherever it stands there."""
    found = read(configuration)
    if found.pet_config is None:
        raise ModelError(f"{configuration}: it has no pet_config; give the file that the adapter was trained with")
    rank, alpha = (found.whole(f"{found.pet_config}.{key}") for key in ("lora_rank", "lora_alpha"))
    if rank is None or alpha is None:
        raise ModelError(f"{configuration}: pet_config needs lora_rank and lora_alpha, two integers above 0")
    return rank, alpha
