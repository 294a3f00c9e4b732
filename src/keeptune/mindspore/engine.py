"""The MindSpore engine: a process that takes one training step after the other, as it is told.

    python -m keeptune.mindspore.engine FOLDER ANSWERS

FOLDER holds a job, its rows, the base's weights and the state to begin with. Requests come as lines of JSON on the
standard input, answers go out through the file descriptor ANSWERS, for MindSpore writes what it likes to the others.
`{"batches": […], "weight": w, "rate": r, "step": n}` takes the n-th step along the gradient of these batches, in which
every labelled token counts w, and answers with each row's losses and the gradient's norm; `{"save": FILE}` writes the
adapter and the optimiser's means. The process ends with its input. Several, joined as MindSpore's dynamic cluster (its
MS_ROLE and so on), each take their batches, add their gradients up and make the same move.

On processors it computes in float32. On Ascend (bfloat16, flash attention) it has never been run.
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

from keeptune.mindspore.job import BASE, INVERSE_FREQUENCIES, MEANS, STATE, Job, Optimiser, Pass, Rows, passes
from keeptune.mindspore.llama import Objective, adapter_parameters, gradient_function

_add = ops.MultitypeFuncGraph("add")


@_add.register("Tensor", "Tensor")
def _add_to(total: Tensor, own: Tensor) -> Any:
    return ops.assign_add(total, own)


class Gradient(nn.Cell):
    """Adds the gradient of one pass to the sums of the step, and gives the loss of each labelled token."""

    def __init__(self, objective: Objective, parameters: list[Parameter], sums: list[Parameter]) -> None:
        super().__init__()
        self.objective, self.sums = objective, ms.ParameterTuple(sums)
        self.gradient, self.each = gradient_function(objective, parameters), ops.HyperMap()

    def construct(self, ids: Tensor, places: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """shapes: as of Objective."""
        (_, losses), gradients = self.gradient(ids, places, labels, weights)
        return ops.depend(losses, self.each(_add, self.sums, gradients))


class Together(nn.Cell):
    """Adds up what every process has."""

    def __init__(self) -> None:
        super().__init__()
        self.reduce = ops.AllReduce()

    def construct(self, own: Tensor) -> Tensor:
        """shape: (parameters,), in and out."""
        return self.reduce(own)


class Engine:
    """The model, the adapter in training and its optimiser."""

    def __init__(self, folder: Path, together: Together | None) -> None:
        self.together = together
        self.job, self.rows = Job.read(folder), Rows.read(folder)
        state = ms.load_checkpoint(str(folder / STATE))
        trained = {name: tensor for name, tensor in state.items() if not name.startswith(MEANS)}
        self.adapter = adapter_parameters(trained)
        self.means = {
            prefix: {name: _mean(prefix, name, state, tensor.shape) for name, tensor in self.adapter.items()}
            for prefix in MEANS
        }
        self.sums = [Parameter(ops.zeros_like(own), name=f"sum.{name}") for name, own in self.adapter.items()]
        objective = Objective(self.job, _weights(folder, self.job.half), self.adapter)
        self.gradient = Gradient(objective, list(self.adapter.values()), self.sums)

    def step(self, batches: Sequence[Sequence[int]], weight: float, rate: float, number: int) -> dict[str, Any]:
        """One step: each row's summed loss and number of labelled tokens, and the norm of the gradient of all."""
        losses: dict[int, list[float]] = {}
        for batch in batches:
            for own in passes(self.rows, batch, self.job.tokens_per_batch, weight):
                found = self.gradient(*map(Tensor, own[:4])).asnumpy()
                _note(losses, own, found)
        told = [[index, total, count] for index, (total, count) in losses.items()]
        return {"losses": told, "norm": self._move(rate, number)}

    def _move(self, rate: float, number: int) -> float:
        """Takes the step, unless its gradient is not finite; the norm of the gradient, before it is clipped."""
        adam = self.job.optimiser
        flat = np.concatenate([total.asnumpy().reshape(-1) for total in self.sums])
        if self.together:
            flat = self.together(Tensor(flat)).asnumpy()
        norm = math.sqrt(float(np.square(flat, dtype=np.float64).sum()))
        if math.isfinite(norm):
            flat *= min(1.0, adam.clip_norm / (norm + 1e-6))
            parts = np.split(flat, np.cumsum([total.size for total in self.sums])[:-1])
            for (name, own), part in zip(self.adapter.items(), parts, strict=True):
                layer = name.removesuffix(".lora_B.weight")
                faster = self.job.adapted.get(layer, 1.0) if name.endswith(".lora_B.weight") else 1.0
                gradient = part.reshape(own.shape)
                own.set_data(Tensor(self._moved(adam, name, own.asnumpy(), gradient, rate * faster, number)))
        for total in self.sums:
            total.set_data(ops.zeros_like(total))
        return norm

    def _moved(self, adam: Optimiser, name: str, own: Any, gradient: Any, rate: float, number: int) -> Any:
        """A tensor after its step; its means go on."""
        first, second = (self.means[prefix] for prefix in MEANS)
        first[name] = adam.beta1 * first[name] + (1 - adam.beta1) * gradient
        second[name] = adam.beta2 * second[name] + (1 - adam.beta2) * gradient * gradient
        corrected = [1 - beta**number if adam.corrected else 1.0 for beta in (adam.beta1, adam.beta2)]
        change = first[name] / corrected[0] / (np.sqrt(second[name] / corrected[1]) + adam.epsilon)
        return (own - rate * (change + adam.weight_decay * own)).astype(np.float32)

    def save(self, path: Path) -> None:
        """Writes the adapter and the optimiser's means."""
        tensors = {name: own.asnumpy() for name, own in self.adapter.items()}
        for prefix, means in self.means.items():
            tensors |= {f"{prefix}{name}": own for name, own in means.items()}
        named = [{"name": name, "data": Tensor(own.astype(np.float32))} for name, own in tensors.items()]
        ms.save_checkpoint(named, str(path))


def _weights(folder: Path, half: bool) -> dict[str, Tensor]:
    dtype = ms.bfloat16 if half else ms.float32
    loaded = ms.load_checkpoint(str(folder / BASE))
    return {name: own if name == INVERSE_FREQUENCIES else own.astype(dtype) for name, own in loaded.items()}


def _mean(prefix: str, name: str, state: dict[str, Parameter], shape: tuple[int, ...]) -> Any:
    stored = state.get(f"{prefix}{name}")
    return np.zeros(shape, np.float32) if stored is None else stored.asnumpy()


def _note(losses: dict[int, list[float]], own: Pass, found: Any) -> None:
    for index, loss in zip(own.owners, found, strict=False):
        total = losses.setdefault(index, [0.0, 0])
        total[0] += float(loss)
        total[1] += 1


def main() -> None:
    """Answers requests until there are no more."""
    folder = Path(sys.argv[1])
    ms.set_context(mode=ms.GRAPH_MODE)
    if "MS_ROLE" in os.environ:
        init()
    with os.fdopen(int(sys.argv[2]), "w", encoding="utf-8") as answers:
        engine = Engine(folder, Together() if "MS_ROLE" in os.environ else None)
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
