"""Sharding of the frozen base model over processes with PyTorch's FSDP2: each process holds a part of every block.

Each process holds the whole adapter, which is less than one percent of the parameters. So it is trained, saved and
resumed as without sharding, and no gradient of the base has to be reduced. A block's weights are gathered when the
block is computed, forward and backward, and then released. Weights outside the blocks are not sharded, because the loss
uses the output layer as a plain tensor.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from keeptune.errors import ModelError
from keeptune.models.adapters import added_parameters
from keeptune.models.peft_config import layer_list_name


class ShardedModel:
    """A model whose blocks are sharded over a mesh of processes."""

    def __init__(self, tuned: Any, mesh: DeviceMesh) -> None:
        """Shards the blocks of `tuned` in place.

        Raises:
            ModelError: if a weight of a block was not sharded.
        """
        causal = tuned.get_base_model()
        # The decoder is FSDP's root, which manages the order of the blocks. It has no other weights to shard.
        self.root: Any = causal.get_decoder()
        self.blocks: list[Any] = list(getattr(self.root, layer_list_name(causal)))
        block_parameters = {parameter for block in self.blocks for parameter in block.parameters()}
        unsharded: set[nn.Parameter] = {
            *added_parameters(tuned).values(),
            *(set(causal.parameters()) - block_parameters),
        }
        for module in (*self.blocks, self.root):
            fully_shard(module, mesh=mesh, ignored_params=unsharded)
        self._require_sharded(unsharded)
        # FSDP moves only the shards to the device.
        tuned.to(mesh.device_type)
        # FSDP determines its root in the first forward pass, which all processes run together here.
        with torch.no_grad():
            self.root(input_ids=torch.zeros(1, 1, dtype=torch.long, device=mesh.device_type), use_cache=False)
        self.root.reset_iter_state()

    def _require_sharded(self, unsharded: set[nn.Parameter]) -> None:
        # Checked, because a wrapper that shards nothing trains just as well until the memory runs out.
        missed = [
            name
            for block in self.blocks
            for name, parameter in block.named_parameters()
            if parameter not in unsharded and not isinstance(parameter, DTensor)
        ]
        if missed:
            raise ModelError(f"train.shard: {len(missed)} weights are not sharded, e.g. {missed[0]}; set it to false")

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Temporarily gathers all blocks in every process, for generation, which would gather them for each token.

        All processes must enter together. Inside the context they may do different work.
        """
        for block in self.blocks:
            block.unshard()
            block.set_reshard_after_forward(False, recurse=False)
        try:
            yield
        finally:
            for block in self.blocks:
                block.set_reshard_after_forward(True, recurse=False)
            # Shards the blocks again and resets FSDP's state. Otherwise, the next backward pass of this process would
            # gather blocks in another order than the other processes.
            self.root.reset_iter_state()
