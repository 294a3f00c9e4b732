"""What MindFormers and Hugging Face call the same tensor of a Llama: weights, and the two halves of a LoRA layer.

Shapes are the same on both sides, and nothing is transposed or permuted: both store rotary halves, not pairs. Only
Meta's own .pth files have pairs. Source: MindFormers 1.9.0 and the contest's snapshot of it, both compared by logits.
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
_OUTSIDE = {
    "model.embed_tokens.weight": "model.tok_embeddings.embedding_weight",
    "model.norm.weight": "model.norm_out.weight",
    "lm_head.weight": "lm_head.weight",
}
_HALVES = {"lora_A.weight": "mindpet_delta_lora_a", "lora_B.weight": "mindpet_delta_lora_b", "weight": "weight"}
_PEFT_PREFIX = "base_model.model."

_TRAINING_STATE = re.compile(
    r"(?:adam_[mv]|moments?|vhat_?\w*)\..*|(?:learning_rate|global_step|epoch_num|step_num|scale_sense|loss_scale"
    r"|global_batch_size|current_iterator_step|last_overflow_iterator_step|beta[12]_power)"
)
_CONCATENATED = re.compile(r".*\.(?:w_qkv|w_gate_hidden)\.weight")


def _pairs() -> dict[str, str]:
    """The part of a name that follows `model.layers.N.`: Hugging Face's to MindFormers'."""
    pairs = {f"{norm}.weight": f"{own}.weight" for norm, own in _NORMS.items()}
    for layer, cell in MODULE_ALIASES.items():
        block = "self_attn" if layer in ("q_proj", "k_proj", "v_proj", "o_proj") else "mlp"
        for half, own in _HALVES.items():
            pairs[f"{block}.{layer}.{half}"] = f"{_BLOCKS[block]}.{cell}.{own}"
    return pairs


_IN_LAYER = _pairs()
_IN_MINDFORMERS_LAYER = {own: theirs for theirs, own in _IN_LAYER.items()}
_FROM_OUTSIDE = {own: theirs for theirs, own in _OUTSIDE.items()}
_LAYER = re.compile(r"(model\.layers\.[0-9]+\.)(.+)")


def to_mindformers(name: str) -> str | None:
    """MindFormers' name of a Llama's tensor, or of PEFT's, or None when it has none."""
    return _translated(name.removeprefix(_PEFT_PREFIX), _OUTSIDE, _IN_LAYER)


def from_mindformers(name: str) -> str | None:
    """Hugging Face's name of a MindFormers tensor, PEFT's for a half of a LoRA layer, or None when it has none."""
    found = _translated(name, _FROM_OUTSIDE, _IN_MINDFORMERS_LAYER)
    return f"{_PEFT_PREFIX}{found}" if found and ".lora_" in found else found


def _translated(name: str, outside: Mapping[str, str], in_layer: Mapping[str, str]) -> str | None:
    if match := _LAYER.fullmatch(name):
        rest = in_layer.get(match[2])
        return f"{match[1]}{rest}" if rest else None
    return outside.get(name)


def require_llama(config: Any) -> None:
    """errors: ModelError where a model computes something else with its tensors, though they are named as a Llama's."""
    if config.model_type != "llama" or config.hidden_act != "silu":
        raise ModelError(
            f"a {config.model_type} with {getattr(config, 'hidden_act', 'unknown')} activations: MindFormers' Llama "
            "would compute something else with its weights; export it as `merged`"
        )


def exported(tensors: Mapping[str, Value]) -> dict[str, Value]:
    """The tensors under MindFormers' names. errors: ModelError listing those that it has no name for."""
    named = {name: to_mindformers(name) for name in tensors}
    if unknown := sorted(name for name, own in named.items() if own is None):
        raise ModelError(
            f"{_listed(unknown)}: MindFormers' Llama has no such tensor; only Llama-shaped models with LoRA on "
            f"{', '.join(MODULE_ALIASES)} can be written for it"
        )
    return {own: tensors[name] for name, own in named.items() if own}


def imported(tensors: Mapping[str, Value]) -> dict[str, Value]:
    """The tensors of a MindFormers checkpoint under the names of Hugging Face and PEFT, without the optimiser's.

    errors: ModelError listing tensors that are of no Llama: one that is silently left out costs more than an error.
    """
    weights = [name for name in tensors if not _TRAINING_STATE.fullmatch(name)]
    if concatenated := [name for name in weights if _CONCATENATED.fullmatch(name)]:
        raise ModelError(
            f"{_listed(concatenated)}: queries, keys and values lie in one tensor (`qkv_concat: True`); save the "
            "checkpoint with `qkv_concat: False` and give that one"
        )
    named = {name: from_mindformers(name) for name in weights}
    if unknown := sorted(name for name, theirs in named.items() if theirs is None):
        raise ModelError(
            f"{_listed(unknown)}: not a tensor of MindFormers' Llama or of its LoRA; nothing was taken over"
        )
    return {theirs: tensors[name] for name, theirs in named.items() if theirs}


def target_pattern(layers: Sequence[str]) -> str:
    """The regular expression by which MindFormers finds the layers of these Hugging Face names: `.*wq|.*wv`."""
    return "|".join(f".*{cell}" for layer, cell in MODULE_ALIASES.items() if layer in layers)


def _listed(names: Iterable[str]) -> str:
    first, *others = names
    return f"{first} and {len(others)} more" if others else first
