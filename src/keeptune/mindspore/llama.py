"""A Llama with LoRA in plain MindSpore, for graphs of fixed shapes. It runs in a Python without torch.

Weights have Hugging Face's names. Frozen weights keep the base's dtype; the adapter and all sums are float32. Logits
are computed for one chunk of the labelled tokens at a time. The output layer is frozen, so the forward pass can compute
the gradient at the last hidden states, and the backward pass keeps nothing of a chunk.
"""

from __future__ import annotations

from typing import Any

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

from keeptune.mindspore.job import INVERSE_FREQUENCIES, Job

CHUNK_TOKENS = 256
_MASKED_SCORE = -1e9


class Linear(nn.Cell):
    """A frozen linear layer, with or without LoRA."""

    def __init__(self, name: str, weights: dict[str, Tensor], adapter: dict[str, Parameter], scale: float) -> None:
        super().__init__()
        self.weight = frozen_parameter(name, weights[f"{name}.weight"])
        self.has_lora = f"{name}.lora_A.weight" in adapter
        self.scale = scale
        if self.has_lora:
            self.a, self.b = adapter[f"{name}.lora_A.weight"], adapter[f"{name}.lora_B.weight"]

    def construct(self, x: Tensor) -> Tensor:
        """Shapes: (tokens, inputs) to (tokens, outputs)."""
        y = ops.matmul(x, self.weight.T)
        if self.has_lora:
            low_rank = ops.matmul(x.astype(ms.float32), self.a.T)
            y = y + (self.scale * ops.matmul(low_rank, self.b.T)).astype(y.dtype)
        return y


class Norm(nn.Cell):
    """RMSNorm, computed in float32."""

    def __init__(self, name: str, weights: dict[str, Tensor], epsilon: float) -> None:
        super().__init__()
        self.weight, self.epsilon = frozen_parameter(name, weights[f"{name}.weight"]), epsilon

    def construct(self, x: Tensor) -> Tensor:
        """Shape: (tokens, hidden), in and out."""
        wide = x.astype(ms.float32)
        scaled = wide * ops.rsqrt(ops.mean(wide * wide, -1, True) + self.epsilon)
        return self.weight * scaled.astype(x.dtype)


class Block(nn.Cell):
    """One decoder layer: causal attention and the gated MLP."""

    def __init__(self, number: int, job: Job, weights: dict[str, Tensor], adapter: dict[str, Parameter]) -> None:
        super().__init__()
        shape, prefix = job.shape, f"model.layers.{number}"

        def linear(name: str) -> Linear:
            return Linear(f"{prefix}.{name}", weights, adapter, job.lora_scale)

        self.uses_flash = job.is_half  # Ascend's flash attention kernel, for bfloat16
        self.heads, self.key_value_heads, self.head_size = shape.heads, shape.key_value_heads, shape.head_size
        self.query, self.key, self.value = (linear(f"self_attn.{name}_proj") for name in "qkv")
        self.out = linear("self_attn.o_proj")
        self.gate, self.up, self.down = (linear(f"mlp.{name}_proj") for name in ("gate", "up", "down"))
        self.input_norm = Norm(f"{prefix}.input_layernorm", weights, shape.epsilon)
        self.mlp_norm = Norm(f"{prefix}.post_attention_layernorm", weights, shape.epsilon)

    def construct(self, x: Tensor, rows: int, cosines: Tensor, sines: Tensor, mask: Tensor) -> Tensor:
        """Shapes: x (rows · tokens, hidden); cosines, sines (tokens, head_size); mask (tokens, tokens)."""
        x = x + self.attention(self.input_norm(x), rows, cosines, sines, mask)
        y = self.mlp_norm(x)
        gate = self.gate(y)
        return x + self.down(gate * ops.sigmoid(gate) * self.up(y))

    def attention(self, x: Tensor, rows: int, cosines: Tensor, sines: Tensor, mask: Tensor) -> Tensor:
        """The attention output, before the residual addition. Shapes: as in `construct`."""
        query = rotate(self.split_heads(self.query(x), rows, self.heads), cosines, sines)
        key = rotate(self.split_heads(self.key(x), rows, self.key_value_heads), cosines, sines)
        value = self.split_heads(self.value(x), rows, self.key_value_heads)
        scale = self.head_size**-0.5
        if self.uses_flash:
            options = {"attn_mask": mask, "scalar_value": scale, "input_layout": "BNSD"}
            mixed = ops.flash_attention_score(query, key, value, self.heads, **options)
        else:
            scores = ops.matmul(query, self.repeat_heads(key).swapaxes(-1, -2)).astype(ms.float32) * scale + mask
            mixed = ops.matmul(ops.softmax(scores, -1).astype(value.dtype), self.repeat_heads(value))
        return self.out(mixed.swapaxes(1, 2).reshape(x.shape[0], -1))

    def split_heads(self, x: Tensor, rows: int, heads: int) -> Tensor:
        """Shapes: (rows · tokens, heads · head_size) to (rows, heads, tokens, head_size)."""
        return x.reshape(rows, -1, heads, self.head_size).swapaxes(1, 2)

    def repeat_heads(self, x: Tensor) -> Tensor:
        """Repeats keys or values for the query heads of their group.

        Shapes: (rows, key-value heads, …) to (rows, heads, …).
        """
        rows, groups, tokens, size = x.shape
        heads_per_group = self.heads // groups
        return ops.broadcast_to(x.expand_dims(2), (rows, groups, heads_per_group, tokens, size)).reshape(
            rows, self.heads, tokens, size
        )


class Objective(nn.Cell):
    """The surrogate loss to minimize, and the cross-entropy of each labelled token.

    The surrogate has the gradient of the weighted sum of the cross-entropies.
    """

    def __init__(self, job: Job, weights: dict[str, Tensor], adapter: dict[str, Parameter]) -> None:
        super().__init__()
        self.embedding = frozen_parameter("model.embed_tokens", weights["model.embed_tokens.weight"])
        self.blocks = nn.CellList([Block(number, job, weights, adapter) for number in range(job.shape.layers)])
        self.norm = Norm("model.norm", weights, job.shape.epsilon)
        is_tied = job.shape.is_tied
        self.head = self.embedding if is_tied else frozen_parameter("lm_head", weights["lm_head.weight"])
        self.inverse_frequencies = weights[INVERSE_FREQUENCIES].astype(ms.float32)
        self.attention_scale, self.uses_flash = job.shape.attention_scale, job.is_half

    def construct(self, ids: Tensor, positions: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Shapes: ids (rows, tokens); positions, labels, weights (rows · tokens,); results (), (rows · tokens,)."""
        states = ops.gather(self.hidden_states(ids), positions, 0)
        losses, gradients = self.losses_and_gradients(ops.stop_gradient(states), labels, weights)
        surrogate = (states.astype(ms.float32) * ops.stop_gradient(gradients)).sum()
        return surrogate, losses

    def hidden_states(self, ids: Tensor) -> Tensor:
        """The last hidden states. Shapes: (rows, tokens) to (rows · tokens, hidden)."""
        rows, tokens = ids.shape
        angles = ops.arange(tokens).astype(ms.float32).expand_dims(1) * self.inverse_frequencies.expand_dims(0)
        angles = ops.concat((angles, angles), -1)
        cosines, sines = ops.cos(angles) * self.attention_scale, ops.sin(angles) * self.attention_scale
        future = ops.triu(ops.ones((tokens, tokens), ms.float32), 1)
        mask = future.astype(ms.uint8) if self.uses_flash else future * _MASKED_SCORE
        x = ops.gather(self.embedding, ids.reshape(-1), 0)
        for block in self.blocks:
            x = block(x, rows, cosines, sines, mask)
        return self.norm(x)

    def losses_and_gradients(self, states: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Each label's cross-entropy, and the gradient of the weighted sum at its hidden state.

        Shapes: states (labels, hidden); labels, weights (labels,); results (labels,), (labels, hidden).
        """
        losses, gradients = [], []
        for start in range(0, states.shape[0], CHUNK_TOKENS):
            chunk, targets = states[start : start + CHUNK_TOKENS], labels[start : start + CHUNK_TOKENS]
            weight = weights[start : start + CHUNK_TOKENS].expand_dims(1)
            logits = ops.matmul(chunk, self.head.T).astype(ms.float32)
            log_normalizer = ops.logsumexp(logits, -1, True)
            target_logits = ops.gather_elements(logits, 1, targets.expand_dims(1))
            losses.append((log_normalizer - target_logits).reshape(-1))
            weighted_probabilities = (ops.exp(logits - log_normalizer) * weight).astype(chunk.dtype)
            target_rows = ops.gather(self.head, targets, 0).astype(ms.float32) * weight
            gradients.append(ops.matmul(weighted_probabilities, self.head).astype(ms.float32) - target_rows)
        return ops.concat(losses), ops.concat(gradients)


def frozen_parameter(name: str, value: Tensor) -> Parameter:
    """A weight that is not trained."""
    return Parameter(value, name=name, requires_grad=False)


def rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Applies the rotary position embedding to queries or keys.

    Shape: (rows, heads, tokens, head_size), in and out; the two halves of head_size form the pairs.
    """
    half = x.shape[-1] // 2
    wide = x.astype(ms.float32)
    crossed = ops.concat((-wide[..., half:], wide[..., :half]), -1)
    return (wide * cosines + crossed * sines).astype(x.dtype)


def adapter_parameters(tensors: dict[str, Tensor]) -> dict[str, Parameter]:
    """The trained tensors as float32 parameters, by name."""
    return {name: Parameter(value.astype(ms.float32), name=name) for name, value in tensors.items()}


def gradient_function(objective: Objective, parameters: list[Parameter]) -> Any:
    """A function that returns ((surrogate, losses), gradients) of a micro-batch."""
    return ms.value_and_grad(objective, None, weights=ms.ParameterTuple(parameters), has_aux=True)
