"""Tiny models of the shapes that GGUF exports support, each with the tokenizer of tests/tiny.py."""

from pathlib import Path
from typing import Any

import tiny
import torch
from transformers import (
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from keeptune.models import adapter_metadata, adapters

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}

SHAPES: dict[str, tuple[type[Any], type[Any], dict[str, Any]]] = {
    "llama": (tiny.LlamaConfig, LlamaForCausalLM, {}),
    "llama-tied": (tiny.LlamaConfig, LlamaForCausalLM, {"tie_word_embeddings": True}),
    "llama3-rope": (tiny.LlamaConfig, LlamaForCausalLM, {"rope_parameters": LLAMA3_ROPE}),
    "linear-rope": (
        tiny.LlamaConfig,
        LlamaForCausalLM,
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}},
    ),
    "mistral": (MistralConfig, MistralForCausalLM, {"sliding_window": 512}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 16}),
}
"""Configuration, model and settings of each shape."""


def save(folder: Path, shape: str) -> Path:
    """A folder with a model of a shape and its tokenizer. All weights differ from their usual first values."""
    words = tiny.tokenizer()
    config_class, model_class, changes = SHAPES[shape]
    # transformers adds a token to the tokenizer of a Qwen model.
    sizes = tiny.config(len(words) + 1).to_diff_dict()
    config = config_class(**{**sizes, "model_type": config_class.model_type, **changes})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = model_class(config)
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    # Rows and lines shall end now and then, as a real model's do.
    model.get_output_embeddings().weight.data[[words.eos_token_id, *words.encode("\n")]] *= 1.5
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def tune(model: Path, adapter: Path, **metadata: Any) -> Path:
    """A folder with an adapter of a saved model."""
    adapter.mkdir()
    adapters.save_adapter(tiny.tune(tiny.load(model)), adapter)
    facts = {"model": str(model), "skill": "arithmetic", "prompt": tiny.PROMPT, "budgets": {"add": 30}, "scale": 1.0}
    adapter_metadata.save(adapter_metadata.AdapterMetadata(**{**facts, "dtype": "float32", **metadata}), adapter)
    return adapter
