"""Activation memory of training: the bytes that a batch stores for the backward pass, measured without memory.

One and two blocks of the model with its adapter run on PyTorch's meta device, which computes shapes and no values.
Hooks count what autograd would store. So every family, adapter, dropout and number format is counted as it is. Blocks
are alike, so the difference is multiplied by their number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from transformers import AutoModelForCausalLM

from keeptune.config.adapter import AdapterSection
from keeptune.models import adapters, load
from keeptune.models.attention import MAX_STORED_SCORE_TOKENS
from keeptune.models.packed_rows import PackedRows
from keeptune.models.token_errors import MISFITS

META = torch.device("meta")

VALUES_PER_WIDTH, VALUES_PER_MLP_WIDTH = 23.3, 4
"""Values per token and block for models that do not run without values, in multiples of the hidden width and of the MLP
width: routers of experts choose by value. Measured for Llama blocks with LoRA on a processor."""


@dataclass(frozen=True, slots=True)
class Linear:
    """A number of bytes as a function of the tokens of a batch."""

    constant: float
    per_token: float

    def __call__(self, tokens: float) -> float:
        return self.constant + self.per_token * tokens


@dataclass(frozen=True, slots=True)
class ActivationMemory:
    """The bytes that a batch stores for the backward pass.

    Attributes:
        blocks: the number of blocks.
        first: what the first block stores, and all that is outside of blocks.
        block: what each other block stores.
        block_input: the input of a block, which activation checkpointing stores in place of all else.
    """

    blocks: int
    first: Linear
    block: Linear
    block_input: Linear

    def stored(self, tokens: int, is_checkpointed: bool = False) -> float:
        """The bytes of a batch of `tokens` padded tokens.

        With activation checkpointing, one block at a time is computed again.
        """
        if is_checkpointed:
            return max(self.first(tokens), self.block(tokens)) + self.blocks * self.block_input(tokens)
        return self.first(tokens) + (self.blocks - 1) * self.block(tokens)

    def largest_batch(self, available_bytes: float) -> float:
        """The padded tokens of the largest batch that fits without activation checkpointing."""
        constant = self.first.constant + (self.blocks - 1) * self.block.constant
        per_token = self.first.per_token + (self.blocks - 1) * self.block.per_token
        return max(0.0, (available_bytes - constant) / per_token)


def measure(
    config: Any, adapter: AdapterSection, dtype: torch.dtype, device: torch.device, row_tokens: int
) -> ActivationMemory:
    """Measures the activation memory of a model's training.

    Args:
        config: the model's configuration.
        adapter: the `adapter` section of the recipe.
        dtype: the number format of the base model.
        device: where the model will run; it decides the attention.
        row_tokens: the tokens of a row. On a processor, the scores of attention grow with the square of it.
    """
    length = max(1, min(row_tokens, MAX_STORED_SCORE_TOKENS))
    try:
        one, two = (_measured(_build(config, blocks, adapter, dtype, device), device, length) for blocks in (1, 2))
    except MISFITS:  # such as shapes that depend on values
        return _approximate(config, dtype)
    block = Linear(two.constant - one.constant, two.per_token - one.per_token)
    return ActivationMemory(config.num_hidden_layers, one, block, Linear(0, config.hidden_size * dtype.itemsize))


def _build(config: Any, blocks: int, adapter: AdapterSection, dtype: torch.dtype, device: torch.device) -> Any:
    """The first blocks of the model with its adapter, without values."""
    with META:
        base = AutoModelForCausalLM.from_config(
            _shortened(config, blocks),
            dtype=dtype,
            attn_implementation=load.attention_implementation(config, device),
            trust_remote_code=False,
        )
        load.disable_dropout(base)
        # The adapter may leave out some blocks, but not in this measurement.
        tuned = adapters.attach(base, adapter.model_copy(update={"layers": None, "start": None}), seed=0)
    return tuned.train()


def _shortened(config: Any, blocks: int) -> Any:
    """The configuration of a model with fewer blocks. Lists with an entry per block are shortened."""
    options, count = config.to_dict(), config.num_hidden_layers
    for name, value in options.items():
        if isinstance(value, list) and len(value) == count:
            options[name] = value[:blocks]
    return type(config).from_dict({**options, "num_hidden_layers": blocks})


def _measured(tuned: Any, device: torch.device, length: int) -> Linear:
    """The bytes that a model stores, from batches of one row and of two rows."""
    single, double = (stored_bytes(tuned, lambda rows=rows: _states(tuned, device, [length] * rows)) for rows in (1, 2))
    return Linear(2 * single - double, (double - single) / length)


def _states(tuned: Any, device: torch.device, lengths: Sequence[int]) -> Any:
    """A forward pass of rows: packed on CUDA, else padded."""
    decoder = adapters.causal_model(tuned).get_decoder()
    if device.type != "cuda":
        return decoder(input_ids=torch.zeros(len(lengths), lengths[0], dtype=torch.long, device=META), use_cache=False)
    ids = torch.zeros(1, sum(lengths), dtype=torch.long, device=META)
    return decoder(
        input_ids=ids,
        attention_mask=torch.ones(1, 1, 1, 1, dtype=torch.bool, device=META),
        position_ids=torch.zeros_like(ids),
        packed_rows=PackedRows.of(lengths, META),
        use_cache=False,
    )


def stored_bytes(model: nn.Module, run: Callable[[], Any]) -> int:
    """The bytes that a forward pass of a model stores for the backward pass, apart from the model's own tensors."""
    own = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
    stored: dict[int, Any] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            stored[storage._cdata] = storage  # held, so that no other storage gets its address
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        result = run()
    del result
    return sum(storage.nbytes() for storage in stored.values())


def mlp_width(config: Any) -> int:
    """The width of the MLP; four times the hidden width where the configuration does not name it."""
    width: int = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    return width


def _approximate(config: Any, dtype: torch.dtype) -> ActivationMemory:
    values = VALUES_PER_WIDTH * config.hidden_size + VALUES_PER_MLP_WIDTH * mlp_width(config)
    block = Linear(0, values * dtype.itemsize)
    return ActivationMemory(config.num_hidden_layers, block, block, Linear(0, config.hidden_size * dtype.itemsize))
