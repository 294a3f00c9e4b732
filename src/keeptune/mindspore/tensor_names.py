"""Translates tensor names of a Llama and of its LoRA layers between Hugging Face (PEFT) and MindFormers.

Tensors have the same shape on both sides and are neither transposed nor permuted: both store rotary dimensions as
halves. Only Meta's original .pth files store them as pairs.
Source: MindFormers 1.9.0 and the contest's snapshot of it; logits of both were compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from keeptune.errors import ModelError
from keeptune.models.backend import MODULE_ALIASES

Value = TypeVar("Value")

_BLOCKS = {"self_attn": "attention", "mlp": "feed_forward"}
_NORMS = {"input_layernorm": "attention_norm", "post_attention_layernorm": "ffn_norm"}
_OUTSIDE_LAYERS = {
    "model.embed_tokens.weight": "model.tok_embeddings.embedding_weight",
    "model.norm.weight": "model.norm_out.weight",
    "lm_head.weight": "lm_head.weight",
}
_SUFFIXES = {"lora_A.weight": "mindpet_delta_lora_a", "lora_B.weight": "mindpet_delta_lora_b", "weight": "weight"}
_PEFT_PREFIX = "base_model.model."

_TRAINING_STATE = re.compile(
    r"(?:adam_[mv]|moments?|vhat_?\w*)\..*|(?:learning_rate|global_step|epoch_num|step_num|scale_sense|loss_scale"
    r"|global_batch_size|current_iterator_step|last_overflow_iterator_step|beta[12]_power)"
)
_CONCATENATED = re.compile(r".*\.(?:w_qkv|w_gate_hidden)\.weight")


def _layer_names() -> dict[str, str]:
    """The part of a name after `model.layers.N.`: from Hugging Face's to MindFormers'."""
    names = {f"{norm}.weight": f"{mindformers}.weight" for norm, mindformers in _NORMS.items()}
    for layer, cell in MODULE_ALIASES.items():
        block = "self_attn" if layer in ("q_proj", "k_proj", "v_proj", "o_proj") else "mlp"
        for suffix, mindformers in _SUFFIXES.items():
            names[f"{block}.{layer}.{suffix}"] = f"{_BLOCKS[block]}.{cell}.{mindformers}"
    return names


_IN_LAYER = _layer_names()
_IN_MINDFORMERS_LAYER = {mindformers: hugging_face for hugging_face, mindformers in _IN_LAYER.items()}
_OUTSIDE_MINDFORMERS_LAYERS = {mindformers: hugging_face for hugging_face, mindformers in _OUTSIDE_LAYERS.items()}
_LAYER = re.compile(r"(model\.layers\.[0-9]+\.)(.+)")


def to_mindformers(name: str) -> str | None:
    """MindFormers' name of a Hugging Face or PEFT tensor of a Llama, or None if it has none."""
    return _translate(name.removeprefix(_PEFT_PREFIX), _OUTSIDE_LAYERS, _IN_LAYER)


def from_mindformers(name: str) -> str | None:
    """Hugging Face's name of a MindFormers tensor (PEFT's for a LoRA tensor), or None if it has none."""
    translated = _translate(name, _OUTSIDE_MINDFORMERS_LAYERS, _IN_MINDFORMERS_LAYER)
    return f"{_PEFT_PREFIX}{translated}" if translated and ".lora_" in translated else translated


def _translate(name: str, outside: Mapping[str, str], in_layer: Mapping[str, str]) -> str | None:
    if match := _LAYER.fullmatch(name):
        rest = in_layer.get(match[2])
        return f"{match[1]}{rest}" if rest else None
    return outside.get(name)


def require_llama(config: Any) -> None:
    """Checks that a model computes what MindFormers' Llama computes: a model with a Llama's tensor names may not.

    Raises:
        ModelError: when the model type is not `llama` or its activation is not SiLU.
    """
    if config.model_type != "llama" or config.hidden_act != "silu":
        raise ModelError(
            f"model_type {config.model_type} with hidden_act {getattr(config, 'hidden_act', 'unknown')}: MindFormers' "
            "Llama would compute other results from these weights; export with `--to merged`"
        )


def rename_to_mindformers(tensors: Mapping[str, Value]) -> dict[str, Value]:
    """The tensors under MindFormers' names.

    Raises:
        ModelError: listing the tensors that have no name in MindFormers' Llama.
    """
    names = {name: to_mindformers(name) for name in tensors}
    if unknown := sorted(name for name, translated in names.items() if translated is None):
        raise ModelError(
            f"{_summary(unknown)}: MindFormers' Llama has no such tensor; only Llama models with LoRA on "
            f"{', '.join(MODULE_ALIASES)} can be exported to it"
        )
    return {translated: tensors[name] for name, translated in names.items() if translated}


def rename_from_mindformers(tensors: Mapping[str, Value]) -> dict[str, Value]:
    """A MindFormers checkpoint's tensors under Hugging Face's and PEFT's names, without the optimizer state.

    Raises:
        ModelError: listing the tensors that belong to no Llama. An unknown tensor is never skipped silently.
    """
    weights = [name for name in tensors if not _TRAINING_STATE.fullmatch(name)]
    if concatenated := [name for name in weights if _CONCATENATED.fullmatch(name)]:
        raise ModelError(
            f"{_summary(concatenated)}: query, key and value are concatenated (`qkv_concat: True`); save the "
            "checkpoint with `qkv_concat: False`"
        )
    names = {name: from_mindformers(name) for name in weights}
    if unknown := sorted(name for name, translated in names.items() if translated is None):
        raise ModelError(
            f"{_summary(unknown)}: not a tensor of MindFormers' Llama or of its LoRA; nothing was imported. Give a "
            "checkpoint of a Llama"
        )
    return {translated: tensors[name] for name, translated in names.items() if translated}


def target_pattern(layers: Sequence[str]) -> str:
    """The regular expression for MindFormers' `target_modules` that matches these Hugging Face layers: `.*wq|.*wv`."""
    return "|".join(f".*{cell}" for layer, cell in MODULE_ALIASES.items() if layer in layers)


def _summary(names: Iterable[str]) -> str:
    first, *others = names
    return f"{first} and {len(others)} more" if others else first
