"""Tiny random models of the families that transformers has: two layers, width 32, and the tokenizer of tiny.py.

They are made from transformers' own classes, without remote code, and stored in folders as published models are.
"""

from pathlib import Path
from typing import Any

import tiny
import torch
from transformers import AutoConfig, AutoModelForCausalLM

WINDOW = 6
"""A sliding window that is shorter than every prompt of the tests."""

_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
_LOCAL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
_ALTERNATING = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama with biases, tied": ("llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    "qwen2": ("qwen2", {}),
    "qwen2, window": ("qwen2", {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1}),
    "qwen2 moe": ("qwen2_moe", {**_EXPERTS, "shared_expert_intermediate_size": 24}),
    "qwen3": ("qwen3", {"head_dim": 16}),
    "qwen3 moe": ("qwen3_moe", {**_EXPERTS, "head_dim": 16}),
    "mistral": ("mistral", {"sliding_window": None}),
    "mistral, window": ("mistral", {"sliding_window": WINDOW}),
    "mixtral": ("mixtral", {**_LOCAL_EXPERTS, "sliding_window": None}),
    "gemma": ("gemma", {"head_dim": 16}),
    "gemma2": (
        "gemma2",
        {
            "head_dim": 16,
            "query_pre_attn_scalar": 16,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 5.0,
            **_ALTERNATING,
        },
    ),
    "gemma3": ("gemma3_text", {"head_dim": 16, "query_pre_attn_scalar": 16, **_ALTERNATING}),
    "phi3": ("phi3", {}),
    "olmo": ("olmo", {}),
    "olmo2": ("olmo2", {}),
    "olmo3": ("olmo3", _ALTERNATING),
    "olmoe": ("olmoe", {"num_experts": 4, "num_experts_per_tok": 2}),
    "granite": (
        "granite",
        {
            "logits_scaling": 4.0,
            "embedding_multiplier": 2.0,
            "residual_multiplier": 0.5,
            "attention_multiplier": 0.2,
        },
    ),
    "granite moe": ("granitemoe", {**_LOCAL_EXPERTS, "logits_scaling": 2.0}),
    "stablelm": ("stablelm", {}),
    "nemotron": ("nemotron", {}),
    "falcon": ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2, "alibi": False}),
    "falcon, one key head": ("falcon", {"new_decoder_architecture": False, "multi_query": True, "alibi": False}),
    "gpt-neox": ("gpt_neox", {}),
    "smollm3": ("smollm3", {"no_rope_layers": [1, 0]}),
    "starcoder2": ("starcoder2", {"sliding_window": None}),
    "cohere": ("cohere", {"logit_scale": 0.25}),
    "cohere2": ("cohere2", {"logit_scale": 0.25, **_ALTERNATING}),
    "glm": ("glm", {"head_dim": 16}),
    "glm4": ("glm4", {"head_dim": 16}),
    "ernie 4.5": ("ernie4_5", {"head_dim": 16}),
    "helium": ("helium", {"head_dim": 8}),
    "hunyuan": ("hunyuan_v1_dense", {"head_dim": 16}),
    "exaone4": ("exaone4", {**_ALTERNATING, "sliding_window_pattern": 2}),
    "seed-oss": ("seed_oss", {"head_dim": 16, "attention_dropout": 0.1}),
    "arcee": ("arcee", {}),
    "apertus": ("apertus", {}),
    "opt": ("opt", {"ffn_dim": 48, "word_embed_proj_dim": 32}),
    "persimmon": ("persimmon", {}),
}
"""Families that train, answer, save, load and merge: transformers' name of the family, and options."""

ATTENTION_ONLY: dict[str, tuple[str, dict[str, Any]]] = {
    "deepseek v3": (
        "deepseek_v3",
        {
            "num_key_value_heads": 4,
            "moe_intermediate_size": 24,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "n_group": 1,
            "topk_group": 1,
            "kv_lora_rank": 16,
            "q_lora_rank": 16,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 8,
            "v_head_dim": 16,
            "first_k_dense_replace": 1,
        },
    ),
    "glm4 moe": (
        "glm4_moe",
        {**_EXPERTS, "n_routed_experts": 4, "head_dim": 16, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1},
    ),
}
"""Families in which PEFT takes the layers of an MLP for experts, so that the adapter can be on the attention only."""

REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "gpt-oss": ("gpt_oss", {**_LOCAL_EXPERTS, "head_dim": 16, **_ALTERNATING}, "other logits"),
    "bloom": ("bloom", {"n_layer": 2, "n_head": 4}, "cannot train"),
    "phi": ("phi", {}, "bias"),
    "gpt-neo": ("gpt_neo", {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]}, "windows"),
    "qwen3-next": (
        "qwen3_next",
        {**_EXPERTS, "head_dim": 16, "layer_types": ["linear_attention", "full_attention"]},
        "linear_attention",
    ),
    "lfm2": ("lfm2", {"layer_types": ["conv", "full_attention"]}, "conv"),
    "mamba": ("mamba", {"state_size": 4}, "linear_attention"),
    "scaled logits that the family ignores": ("llama", {"logits_scaling": 8.0}, "other logits"),
}
"""Families that are refused before training: transformers' name, options, and a part of the reason."""


def config(kind: str, vocabulary: int, options: dict[str, Any]) -> Any:
    """The configuration of a tiny model."""
    return AutoConfig.for_model(kind, **tiny.options(vocabulary, **{"max_position_embeddings": 512, **options}))


def save(folder: Path, kind: str, options: dict[str, Any]) -> Path:
    """`folder`, with a random model of a family and a tokenizer in it."""
    words = tiny.tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config(kind, len(words), options))
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder
