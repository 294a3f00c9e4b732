"""Exports an adapter as MindSpore checkpoints under MindFormers' tensor names, with configurations to train on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from peft.tuners.lora import LoraLayer
from peft.utils import get_peft_model_state_dict
from torch import Tensor

from keeptune.errors import ModelError
from keeptune.export.exporter import load_tuned, merge, stored_dtype
from keeptune.files import write_text
from keeptune.mindspore import ckpt
from keeptune.mindspore.continuation import write_continuation
from keeptune.mindspore.tensor_names import rename_to_mindformers, require_llama, target_pattern
from keeptune.mindspore.tensors import to_ckpt
from keeptune.models import adapter_metadata, load


def export(target: Path, adapter: Path, form: str, out: Path) -> None:
    """Writes adapter.ckpt, pet_config.yaml and the tokenizer into `out`, and the files of `form`.

    `mindspore` adds the merged checkpoint. `mindformers` adds the files to continue training; it needs the run
    directory as `target`.

    Raises:
        ModelError: when the base model is not a Llama, or MindFormers does not support the adapter's family.
    """
    card = adapter_metadata.load(adapter)
    require_llama(load.load_config(card.model))
    tuned, tokenizer = load_tuned(card, adapter), load.load_tokenizer(card.model)
    _write_lora(tuned, card.scale, out)
    if form == "mindformers":
        write_continuation(card, target, tuned, tokenizer, out)
    else:
        merged = merge(tuned, card, tokenizer).to(stored_dtype(card))
        ckpt.write(out / "merged.ckpt", (to_ckpt(name, tensor) for name, tensor in _merged_tensors(merged).items()))
    tokenizer.save_pretrained(out)


def _merged_tensors(merged: Any) -> dict[str, Tensor]:
    tensors = dict(merged.state_dict())
    if merged.config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    return rename_to_mindformers(tensors)


def _write_lora(tuned: Any, scale: float, folder: Path) -> None:
    """Writes the adapter's tensors, with the scale applied to the B matrices, and its `pet_config`.

    Raises:
        ModelError: when the adapter is not a plain LoRA of one rank on all layers.
    """
    config = tuned.peft_config["default"]
    is_plain = config.peft_type == "LORA" and not (config.use_dora or config.use_rslora or config.layers_to_transform)
    if not is_plain:
        raise ModelError(
            "MindFormers supports only plain LoRA on all layers; this adapter has another family or skips layers. "
            "Export it with `--to merged`"
        )
    state = get_peft_model_state_dict(tuned, save_embedding_layers=False)
    targets = _adapted_layers(state, tuned.config.num_hidden_layers)
    ranks = {tensor.shape[0] for name, tensor in state.items() if name.endswith("lora_A.weight")}
    if ranks != {config.r}:
        raise ModelError(
            f"the adapter has the ranks {', '.join(map(str, sorted(ranks)))} (rank_pattern), but MindFormers supports "
            "one rank; export it with `--to merged`"
        )
    factors = _scale_factors(tuned, scale * config.lora_alpha / config.r)
    scaled = {
        name: tensor * scale * factors[name.partition(".lora_B")[0]] if ".lora_B" in name else tensor
        for name, tensor in state.items()
    }
    tensors = rename_to_mindformers(scaled)
    ckpt.write(folder / "adapter.ckpt", (to_ckpt(name, tensor) for name, tensor in tensors.items()))
    write_text(folder / "pet_config.yaml", _pet_config(config, targets))


def _adapted_layers(state: Mapping[str, Tensor], layers: int) -> list[str]:
    """The names of the adapted linear layers, such as `q_proj`, whatever selected them: a list or an expression.

    Raises:
        ModelError: when a name is adapted in some layers of the model only.
    """
    modules = Counter(name.partition(".lora_A")[0].rpartition(".")[2] for name in state if ".lora_A" in name)
    if partial := sorted(name for name, count in modules.items() if count != layers):
        raise ModelError(
            f"target_modules: {', '.join(partial)} are adapted in some of the {layers} layers only, which MindFormers "
            "cannot express; export it with `--to merged`"
        )
    return sorted(modules)


def _scale_factors(tuned: Any, scaling: float) -> dict[str, float]:
    """The scaling of each adapted layer relative to `scaling`, by the name of the layer; not 1 with alpha_pattern."""
    factors = {}
    for name, module in tuned.named_modules():
        if isinstance(module, LoraLayer):
            factor = module.scaling["default"] / scaling if scaling else 1.0
            factors[name] = 1.0 if math.isclose(factor, 1.0) else factor
    return factors


def _pet_config(config: Any, targets: Sequence[str]) -> str:
    return (
        "# Put this under model.model_config of a MindFormers configuration. Use the same section to train, evaluate\n"
        "# and predict.\n"
        "pet_config:\n"
        "  pet_type: lora\n"
        f"  lora_rank: {config.r}\n"
        f"  lora_alpha: {config.lora_alpha}\n"
        f"  lora_dropout: {config.lora_dropout}\n"
        f"  target_modules: '{target_pattern(targets)}'\n"
    )
