"""The frozen base model divided over processes (PyTorch's FSDP2), so that each holds a part of every block.

The adapter stays whole on each process, under one percent of the parameters: so it is trained, saved and resumed as
ever, and as the base gets no gradient, nothing is reduced. A block's weights are gathered when it is computed, forward
and backward, and given back. What is outside the blocks stays whole: the loss uses the output layer as a plain tensor.
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
from keeptune.models.adapter import added_parameters
from keeptune.models.peft_config import list_of_layers


class Shards:
    """A model whose blocks' frozen weights are divided over a mesh of processes."""

    def __init__(self, tuned: Any, mesh: DeviceMesh) -> None:
        """errors: ModelError when a weight of a block was left whole."""
        causal = tuned.get_base_model()
        # The decoder holds nothing to divide. It is the root, which keeps the order of the blocks.
        self.root: Any = causal.get_decoder()
        self.blocks: list[Any] = list(getattr(self.root, list_of_layers(causal)))
        inside = {parameter for block in self.blocks for parameter in block.parameters()}
        whole: set[nn.Parameter] = {*added_parameters(tuned).values(), *(set(causal.parameters()) - inside)}
        for module in (*self.blocks, self.root):
            fully_shard(module, mesh=mesh, ignored_params=whole)
        self._require_divided(whole)
        # What is whole, too, goes to where the parts are.
        tuned.to(mesh.device_type)
        # The first pass settles which module is the root: here, where all processes make it.
        with torch.no_grad():
            self.root(input_ids=torch.zeros(1, 1, dtype=torch.long, device=mesh.device_type), use_cache=False)
        self.root.reset_iter_state()

    def _require_divided(self, whole: set[nn.Parameter]) -> None:
        # Never assumed: a wrapper that divides nothing trains just as well, until the memory runs out.
        left = [
            name
            for block in self.blocks
            for name, parameter in block.named_parameters()
            if parameter not in whole and not isinstance(parameter, DTensor)
        ]
        if left:
            raise ModelError(f"train.shard: {len(left)} weights are not divided, e.g. {left[0]}; set it to false")

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """While it lasts, every process holds the blocks whole, as for answers, which would gather them at each token.

        All processes have to enter together; within, they need not do the same.
        """
        for block in self.blocks:
            block.unshard()
            block.set_reshard_after_forward(False, recurse=False)
        try:
            yield
        finally:
            for block in self.blocks:
                block.set_reshard_after_forward(True, recurse=False)
            # Divides them again, and forgets what was computed here: else the next backward pass of this process
            # would gather blocks in another order than the others'.
            self.root.reset_iter_state()
