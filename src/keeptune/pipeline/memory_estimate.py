"""Estimates the peak memory of a run before it starts.

Training and evaluation run one after the other, so the larger of the two determines the peak. tests/end_to_end/
test_memory.py compares the estimate with the measured peak.
"""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from keeptune.config.adapter import AdapterSection
from keeptune.config.model import Quantization
from keeptune.config.recipe import Recipe
from keeptune.generation.scheduling import SLOTS
from keeptune.generation.slot_cache import cache_capacity_tokens, cached_values_per_token
from keeptune.models import adapters
from keeptune.models import load as models
from keeptune.models.activation_checkpointing import BYTES_PER_TRAINABLE_PARAMETER, allocator_overhead
from keeptune.models.activation_memory import estimate
from keeptune.models.device_memory import CARD_RESERVE_BYTES, is_card, total_bytes
from keeptune.models.prepacked_linear import prepackable_layers, prepacked_bytes
from keeptune.models.quantization import BYTES_PER_WEIGHT
from keeptune.training.loss import CARD_CHUNK_VALUES, CHUNK_TOKENS, CHUNK_VALUES, TRAINED_LOGIT_BYTES
from keeptune.training.replay import MAX_ROW_TOKENS

RUNTIME_BYTES = 540_000_000
"""Memory of Python, torch and transformers before a model is loaded."""

COMPARED_LOGIT_BYTES = 20
"""Bytes per logit where base and tuned are compared: five copies in float32."""


def peak_bytes(config: Any, parameters: adapters.ParameterCount, recipe: Recipe, longest: int, questions: int) -> int:
    """The estimated peak in bytes, for rows of at most `longest` tokens and `questions` test or reading questions."""
    width = models.dtype(recipe.model.dtype).itemsize
    weights = weight_bytes(config, parameters.total, width, recipe.model.quantization)
    training = training_bytes(config, parameters, recipe, longest, width, weights)
    scoring = scoring_bytes(config, weights, longest, questions, width)
    return int(RUNTIME_BYTES + weights + max(training, scoring))


def training_bytes(
    config: Any, parameters: adapters.ParameterCount, recipe: Recipe, longest: int, width: int, weights: float
) -> float:
    """Bytes of activations, of the adapter's gradient and moments, of the loss, and of prepacked layers.

    The activations are those of the largest batch. They are smaller with activation checkpointing, which `auto` uses
    where they would not fit.
    """
    settings, free = recipe.train, total_bytes(models.device()) - weights
    overhead = allocator_overhead(models.device())
    replayed = min(recipe.data.max_tokens, MAX_ROW_TOKENS) if recipe.retain.replay_share else 0
    tokens = max(settings.tokens_per_batch, longest, replayed)
    memory = estimate(config, recipe.adapter, models.dtype(recipe.model.dtype), models.device())
    stored, recomputed = (memory.stored(tokens, is_checkpointed) for is_checkpointed in (False, True))
    is_recomputed = settings.activation_checkpointing == "always" or (
        settings.activation_checkpointing == "auto" and overhead * stored > free
    )
    activations: float = overhead * (recomputed if is_recomputed else stored)
    adapter = parameters.trainable * BYTES_PER_TRAINABLE_PARAMETER
    on_card = is_card(models.device())
    logits = int(min(CARD_CHUNK_VALUES if on_card else CHUNK_VALUES, tokens * config.vocab_size))
    fixed = CARD_RESERVE_BYTES if on_card else prepacked_layer_bytes(config, recipe, width)
    return activations + adapter + logits * TRAINED_LOGIT_BYTES + fixed


def scoring_bytes(config: Any, weights: float, longest: int, questions: int, width: int) -> float:
    """Bytes of the key-value cache of one generation batch, of the loss on general text, and of prepacked layers.

    The batch holds test questions or reading questions; reading prompts are about as long as replayed reading rows.
    """
    device = models.device()
    embedding_bytes = 0 if config.tie_word_embeddings else config.vocab_size * config.hidden_size * width
    prepacked = weights - embedding_bytes if device.type == "cpu" else 0
    capacity_tokens = cache_capacity_tokens(config, width, device)
    rows = (
        (capacity, min(SLOTS, questions, max(1, capacity_tokens // capacity)))
        for capacity in (max(longest, 1), MAX_ROW_TOKENS)
    )
    cache = cached_values_per_token(config) * width * max(capacity * slots for capacity, slots in rows)
    logits = min(CHUNK_VALUES, CHUNK_TOKENS * config.vocab_size) * COMPARED_LOGIT_BYTES
    needed: float = allocator_overhead(device) * cache + logits + prepacked
    return needed


def prepacked_layer_bytes(config: Any, recipe: Recipe, width: int) -> int:
    """Bytes of the frozen layers that are prepacked for training on a processor, if memory allows it."""
    device = models.device()
    if device.type != "cpu" or recipe.model.quantization or recipe.train.shard:
        return 0
    return prepacked_bytes(prepackable_layers(build_meta_model(config, recipe.adapter)), width, total_bytes(device))


def weight_bytes(config: Any, total: int, width: int, quantization: Quantization | None) -> float:
    """Bytes of the frozen weights; quantization applies to all but the embeddings."""
    if quantization is None:
        return total * width
    embedded: int = config.vocab_size * config.hidden_size * (1 if config.tie_word_embeddings else 2)
    return embedded * width + (total - embedded) * BYTES_PER_WEIGHT[quantization]


def build_meta_model(config: Any, adapter: AdapterSection) -> PeftModel:
    """The model with its adapter on the meta device, which has shapes but no weights."""
    with torch.device("meta"):
        return adapters.attach(
            AutoModelForCausalLM.from_config(config, attn_implementation="eager", trust_remote_code=False),
            adapter,
            seed=0,
        )
