"""A Llama with LoRA in plain MindSpore, for graphs of fixed shapes; it runs in a Python of its own, without torch.

Names are Hugging Face's. Frozen weights are as the base has them; the adapter and all sums are float32. Logits exist
for a chunk of the labelled tokens at a time: the output layer is frozen, so the gradient at the last hidden states is
formed in the forward pass, and nothing of a chunk is kept for the backward one.
"""

from __future__ import annotations

from typing import Any

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

from keeptune.mindspore.job import INVERSE_FREQUENCIES, Job

CHUNK_TOKENS = 256
_NEVER = -1e9


class Linear(nn.Cell):
    """A frozen linear layer, with LoRA or without."""

    def __init__(self, name: str, weights: dict[str, Tensor], adapter: dict[str, Parameter], scale: float) -> None:
        super().__init__()
        self.weight = frozen(name, weights[f"{name}.weight"])
        self.adapted = f"{name}.lora_A.weight" in adapter
        self.scale = scale
        if self.adapted:
            self.a, self.b = adapter[f"{name}.lora_A.weight"], adapter[f"{name}.lora_B.weight"]

    def construct(self, x: Tensor) -> Tensor:
        """shapes: (tokens, inputs) to (tokens, outputs)."""
        y = ops.matmul(x, self.weight.T)
        if self.adapted:
            low = ops.matmul(x.astype(ms.float32), self.a.T)
            y = y + (self.scale * ops.matmul(low, self.b.T)).astype(y.dtype)
        return y


class Norm(nn.Cell):
    """RMSNorm, computed in float32."""

    def __init__(self, name: str, weights: dict[str, Tensor], epsilon: float) -> None:
        super().__init__()
        self.weight, self.epsilon = frozen(name, weights[f"{name}.weight"]), epsilon

    def construct(self, x: Tensor) -> Tensor:
        """shape: (tokens, width), in and out."""
        wide = x.astype(ms.float32)
        scaled = wide * ops.rsqrt(ops.mean(wide * wide, -1, True) + self.epsilon)
        return self.weight * scaled.astype(x.dtype)


class Block(nn.Cell):
    """One layer: attention over what stands before, and the gated layer behind it."""

    def __init__(self, number: int, job: Job, weights: dict[str, Tensor], adapter: dict[str, Parameter]) -> None:
        super().__init__()
        shape, prefix = job.shape, f"model.layers.{number}"

        def linear(name: str) -> Linear:
            return Linear(f"{prefix}.{name}", weights, adapter, job.lora_scale)

        self.flash = job.half  # a kernel of Ascend's, for bfloat16
        self.heads, self.groups, self.head_size = shape.heads, shape.groups, shape.head_size
        self.query, self.key, self.value = (linear(f"self_attn.{name}_proj") for name in "qkv")
        self.out = linear("self_attn.o_proj")
        self.gate, self.up, self.down = (linear(f"mlp.{name}_proj") for name in ("gate", "up", "down"))
        self.before = Norm(f"{prefix}.input_layernorm", weights, shape.epsilon)
        self.behind = Norm(f"{prefix}.post_attention_layernorm", weights, shape.epsilon)

    def construct(self, x: Tensor, rows: int, cosines: Tensor, sines: Tensor, mask: Tensor) -> Tensor:
        """shapes: x (rows · tokens, width); cosines, sines (tokens, head_size); mask (tokens, tokens)."""
        x = x + self.attend(self.before(x), rows, cosines, sines, mask)
        y = self.behind(x)
        gate = self.gate(y)
        return x + self.down(gate * ops.sigmoid(gate) * self.up(y))

    def attend(self, x: Tensor, rows: int, cosines: Tensor, sines: Tensor, mask: Tensor) -> Tensor:
        """Attention, before it is added. shapes: as of construct."""
        query = turned(self.split(self.query(x), rows, self.heads), cosines, sines)
        key = turned(self.split(self.key(x), rows, self.groups), cosines, sines)
        value = self.split(self.value(x), rows, self.groups)
        scale = self.head_size**-0.5
        if self.flash:
            options = {"attn_mask": mask, "scalar_value": scale, "input_layout": "BNSD"}
            mixed = ops.flash_attention_score(query, key, value, self.heads, **options)
        else:
            scores = ops.matmul(query, self.shared(key).swapaxes(-1, -2)).astype(ms.float32) * scale + mask
            mixed = ops.matmul(ops.softmax(scores, -1).astype(value.dtype), self.shared(value))
        return self.out(mixed.swapaxes(1, 2).reshape(x.shape[0], -1))

    def split(self, x: Tensor, rows: int, heads: int) -> Tensor:
        """shapes: (rows · tokens, heads · head_size) to (rows, heads, tokens, head_size)."""
        return x.reshape(rows, -1, heads, self.head_size).swapaxes(1, 2)

    def shared(self, x: Tensor) -> Tensor:
        """Keys or values for every head of their group. shapes: (rows, groups, …) to (rows, heads, …)."""
        rows, groups, tokens, size = x.shape
        each = self.heads // groups
        return ops.broadcast_to(x.expand_dims(2), (rows, groups, each, tokens, size)).reshape(
            rows, self.heads, tokens, size
        )


class Objective(nn.Cell):
    """What training makes small, and the loss of every labelled token.

    The first is a stand-in whose gradient is that of the weighted sum of the losses.
    """

    def __init__(self, job: Job, weights: dict[str, Tensor], adapter: dict[str, Parameter]) -> None:
        super().__init__()
        self.embedding = frozen("model.embed_tokens", weights["model.embed_tokens.weight"])
        self.blocks = nn.CellList([Block(number, job, weights, adapter) for number in range(job.shape.layers)])
        self.norm = Norm("model.norm", weights, job.shape.epsilon)
        self.head = self.embedding if job.shape.tied else frozen("lm_head", weights["lm_head.weight"])
        self.frequencies = weights[INVERSE_FREQUENCIES].astype(ms.float32)
        self.attention_scale, self.flash = job.shape.attention_scale, job.half

    def construct(self, ids: Tensor, places: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """shapes: ids (rows, tokens); places, labels, weights (rows · tokens,); results (), (rows · tokens,)."""
        states = ops.gather(self.states(ids), places, 0)
        losses, gradients = self.from_states(ops.stop_gradient(states), labels, weights)
        stand_in = (states.astype(ms.float32) * ops.stop_gradient(gradients)).sum()
        return stand_in, losses

    def states(self, ids: Tensor) -> Tensor:
        """The last hidden states. shape: (rows · tokens, width)."""
        rows, tokens = ids.shape
        angles = ops.arange(tokens).astype(ms.float32).expand_dims(1) * self.frequencies.expand_dims(0)
        angles = ops.concat((angles, angles), -1)
        cosines, sines = ops.cos(angles) * self.attention_scale, ops.sin(angles) * self.attention_scale
        later = ops.triu(ops.ones((tokens, tokens), ms.float32), 1)
        mask = later.astype(ms.uint8) if self.flash else later * _NEVER
        x = ops.gather(self.embedding, ids.reshape(-1), 0)
        for block in self.blocks:
            x = block(x, rows, cosines, sines, mask)
        return self.norm(x)

    def from_states(self, states: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Each token's loss, and the gradient of their weighted sum at its state.

        shapes: states (labels, width); labels, weights (labels,); results (labels,), (labels, width).
        """
        losses, gradients = [], []
        for start in range(0, states.shape[0], CHUNK_TOKENS):
            some, wanted = states[start : start + CHUNK_TOKENS], labels[start : start + CHUNK_TOKENS]
            weight = weights[start : start + CHUNK_TOKENS].expand_dims(1)
            logits = ops.matmul(some, self.head.T).astype(ms.float32)
            total = ops.logsumexp(logits, -1, True)
            found = ops.gather_elements(logits, 1, wanted.expand_dims(1))
            losses.append((total - found).reshape(-1))
            likely = (ops.exp(logits - total) * weight).astype(some.dtype)
            away = ops.gather(self.head, wanted, 0).astype(ms.float32) * weight
            gradients.append(ops.matmul(likely, self.head).astype(ms.float32) - away)
        return ops.concat(losses), ops.concat(gradients)


def frozen(name: str, value: Tensor) -> Parameter:
    """A weight that is not trained."""
    return Parameter(value, name=name, requires_grad=False)


def turned(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Queries or keys, turned by their positions in halves. shape: (rows, heads, tokens, head_size), in and out."""
    half = x.shape[-1] // 2
    wide = x.astype(ms.float32)
    crossed = ops.concat((-wide[..., half:], wide[..., :half]), -1)
    return (wide * cosines + crossed * sines).astype(x.dtype)


def adapter_parameters(tensors: dict[str, Tensor]) -> dict[str, Parameter]:
    """The trained tensors by their names."""
    return {name: Parameter(value.astype(ms.float32), name=name) for name, value in tensors.items()}


def gradient_function(objective: Objective, parameters: list[Parameter]) -> Any:
    """((stand-in, losses), gradients) of a pass."""
    return ms.value_and_grad(objective, None, weights=ms.ParameterTuple(parameters), has_aux=True)
