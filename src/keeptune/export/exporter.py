"""Exports a tuned model for other programs: PEFT, transformers, vLLM, llama.cpp, Ollama, MindSpore and MindFormers.

PEFT also loads a run's `adapter/` folder without an export. The form `peft` adds the model card and the verdict.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import torch

from keeptune.errors import ModelError
from keeptune.evaluation.model_pair import find_adapter
from keeptune.export import ollama
from keeptune.export.gguf.adapter_file import write_adapter
from keeptune.export.gguf.model_file import GgufType, Labels, write_model
from keeptune.export.measurements import hub_datasets, read_measurements, recipe_of
from keeptune.export.peft_folder import write_peft_folder
from keeptune.export.readme import Exported, license_of, notes_of, render_readme
from keeptune.export.served_prompt import jinja_template
from keeptune.files import Record, file_sha256, new_folder, read_json, write_json, write_text
from keeptune.models import adapter_metadata, adapters, backend, base_identity
from keeptune.models import load as models
from keeptune.models.invocation import invocation_of
from keeptune.models.out_of_memory import explain_out_of_memory
from keeptune.models.quantization import dequantize
from keeptune.models.vllm_adapter import require_unquantized, vllm_config
from keeptune.run_files.artefact import EXPORT_FILE, Export
from keeptune.run_files.directory import ADAPTER_CONFIG, ADAPTER_WEIGHTS

Form = Literal["peft", "merged", "gguf", "gguf-lora", "ollama", "vllm", "mindspore", "mindformers"]

MODEL_FILE, ADAPTER_FILE, MODELFILE = "model.gguf", "adapter.gguf", "Modelfile"

_VLLM_REMEDY = "export with `--to merged`"

CLOSE_LOGITS = 1e-3
"""The largest allowed difference of merged and unmerged logits, relative to the largest logit, in float32."""


@explain_out_of_memory("writing the model")
def export(target: str | Path, form: Form, out: Path, gguf_type: GgufType = "f16") -> list[str]:
    """Writes an export into the new folder `out` and returns the names of its files.

    A `target` without an adapter can only be exported as `gguf`: llama.cpp adds adapters to such a file of the base.

    Raises:
        ModelError: when `target` has no adapter, or `form` cannot represent it.
        RunError: when `out` exists or cannot be written.
    """
    folder = find_adapter(str(target))
    if folder is None and form != "gguf":
        raise ModelError(f"{target}: there is no adapter; give a finished run or an adapter folder")
    with new_folder(out) as scratch:
        card = adapter_metadata.load(folder) if folder else adapter_metadata.load_if_present(str(target))
        model = card.model if card and folder else str(target)
        exported = Exported(str(target), form, model, license_of(model), card)
        if card and folder:
            exported = _with_evidence(exported, folder)
            _write_tuned(exported, card, folder, scratch, gguf_type)
        else:
            _write_gguf(exported, models.load_model(model, "float32"), scratch, gguf_type)
        if card:
            # The exported weights are not quantized by keeptune, also if the base was. vLLM's adapter has its scale.
            scale = 1.0 if form == "vllm" else card.scale
            quantization = card.quantization if form == "peft" else None
            adapter_metadata.save(replace(card, quantization=quantization, scale=scale), scratch)
        write_text(scratch / "README.md", render_readme(exported, scratch))
        write_json(scratch / EXPORT_FILE, _describe(exported, folder, scratch, gguf_type))
    return sorted(path.name for path in out.iterdir())


def _with_evidence(exported: Exported, folder: Path) -> Exported:
    """Adds what the model card of an adapter states."""
    target = Path(exported.target).expanduser()
    return replace(
        exported,
        measurements=read_measurements(target),
        family=str(read_json(folder / ADAPTER_CONFIG).get("peft_type") or ""),
        datasets=hub_datasets(recipe_of(target)),
        notes=notes_of(folder) if exported.form == "peft" else "",
    )


def _describe(exported: Exported, adapter: Path | None, out: Path, gguf_type: GgufType) -> Record:
    """The content of export.json for the files in `out`."""
    card = exported.card
    base = card.base if card else base_identity.identify(exported.model)
    return Export.checked(
        {
            "schema_version": 1,
            "keeptune": metadata.version("keeptune"),
            "form": exported.form,
            "gguf_type": gguf_type if exported.form in ("gguf", "ollama") else None,
            "target": exported.shown_target,
            "model": exported.model,
            "base": base.model_dump() if base else None,
            "adapter_sha256": file_sha256(adapter / ADAPTER_WEIGHTS) if adapter else None,
            "prompt_sha256": card.prompt.sha256 if card else None,
            "files": {
                path.relative_to(out).as_posix(): file_sha256(path) for path in sorted(out.rglob("*")) if path.is_file()
            },
        }
    )


def _write_tuned(
    exported: Exported, card: adapter_metadata.AdapterMetadata, folder: Path, out: Path, gguf_type: GgufType
) -> None:
    """Writes the files of one form.

    Raises:
        ModelError: when `form` cannot represent the adapter.
    """
    if exported.form in ("mindspore", "mindformers"):
        backend.mindspore().export(Path(exported.target).expanduser(), folder, exported.form, out)
        return
    if exported.form == "peft":
        write_peft_folder(exported, folder, out)
        return
    if exported.form == "vllm":
        base_identity.require_same(card.base, card.model, str(folder))
        require_unquantized(str(folder), card.quantization, _VLLM_REMEDY)
        write_json(out / ADAPTER_CONFIG, vllm_config(folder, card.scale, _VLLM_REMEDY))
        shutil.copyfile(folder / ADAPTER_WEIGHTS, out / ADAPTER_WEIGHTS)
        return
    if exported.form == "gguf-lora":
        if card.quantization:
            raise ModelError(
                f"{folder}: was trained on weights that were rounded to {card.quantization}, and a GGUF file of the "
                "base has others; export both in one file with `--to gguf`"
            )
        write_adapter(
            out / ADAPTER_FILE, load_tuned(card, folder, keeps_invocation=True), exported.name, exported.license
        )
        return
    tokenizer = models.load_tokenizer(card.model)
    merged = merge(load_tuned(card, folder), card, tokenizer)
    if exported.form == "merged":
        merged.to(stored_dtype(card)).save_pretrained(out)
        tokenizer.save_pretrained(out)
        return
    _write_gguf(exported, merged, out, gguf_type)
    if exported.form == "ollama":
        end_tokens = models.end_tokens_of(merged, tokenizer)
        text = ollama.modelfile(out / MODEL_FILE, card, merged.config, tokenizer, end_tokens)
        write_text(out / MODELFILE, text)


def _write_gguf(exported: Exported, model: Any, out: Path, gguf_type: GgufType) -> None:
    """Writes a whole model. One that was tuned on a prompt carries it as its chat template, beside that of the base."""
    tokenizer, card = models.load_tokenizer(exported.model), exported.card
    models.check_tokenizer(model, tokenizer)
    base_template = getattr(tokenizer, "chat_template", None)
    templates = {"default": base_template} if isinstance(base_template, str) else dict(base_template or {})
    if card:
        templates = {
            "default": jinja_template(card.prompt),
            **({"base": base_template} if isinstance(base_template, str) else {}),
        }
    labels = Labels(exported.name, exported.license, templates, is_greedy=card is not None)
    write_model(out / MODEL_FILE, model, tokenizer, gguf_type, labels)


def load_tuned(card: adapter_metadata.AdapterMetadata, folder: Path, keeps_invocation: bool = False) -> Any:
    """Loads base and adapter in float32, so that merging rounds only once.

    A quantized base is dequantized, because the adapter was trained and evaluated with its rounded weights.

    Args:
        card: the metadata of the adapter.
        folder: the adapter.
        keeps_invocation: whether the export can store an adapter that acts only from its invocation tokens on. Merged
            weights cannot.

    Raises:
        ModelError: when the base is not the one that the adapter was trained on, or the adapter has an invocation that
            the export would lose.
    """
    base_identity.require_same(card.base, card.model, str(folder))
    if card.quantization is None:
        base = models.load_model(card.model, "float32")
    else:
        base = dequantize(models.load_model(card.model, card.dtype, card.quantization)).float()
    tuned = adapters.load_adapter(base, folder)
    if invocation_of(adapters.causal_model(tuned)) and not keeps_invocation:
        raise ModelError(
            f"{folder}: the adapter acts only from its invocation on, but merged weights act always; export it with "
            "`--to gguf-lora` for llama.cpp, or load the adapter folder with PEFT: both support activated LoRA"
        )
    adapters.set_scale(tuned, card.scale)
    return tuned


def merge(tuned: Any, card: adapter_metadata.AdapterMetadata, tokenizer: Any) -> Any:
    """Merges the adapter into the base, in float32.

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
    return merged


def stored_dtype(card: adapter_metadata.AdapterMetadata) -> torch.dtype:
    """The number format in which the base is stored."""
    return models.load_config(card.model).dtype or torch.float32
