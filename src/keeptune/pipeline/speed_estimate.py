"""Estimates the training speed on this machine before a run starts.

One decoder layer with random weights and the recipe's adapter is trained for a moment, on rows as long as those of the
run. The time of the model is that of all its layers and of the output layer. What else runs on the machine at that
moment is a part of the measurement, and what runs later is not. Layers that differ from the first one, as in some
mixtures of experts, are not measured.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from keeptune.config.adapter import AdapterSection
from keeptune.config.recipe import Recipe
from keeptune.config.retain import RetainSection
from keeptune.models import adapters
from keeptune.models import load as models
from keeptune.models.activation_memory import shortened
from keeptune.models.device_memory import total_bytes
from keeptune.models.prepacked_linear import prepack_weights
from keeptune.pipeline.memory_estimate import build_meta_model

ROUNDS = 3
"""Measurements, after one that warms up. The median counts."""

PROBE_TOKENS = 512
"""Tokens of the measured batch; one row if rows are longer."""

MAX_LAYER_PARAMETERS = 300_000_000
"""Larger layers are not built. They consist of matrix products so large that nothing else takes time."""

MATRIX_SHARE = 0.45
"""Share of the speed of a matrix product that the training of a larger layer reaches.

Measured with SmolLM2-135M on two cores: 0.4 to 0.5. For larger layers it is a guess."""

KL_SECONDS = 0.4
"""Additional time of rows with a KL term, relative to others: they also need a forward pass of the base.

Measured: 0.34 to 0.43 in four trainings of SmolLM2-135M on two cores, with rows of 860 tokens."""

OUTPUT_PASSES = 2
"""Products of the output layer in a step: forward, and backward to its input."""


def tokens_per_second(config: Any, recipe: Recipe, lengths: Sequence[int]) -> float:
    """The estimated training speed on this machine, in tokens per second, for rows of these lengths."""
    text = config.get_text_config()
    layers: float = text.num_hidden_layers * seconds_in_layer(config, recipe.adapter, typical_length(lengths))
    operations: int = OUTPUT_PASSES * 2 * text.hidden_size * text.vocab_size
    output: float = operations / matrix_speed(text.hidden_size, text.vocab_size, tokens=64)
    return 1 / ((layers + output) * base_seconds(recipe.retain))


def typical_length(lengths: Sequence[int]) -> int:
    """The length of the row of an average token: Σ length² / Σ length. Attention takes time in proportion to it."""
    total = sum(lengths)
    return round(sum(length**2 for length in lengths) / total) if total else 1


def seconds_in_layer(config: Any, adapter: AdapterSection, length: int) -> float:
    """The seconds per token of the forward and backward pass of one layer, for rows of `length` tokens."""
    short = shortened(config, 1)
    short.get_text_config().vocab_size, short.get_text_config().pad_token_id = 8, None
    adapter = adapter.model_copy(update={"layers": None, "start": None})
    parameters = build_meta_model(short, adapter).num_parameters()
    if parameters > MAX_LAYER_PARAMETERS:
        # A token takes 4 operations per parameter, because frozen weights get no gradient.
        width = short.get_text_config().hidden_size
        operations: float = 4 * parameters
        return operations / (MATRIX_SHARE * matrix_speed(width, width))
    device, kind = models.device(), models.dtype("auto")
    with torch.random.fork_rng(devices=[]), torch.device(device):
        base = AutoModelForCausalLM.from_config(
            short,
            dtype=kind,
            attn_implementation=models.attention_implementation(config, device),
            trust_remote_code=False,
        )
    models.disable_dropout(base)
    model = adapters.attach(base, adapter, seed=0)
    prepack_weights(model, total_bytes(device))
    decoder = model.get_decoder()
    inputs = torch.randn(max(1, PROBE_TOKENS // length), length, short.get_text_config().hidden_size)
    inputs = inputs.to(device, kind).requires_grad_()
    trained = [inputs, *(parameter for parameter in model.parameters() if parameter.requires_grad)]

    def train() -> None:
        output = decoder(inputs_embeds=inputs, use_cache=False).last_hidden_state.float().sum()
        gradients = torch.autograd.grad(output, trained, allow_unused=True)
        gradients[0].sum().item()  # waits for an accelerator

    return statistics.median(durations(train, ROUNDS)) / inputs[..., 0].numel()


def base_seconds(retain: RetainSection) -> float:
    """Training time relative to a training without forward passes of the base model."""
    replayed = retain.replay_share
    share = (replayed if retain.kl_tokens == "replay" else 1 - replayed) if retain.kl_weight else 0.0
    if retain.token_weighting == "low_perplexity":
        share = 1.0
    return 1 + share * KL_SECONDS


def matrix_speed(inputs: int, outputs: int, tokens: int = 512) -> float:
    """Operations per second in the matrix product of one layer, the best of five measurements."""
    kind, device = models.dtype("auto"), models.device()
    x, w = torch.randn(tokens, inputs, device=device).to(kind), torch.randn(outputs, inputs, device=device).to(kind)
    return 2 * tokens * inputs * outputs / min(durations(lambda: (x @ w.t()).sum().item(), 5))


def durations(action: Callable[[], object], rounds: int) -> list[float]:
    """The seconds that an action takes in each round, after one that warms up."""
    times = []
    for _ in range(1 + rounds):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return times[1:]
