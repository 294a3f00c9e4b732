"""The MindSpore engine: a process that computes training steps on request.

    python -m keeptune.mindspore.engine FOLDER ANSWERS

FOLDER holds the job, its rows, the base's weights and the initial state. The process reads one JSON request per line
from standard input. It writes answers to the file descriptor ANSWERS, because MindSpore prints to standard output and
standard error. It exits at the end of its input.

`{"batches": […], "weight": w, "rate": r, "step": n}` takes the n-th step along the gradient of these batches, with loss
weight w per labelled token. The answer has each row's loss and the gradient's norm. `{"save": FILE}` writes the adapter
and the optimizer's moments. Several processes, joined as MindSpore's dynamic cluster (MS_ROLE and related variables),
each compute their batches, sum their gradients and apply the same update.

On CPUs it computes in float32. The Ascend path (bfloat16, flash attention) has never been run.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.communication import init

from keeptune.mindspore.job import (
    BASE_FILE,
    INVERSE_FREQUENCIES,
    MOMENT_PREFIXES,
    STATE_FILE,
    Job,
    MicroBatch,
    Optimizer,
    Rows,
    micro_batches,
)
from keeptune.mindspore.llama import Objective, adapter_parameters, gradient_function

_add = ops.MultitypeFuncGraph("add")


@_add.register("Tensor", "Tensor")
def _add_to(total: Tensor, gradient: Tensor) -> Any:
    return ops.assign_add(total, gradient)


class Gradient(nn.Cell):
    """Adds the gradient of a micro-batch to the sums of the step, and returns the loss of each labelled token."""

    def __init__(self, objective: Objective, parameters: list[Parameter], sums: list[Parameter]) -> None:
        super().__init__()
        self.objective, self.sums = objective, ms.ParameterTuple(sums)
        self.gradient, self.for_each = gradient_function(objective, parameters), ops.HyperMap()

    def construct(self, ids: Tensor, positions: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """Shapes: as in `Objective`."""
        (_, losses), gradients = self.gradient(ids, positions, labels, weights)
        return ops.depend(losses, self.for_each(_add, self.sums, gradients))


class AllReduce(nn.Cell):
    """Sums a tensor over all processes."""

    def __init__(self) -> None:
        super().__init__()
        self.reduce = ops.AllReduce()

    def construct(self, x: Tensor) -> Tensor:
        """Shape: (parameters,), in and out."""
        return self.reduce(x)


class Engine:
    """The model, its adapter and the optimizer state."""

    def __init__(self, folder: Path, all_reduce: AllReduce | None) -> None:
        self.all_reduce = all_reduce
        self.job, self.rows = Job.read(folder), Rows.read(folder)
        state = ms.load_checkpoint(str(folder / STATE_FILE))
        trained = {name: tensor for name, tensor in state.items() if not name.startswith(MOMENT_PREFIXES)}
        self.adapter = adapter_parameters(trained)
        self.moments = {
            prefix: {name: _load_moment(prefix, name, state, tensor.shape) for name, tensor in self.adapter.items()}
            for prefix in MOMENT_PREFIXES
        }
        self.sums = [Parameter(ops.zeros_like(tensor), name=f"sum.{name}") for name, tensor in self.adapter.items()]
        objective = Objective(self.job, _load_weights(folder, self.job.is_half), self.adapter)
        self.gradient = Gradient(objective, list(self.adapter.values()), self.sums)

    def step(self, batches: Sequence[Sequence[int]], weight: float, rate: float, number: int) -> dict[str, Any]:
        """Takes one step. The result has each row's summed loss and labelled tokens, and the gradient's norm."""
        losses: dict[int, list[float]] = {}
        for batch in batches:
            for micro_batch in micro_batches(self.rows, batch, self.job.tokens_per_batch, weight):
                token_losses = self.gradient(*map(Tensor, micro_batch[:4])).asnumpy()
                _add_losses(losses, micro_batch, token_losses)
        records = [[index, total, count] for index, (total, count) in losses.items()]
        return {"losses": records, "norm": self._update(rate, number)}

    def _update(self, rate: float, number: int) -> float:
        """Updates the adapter, unless the gradient is not finite, and returns the gradient's norm before clipping."""
        optimizer = self.job.optimizer
        flat = np.concatenate([total.asnumpy().reshape(-1) for total in self.sums])
        if self.all_reduce:
            flat = self.all_reduce(Tensor(flat)).asnumpy()
        norm = math.sqrt(float(np.square(flat, dtype=np.float64).sum()))
        if math.isfinite(norm):
            flat *= min(1.0, optimizer.clip_norm / (norm + 1e-6))
            parts = np.split(flat, np.cumsum([total.size for total in self.sums])[:-1])
            for (name, parameter), part in zip(self.adapter.items(), parts, strict=True):
                layer = name.removesuffix(".lora_B.weight")
                ratio = self.job.adapted.get(layer, 1.0) if name.endswith(".lora_B.weight") else 1.0
                gradient = part.reshape(parameter.shape)
                values = self._adam_step(optimizer, name, parameter.asnumpy(), gradient, rate * ratio, number)
                parameter.set_data(Tensor(values))
        for total in self.sums:
            total.set_data(ops.zeros_like(total))
        return norm

    def _adam_step(self, optimizer: Optimizer, name: str, values: Any, gradient: Any, rate: float, number: int) -> Any:
        """A tensor's values after the step. Also updates the tensor's moments."""
        beta1, beta2 = optimizer.beta1, optimizer.beta2
        first, second = (self.moments[prefix] for prefix in MOMENT_PREFIXES)
        first[name] = beta1 * first[name] + (1 - beta1) * gradient
        second[name] = beta2 * second[name] + (1 - beta2) * gradient * gradient
        corrections = [1 - beta**number if optimizer.has_bias_correction else 1.0 for beta in (beta1, beta2)]
        change = first[name] / corrections[0] / (np.sqrt(second[name] / corrections[1]) + optimizer.epsilon)
        return (values - rate * (change + optimizer.weight_decay * values)).astype(np.float32)

    def save(self, path: Path) -> None:
        """Writes the adapter and the optimizer's moments."""
        tensors = {name: parameter.asnumpy() for name, parameter in self.adapter.items()}
        for prefix, moments in self.moments.items():
            tensors |= {f"{prefix}{name}": moment for name, moment in moments.items()}
        records = [{"name": name, "data": Tensor(values.astype(np.float32))} for name, values in tensors.items()]
        ms.save_checkpoint(records, str(path))


def _load_weights(folder: Path, is_half: bool) -> dict[str, Tensor]:
    dtype = ms.bfloat16 if is_half else ms.float32
    tensors = ms.load_checkpoint(str(folder / BASE_FILE))
    return {name: tensor if name == INVERSE_FREQUENCIES else tensor.astype(dtype) for name, tensor in tensors.items()}


def _load_moment(prefix: str, name: str, state: dict[str, Parameter], shape: tuple[int, ...]) -> Any:
    stored = state.get(f"{prefix}{name}")
    return np.zeros(shape, np.float32) if stored is None else stored.asnumpy()


def _add_losses(losses: dict[int, list[float]], micro_batch: MicroBatch, token_losses: Any) -> None:
    """Adds each token's loss to its row; losses of padding at the end are ignored."""
    for index, loss in zip(micro_batch.row_indices, token_losses, strict=False):
        total = losses.setdefault(index, [0.0, 0])
        total[0] += float(loss)
        total[1] += 1


def main() -> None:
    """Answers requests until the end of standard input."""
    folder = Path(sys.argv[1])
    ms.set_context(mode=ms.GRAPH_MODE)
    if "MS_ROLE" in os.environ:
        init()
    with os.fdopen(int(sys.argv[2]), "w", encoding="utf-8") as answers:
        engine = Engine(folder, AllReduce() if "MS_ROLE" in os.environ else None)
        print(json.dumps({"ready": True}), file=answers, flush=True)
        for line in sys.stdin:
            request = json.loads(line)
            if "save" in request:
                engine.save(Path(request["save"]))
                answer: dict[str, Any] = {"saved": request["save"]}
            else:
                answer = engine.step(request["batches"], request["weight"], request["rate"], request["step"])
            print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
