"""A tuned model in the form that something else reads: one folder that is whole, or not there.

`adapter/` of a run already is what PEFT, transformers and vLLM load. Here the adapter is added to the base's weights,
or both are written as MindSpore checkpoints under MindFormers' names, with configurations to go on there.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from peft.utils import get_peft_model_state_dict
from torch import Tensor
from transformers import AutoConfig

from keeptune import adapter_card
from keeptune.errors import ModelError
from keeptune.files import new_folder, write_text
from keeptune.held_out import adapter_folder
from keeptune.mindspore import ckpt, continuation, names
from keeptune.mindspore.tensors import stored
from keeptune.model import adapter as adapters
from keeptune.model import load as models
from keeptune.model.invocation import invocation_of
from keeptune.model.out_of_memory import memory_for
from keeptune.model.quantised import made_whole

Form = Literal["merged", "mindspore", "mindformers"]

CLOSE_LOGITS = 1e-3
"""How far logits of the merged model may be from those of base and adapter, relatively to the largest, in float32."""


@memory_for("writing the model")
def export(target: str, form: Form, out: Path) -> list[str]:
    """The names of the files written into the folder `out`, which must not exist.

    errors: ModelError when the target is no adapter or cannot be expressed; RunError when `out` cannot be written.
    """
    folder = adapter_folder(target)
    if folder is None:
        raise ModelError(f"{target}: there is no adapter to export; give a finished run or an adapter folder")
    with new_folder(out) as scratch:
        card = adapter_card.load(folder)
        if form != "merged":
            names.require_llama(AutoConfig.from_pretrained(models.resolve(card.model)))
        if form == "mindformers":
            _write_continuation(card, folder, Path(target).expanduser(), scratch)
        else:
            _write(card, folder, form, scratch)
        # What is written is whole, also where the base was kept in fewer bits.
        adapter_card.save(replace(card, quantization=None), scratch)
    return sorted(path.name for path in out.iterdir())


def _write(card: adapter_card.AdapterCard, folder: Path, form: Form, out: Path) -> None:
    tuned, tokenizer = _tuned(card, folder), models.load_tokenizer(card.model)
    if form == "mindspore":
        _write_lora(tuned, card.scale, out)
    merged = _merged(tuned, card, tokenizer)
    if form == "mindspore":
        ckpt.write(out / "merged.ckpt", (stored(name, own) for name, own in _named(merged).items()))
    else:
        merged.save_pretrained(out)
    tokenizer.save_pretrained(out)


def _write_continuation(card: adapter_card.AdapterCard, folder: Path, run: Path, out: Path) -> None:
    tuned, tokenizer = _tuned(card, folder), models.load_tokenizer(card.model)
    _write_lora(tuned, card.scale, out)
    continuation.write(card, run, tuned, tokenizer, out)
    tokenizer.save_pretrained(out)


def _tuned(card: adapter_card.AdapterCard, folder: Path) -> Any:
    """Base and adapter in float32, so that what is merged is rounded once. Of a base that was kept in fewer bits, the
    weights that it computed with: the adapter was taught, and judged, beside those."""
    if card.quantization is None:
        base = models.load_model(card.model, "float32")
    else:
        base = made_whole(models.load_model(card.model, card.dtype, card.quantization)).float()
    tuned = adapters.load_adapter(base, folder)
    if invocation_of(adapters.causal_model(tuned)):
        raise ModelError(
            f"{folder}: this adapter acts only behind its invocation, and merged weights act everywhere; give the "
            "adapter folder to PEFT, which knows activated LoRA"
        )
    adapters.set_scale(tuned, card.scale)
    return tuned


def _merged(tuned: Any, card: adapter_card.AdapterCard, tokenizer: Any) -> Any:
    """One model in the base's own format. errors: ModelError unless it answers like base and adapter together."""
    tokens = torch.tensor([card.prompt.encode(tokenizer, "1 + 1 = ?")], device=tuned.device)
    with torch.no_grad():
        apart = tuned(input_ids=tokens).logits
        merged = tuned.merge_and_unload()
        difference = (merged(input_ids=tokens).logits - apart).abs().max() / apart.abs().max()
    if not difference <= CLOSE_LOGITS:
        raise ModelError(
            f"the merged model differs from base and adapter by {difference:.1%}; use the adapter as it is"
        )
    return merged.to(AutoConfig.from_pretrained(models.resolve(card.model)).dtype or torch.float32)


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
