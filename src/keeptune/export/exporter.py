"""Exports a tuned model for other programs: one merged model, or MindSpore checkpoints under MindFormers' names.

PEFT, transformers and vLLM load a run's `adapter/` folder without an export.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from keeptune.errors import ModelError
from keeptune.evaluation.model_pair import find_adapter
from keeptune.files import new_folder
from keeptune.models import adapter_metadata, adapters, backend, base_identity
from keeptune.models import load as models
from keeptune.models.invocation import invocation_of
from keeptune.models.out_of_memory import explain_out_of_memory
from keeptune.models.quantization import dequantize

Form = Literal["merged", "mindspore", "mindformers"]

CLOSE_LOGITS = 1e-3
"""The largest allowed difference of merged and unmerged logits, relative to the largest logit, in float32."""


@explain_out_of_memory("writing the model")
def export(target: str | Path, form: Form, out: Path) -> list[str]:
    """Writes an export into the new folder `out` and returns the names of its files.

    Raises:
        ModelError: when `target` has no adapter, or `form` cannot represent it.
        RunError: when `out` exists or cannot be written.
    """
    folder = find_adapter(str(target))
    if folder is None:
        raise ModelError(f"{target}: there is no adapter; give a finished run or an adapter folder")
    with new_folder(out) as scratch:
        card = adapter_metadata.load(folder)
        if form == "merged":
            tokenizer = models.load_tokenizer(card.model)
            merge(load_tuned(card, folder), card, tokenizer).save_pretrained(scratch)
            tokenizer.save_pretrained(scratch)
        else:
            backend.mindspore().export(Path(target).expanduser(), folder, form, scratch)
        # The exported weights are not quantized, also if the base was.
        adapter_metadata.save(replace(card, quantization=None), scratch)
    return sorted(path.name for path in out.iterdir())


def load_tuned(card: adapter_metadata.AdapterMetadata, folder: Path) -> Any:
    """Loads base and adapter in float32, so that merging rounds only once.

    A quantized base is dequantized, because the adapter was trained and evaluated with its rounded weights.

    Raises:
        ModelError: when the base is not the one that the adapter was trained on, or when the adapter acts only after
            its invocation tokens, which merged weights cannot represent.
    """
    base_identity.require_same(card.base, card.model, str(folder))
    if card.quantization is None:
        base = models.load_model(card.model, "float32")
    else:
        base = dequantize(models.load_model(card.model, card.dtype, card.quantization)).float()
    tuned = adapters.load_adapter(base, folder)
    if invocation_of(adapters.causal_model(tuned)):
        raise ModelError(
            f"{folder}: the adapter acts only after its invocation, but merged weights act always; load the adapter "
            "folder with PEFT, which supports activated LoRA"
        )
    adapters.set_scale(tuned, card.scale)
    return tuned


def merge(tuned: Any, card: adapter_metadata.AdapterMetadata, tokenizer: Any) -> Any:
    """Merges the adapter into the base, in the base's dtype.

    Raises:
        ModelError: when the merged logits differ from those of base and adapter.
    """
    tokens = torch.tensor([card.prompt.encode(tokenizer, "1 + 1 = ?")], device=tuned.device)
    with torch.no_grad():
        expected = tuned(input_ids=tokens).logits
        merged = tuned.merge_and_unload()
        difference = (merged(input_ids=tokens).logits - expected).abs().max() / expected.abs().max()
    if not difference <= CLOSE_LOGITS:
        raise ModelError(
            f"the merged model's logits differ from base and adapter by {difference:.1%}; use the adapter unmerged"
        )
    return merged.to(models.load_config(card.model).dtype or torch.float32)
