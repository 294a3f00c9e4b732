"""A tuned model in the form that something else reads: one folder that is whole, or not there.

`adapter/` of a run already is what PEFT, transformers and vLLM load. Here the adapter is added to the base's weights,
or both are written as MindSpore checkpoints under MindFormers' names, with configurations to go on there.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoConfig

from keeptune.errors import ModelError
from keeptune.files import new_folder
from keeptune.models import adapter_metadata, adapters, backend
from keeptune.models import load as models
from keeptune.models.invocation import invocation_of
from keeptune.models.out_of_memory import explain_out_of_memory
from keeptune.models.quantization import dequantize
from keeptune.pipeline.evaluate_files import adapter_folder

Form = Literal["merged", "mindspore", "mindformers"]

CLOSE_LOGITS = 1e-3
"""How far logits of the merged model may be from those of base and adapter, relatively to the largest, in float32."""


@explain_out_of_memory("writing the model")
def export(target: str | Path, form: Form, out: Path) -> list[str]:
    """The names of the files written into the folder `out`, which must not exist.

    errors: ModelError when the target is no adapter or cannot be expressed; RunError when `out` cannot be written.
    """
    folder = adapter_folder(str(target))
    if folder is None:
        raise ModelError(f"{target}: there is no adapter to export; give a finished run or an adapter folder")
    with new_folder(out) as scratch:
        card = adapter_metadata.load(folder)
        if form == "merged":
            tokenizer = models.load_tokenizer(card.model)
            merge(load_tuned(card, folder), card, tokenizer).save_pretrained(scratch)
            tokenizer.save_pretrained(scratch)
        else:
            backend.mindspore().export(Path(target).expanduser(), folder, form, scratch)
        # What is written is whole, also where the base was kept in fewer bits.
        adapter_metadata.save(replace(card, quantization=None), scratch)
    return sorted(path.name for path in out.iterdir())


def load_tuned(card: adapter_metadata.AdapterMetadata, folder: Path) -> Any:
    """Base and adapter in float32, so that what is merged is rounded once. Of a base that was kept in fewer bits, the
    weights that it computed with: the adapter was taught, and judged, beside those."""
    if card.quantization is None:
        base = models.load_model(card.model, "float32")
    else:
        base = dequantize(models.load_model(card.model, card.dtype, card.quantization)).float()
    tuned = adapters.load_adapter(base, folder)
    if invocation_of(adapters.causal_model(tuned)):
        raise ModelError(
            f"{folder}: this adapter acts only behind its invocation, and merged weights act everywhere; give the "
            "adapter folder to PEFT, which knows activated LoRA"
        )
    adapters.set_scale(tuned, card.scale)
    return tuned


def merge(tuned: Any, card: adapter_metadata.AdapterMetadata, tokenizer: Any) -> Any:
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
