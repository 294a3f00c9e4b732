"""Exports an adapter as MindSpore checkpoints under MindFormers' tensor names, with configurations to train on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft.utils import get_peft_model_state_dict
from torch import Tensor

from keeptune.errors import ModelError
from keeptune.export.exporter import load_tuned, merge
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
        merged = merge(tuned, card, tokenizer)
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
        ModelError: when the adapter is not a plain LoRA on all layers.
    """
    config = tuned.peft_config["default"]
    is_plain = config.peft_type == "LORA" and not (config.use_dora or config.use_rslora or config.layers_to_transform)
    if not is_plain:
        raise ModelError(
            "MindFormers supports only plain LoRA on all layers; this adapter has another family or skips layers. "
            "Export it with `--to merged`"
        )
    tensors = rename_to_mindformers(get_peft_model_state_dict(tuned, save_embedding_layers=False))
    scaled = {name: tensor * scale if name.endswith("_b") else tensor for name, tensor in tensors.items()}
    ckpt.write(folder / "adapter.ckpt", (to_ckpt(name, tensor) for name, tensor in scaled.items()))
    write_text(folder / "pet_config.yaml", _pet_config(config))


def _pet_config(config: Any) -> str:
    return (
        "# Put this under model.model_config of a MindFormers configuration. Use the same section to train, evaluate\n"
        "# and predict.\n"
        "pet_config:\n"
        "  pet_type: lora\n"
        f"  lora_rank: {config.r}\n"
        f"  lora_alpha: {config.lora_alpha}\n"
        f"  lora_dropout: {config.lora_dropout}\n"
        f"  target_modules: '{target_pattern(sorted(config.target_modules))}'\n"
    )
