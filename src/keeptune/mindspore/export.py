"""An adapter as MindSpore checkpoints under MindFormers' tensor names, with the configurations to continue training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft.utils import get_peft_model_state_dict
from torch import Tensor
from transformers import AutoConfig

from keeptune.errors import ModelError
from keeptune.export.exporter import load_tuned, merge
from keeptune.files import write_text
from keeptune.mindspore import ckpt, continuation
from keeptune.mindspore import tensor_names as names
from keeptune.mindspore.tensors import stored
from keeptune.models import adapter_metadata, load


def export(target: Path, adapter: Path, form: str, out: Path) -> None:
    """Writes adapter.ckpt and pet_config.yaml into `out`; besides, for `mindspore`, the merged checkpoint, and for
    `mindformers`, all that training continues from, which needs the run directory `target`.

    Raises:
        ModelError: when the base is no Llama, or MindFormers does not know the adapter's family.
    """
    card = adapter_metadata.load(adapter)
    names.require_llama(AutoConfig.from_pretrained(load.resolve(card.model)))
    tuned, tokenizer = load_tuned(card, adapter), load.load_tokenizer(card.model)
    _write_lora(tuned, card.scale, out)
    if form == "mindformers":
        continuation.write(card, target, tuned, tokenizer, out)
    else:
        merged = merge(tuned, card, tokenizer)
        ckpt.write(out / "merged.ckpt", (stored(name, own) for name, own in _named(merged).items()))
    tokenizer.save_pretrained(out)


def _named(merged: Any) -> dict[str, Tensor]:
    tensors = dict(merged.state_dict())
    if merged.config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    return names.exported(tensors)


def _write_lora(tuned: Any, scale: float, folder: Path) -> None:
    """The adapter by itself, and the `pet_config` that it needs, where MindFormers knows the family."""
    config = tuned.peft_config["default"]
    is_plain = config.peft_type == "LORA" and not (config.use_dora or config.use_rslora or config.layers_to_transform)
    if not is_plain:
        raise ModelError(
            "MindFormers has plain LoRA on all layers only, and this adapter is of another family or on some layers; "
            "export it as `merged`"
        )
    tensors = names.exported(get_peft_model_state_dict(tuned, save_embedding_layers=False))
    halves = {name: own * scale if name.endswith("_b") else own for name, own in tensors.items()}
    ckpt.write(folder / "adapter.ckpt", (stored(name, own) for name, own in halves.items()))
    write_text(folder / "pet_config.yaml", _pet_config(config))


def _pet_config(config: Any) -> str:
    return (
        "# Belongs under model.model_config of a MindFormers configuration, the same to train, evaluate and predict.\n"
        "pet_config:\n"
        "  pet_type: lora\n"
        f"  lora_rank: {config.r}\n"
        f"  lora_alpha: {config.lora_alpha}\n"
        f"  lora_dropout: {config.lora_dropout}\n"
        f"  target_modules: '{names.target_pattern(sorted(config.target_modules))}'\n"
    )
