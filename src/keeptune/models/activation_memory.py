"""Activation memory of training: the bytes that a batch stores for the backward pass.

For CUDA, they are counted without memory: one and two blocks of the model with its adapter run on PyTorch's meta
device, which computes shapes and no values, and hooks see what autograd would store. So every family, adapter, dropout
and number format counts as it is. Blocks are alike, so the difference is multiplied by their number.

For other devices, a formula holds that was measured with models of several widths.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from transformers import AutoModelForCausalLM

from keeptune.config.adapter import AdapterSection
from keeptune.models import adapters, load
from keeptune.models.packed_rows import PackedRows
from keeptune.models.token_errors import MISFITS

META = torch.device("meta")
ROW_TOKENS = 64
"""The tokens of a row in the count. Packed rows store as much per token whatever their length."""

VALUES_PER_WIDTH, VALUES_PER_MLP_WIDTH = 23.3, 4
"""Values per token and layer that are stored for the backward pass, in multiples of the hidden width and of the MLP
width.

The first counts attention and norms of a Llama block with LoRA's shared inputs. The second counts the gate of a gated
MLP, its activation, the up projection and their product. Together they are 34 hidden widths for SmolLM2-135M, whose MLP
is 2.7 times as wide, and 45 for Qwen2.5-0.5B with 5.4 times."""

FAMILY_FACTORS = {"dora": 2.6, "vera": 1.6}
"""Stored values relative to LoRA. Measured with SmolLM2-135M on one core: 2.7 and 1.9 GB instead of 1.4."""


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
        outside: what is stored outside of blocks.
        block_input: the input of a block, which activation checkpointing stores in place of all else.
    """

    blocks: int
    first: Linear
    block: Linear
    outside: Linear
    block_input: Linear

    def stored(self, tokens: int, is_checkpointed: bool = False) -> float:
        """The bytes of a batch of `tokens` padded tokens.

        With activation checkpointing, one block at a time is computed again.
        """
        if is_checkpointed:
            return self.outside(tokens) + self.block(tokens) + self.blocks * self.block_input(tokens)
        return self.first(tokens) + (self.blocks - 1) * self.block(tokens)

    def largest_batch(self, available_bytes: float) -> float:
        """The padded tokens of the largest batch that fits without activation checkpointing."""
        constant = self.first.constant + (self.blocks - 1) * self.block.constant
        per_token = self.first.per_token + (self.blocks - 1) * self.block.per_token
        return max(0.0, (available_bytes - constant) / per_token)


def estimate(config: Any, adapter: AdapterSection, dtype: torch.dtype, device: torch.device) -> ActivationMemory:
    """The activation memory of a model's training.

    Args:
        config: the model's configuration.
        adapter: the `adapter` section of the recipe.
        dtype: the number format of the base model.
        device: where the model will run.
    """
    if device.type != "cuda":
        return _by_formula(config, adapter, dtype)
    try:
        single, double = (_build(config, blocks, adapter, dtype, device) for blocks in (1, 2))
        one, two = _counted(single), _counted(double)
        adapters.causal_model(double).activation_checkpointing_enable({"use_reentrant": False})
        outside = _counted(double)
    except MISFITS:  # such as shapes that depend on values
        return _by_formula(config, adapter, dtype)
    block = Linear(two.constant - one.constant, two.per_token - one.per_token)
    return ActivationMemory(config.num_hidden_layers, one, block, outside, _block_input(config, dtype))


def _block_input(config: Any, dtype: torch.dtype) -> Linear:
    return Linear(0, config.hidden_size * dtype.itemsize)


def _build(config: Any, blocks: int, adapter: AdapterSection, dtype: torch.dtype, device: torch.device) -> Any:
    """The first blocks of the model with its adapter, without values."""
    attention = load.attention_implementation(config, device)
    with META:
        base = AutoModelForCausalLM.from_config(
            shortened(config, blocks), dtype=dtype, attn_implementation=attention, trust_remote_code=False
        )
        load.disable_dropout(base)
        # The adapter may leave out some blocks, but not in this measurement.
        tuned = adapters.attach(base, adapter.model_copy(update={"layers": None, "start": None}), seed=0)
    dropouts: list[Any] = [layer.lora_dropout for layer in tuned.modules() if hasattr(layer, "lora_dropout")]
    for modules in dropouts:
        for name, module in modules.items():
            modules[name] = _CudaDropout() if isinstance(module, nn.Dropout) else module
    return tuned.train()


class _CudaDropout(nn.Module):
    """Stores what dropout stores on CUDA, a byte per value. Elsewhere, it stores its input and a mask in its format."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = _StoredMask.apply(x)  # type: ignore[no-untyped-call]
        return result


class _StoredMask(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(torch.empty_like(x, dtype=torch.bool))
        return torch.empty_like(x)


def shortened(config: Any, blocks: int) -> Any:
    """The configuration of a model with fewer blocks. Lists with an entry per block are shortened."""
    options, count = config.to_dict(), config.num_hidden_layers
    for name, value in options.items():
        if isinstance(value, list) and len(value) == count:
            options[name] = value[:blocks]
    return type(config).from_dict({**options, "num_hidden_layers": blocks})


def _counted(tuned: Any) -> Linear:
    """The bytes that a model stores, from batches of one row and of two rows."""
    single, double = (stored_bytes(tuned, partial(_states, tuned, [ROW_TOKENS] * rows)) for rows in (1, 2))
    return Linear(2 * single - double, (double - single) / ROW_TOKENS)


def _states(tuned: Any, lengths: Sequence[int]) -> Any:
    """A forward pass of packed rows."""
    ids = torch.zeros(1, sum(lengths), dtype=torch.long, device=META)
    return adapters.causal_model(tuned).get_decoder()(
        input_ids=ids,
        attention_mask=torch.ones(1, 1, 1, 1, dtype=torch.bool, device=META),
        position_ids=torch.zeros_like(ids),
        packed_rows=PackedRows.of(lengths, META),
        use_cache=False,
    )


def stored_bytes(model: nn.Module, run: Callable[[], Any]) -> int:
    """The bytes that a forward pass of a model stores for the backward pass, apart from the model's own tensors."""
    model_storages = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
    # Held by the graph alone: what belongs to a part of the graph that is dropped, does not count.
    stored: weakref.WeakSet[_Stored] = weakref.WeakSet()

    def keep(tensor: torch.Tensor) -> _Stored:
        stored.add(kept := _Stored(tensor))
        return kept

    with saved_tensors_hooks(keep, lambda kept: kept.tensor):
        result = run()
    storages = {storage._cdata: storage for storage in (kept.tensor.untyped_storage() for kept in stored)}
    del result  # the graph had to last until here
    return sum(storage.nbytes() for address, storage in storages.items() if address not in model_storages)


class _Stored:
    """A tensor that the graph holds."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


def mlp_width(config: Any) -> int:
    """The width of the MLP; four times the hidden width where the configuration does not name it."""
    width: int = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    return width


def _by_formula(config: Any, adapter: AdapterSection, dtype: torch.dtype) -> ActivationMemory:
    values = VALUES_PER_WIDTH * config.hidden_size + VALUES_PER_MLP_WIDTH * mlp_width(config)
    block = Linear(0, values * FAMILY_FACTORS.get(adapter.family, 1) * dtype.itemsize)
    return ActivationMemory(config.num_hidden_layers, block, block, Linear(0, 0), _block_input(config, dtype))
