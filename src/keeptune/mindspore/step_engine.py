"""The engine that lets MindSpore compute the steps. The loop, the plan and the checkpoints are those of PyTorch.

MindSpore needs numpy 1 and must be imported before other libraries. It therefore runs in separate processes in another
Python (`make setup-mindspore`). They receive the rows, the base's weights and the adapter once, then one request per
step. Before each checkpoint or score, the adapter and the optimizer state are copied back. Checkpoints therefore do not
depend on the engine: either engine resumes what the other saved.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from keeptune.config.recipe import Recipe
from keeptune.config.train import TrainSection
from keeptune.errors import RecipeError
from keeptune.files import write_error
from keeptune.mindspore import ckpt, job
from keeptune.mindspore.tensors import to_ckpt, to_torch
from keeptune.mindspore.workers import WORKERS, Workers
from keeptune.models.adapters import added_parameters, base_weights, causal_model
from keeptune.training.batches import Batch, TokenizedExample, split_step
from keeptune.training.distributed import distributed_context
from keeptune.training.gradient import initial_loss_scale
from keeptune.training.optimizer import BETAS, EPSILON, create_optimizer
from keeptune.training.step_statistics import StepStatistics

_MOMENT_KEYS = {True: ("exp_avg", "exp_avg_sq"), False: ("m", "v")}
"""The state keys of the two moments: torch's AdamW (True), and keeptune's Adam without bias correction."""


def require_supported(model: Any, recipe: Recipe) -> None:
    """Checks that the engine supports a recipe and its model.

    Raises:
        RecipeError: listing all unsupported settings.
    """
    config, adapter, train, retain = causal_model(model).config, recipe.adapter, recipe.train, recipe.retain
    has_bias = getattr(config, "attention_bias", False) or getattr(config, "mlp_bias", False)
    faults = [
        message
        for is_unsupported, message in (
            (config.model_type != "llama", f"model: must be a Llama (got {config.model_type})"),
            (has_bias, "model: must have no biases in attention and MLP"),
            (
                adapter.family not in ("lora", "rslora"),
                f"adapter.family: must be lora or rslora (got {adapter.family})",
            ),
            (adapter.dropout > 0, "adapter.dropout: must be 0"),
            (adapter.start_rate_ratio != 1, "adapter.start_rate_ratio: must be 1"),
            (retain.kl_weight > 0, "retain.kl_weight: must be 0"),
            (retain.token_weighting != "none", "retain.token_weighting: must be none"),
            (retain.activation != "always", "retain.activation: must be always"),
            (retain.project_start > 0, "retain.project_start: must be 0"),
            (train.activation_checkpointing == "always", "train.activation_checkpointing: must not be always"),
            (distributed_context().world_size > 1, f"several keeptune processes: start one, and set {WORKERS} instead"),
        )
        if is_unsupported
    ]
    if faults:
        listed = "".join(f"\n  - {fault}" for fault in faults)
        raise RecipeError(
            f"engine: mindspore does not support this recipe; change these settings, or set engine: torch{listed}"
        )


class MindSporeEngine:
    """Lets MindSpore processes take the steps; implements keeptune.training.step_engine.StepEngine.

    Methods raise TrainingError when a process exits; the message has the end of its log.
    """

    def __init__(self, model: Any, examples: Sequence[TokenizedExample], settings: TrainSection, run: Path) -> None:
        self.peft_model, self.examples, self.settings = model, examples, settings
        self.lengths = [len(example.tokens) for example in examples]
        self.optimizer, self.loss_scale = create_optimizer(model, settings), initial_loss_scale(model)
        self.kl_weight = 0.0
        self.workers = Workers()
        self.scratch = run / "mindspore"
        self.trained = {name.replace(".default", ""): p for name, p in added_parameters(model).items()}

    def start(self) -> None:
        """Hands the job and the current state to the processes."""
        try:
            self._write_inputs()
        except OSError as error:
            raise write_error(self.scratch, error) from None
        self.workers.start(self.scratch)

    def step(
        self, index: int, batches: Sequence[Batch], token_weight: float, rate: float
    ) -> tuple[StepStatistics, float]:
        """Takes one step; see `StepEngine.step`."""
        common = {"weight": token_weight, "rate": rate, "step": index + 1}
        dealt = split_step(batches, self.lengths, self.workers.count)
        answers = self.workers.request([{"batches": part, **common} for part in dealt])
        rows = {row: (total, count) for answer in answers for row, total, count in answer["losses"]}
        statistics = StepStatistics()
        for row, (total, count) in rows.items():
            statistics.add_loss(self.examples[row].kind, total, count)
        statistics.non_finite_batch = tuple(row for row, (total, _) in rows.items() if not math.isfinite(total)) or None
        return statistics, float(answers[0]["norm"])

    def synchronize(self, step: int) -> None:
        """Copies the processes' adapter and moments into the model and the optimizer."""
        path = self.scratch / "saved.ckpt"
        self.workers.request([{"save": str(path)}])
        tensors = {name: to_torch(tensor) for name, tensor in ckpt.read(path).items()}
        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(tensors[_engine_name(name)])
                state = {
                    key: tensors[f"{prefix}{_engine_name(name)}"].to(parameter.device)
                    for prefix, key in zip(job.MOMENT_PREFIXES, self._moment_keys, strict=True)
                }
                step_count = {"step": torch.tensor(float(step))} if self.settings.optimizer == "adamw" else {}
                self.optimizer.state[parameter] = {**step_count, **state}

    def gathered(self) -> AbstractContextManager[None]:
        """The model is always whole in this process."""
        return nullcontext()

    def stop(self) -> None:
        """Ends the processes. Their folder, which has the log, stays if one of them failed."""
        if self.workers.stop():
            shutil.rmtree(self.scratch, ignore_errors=True)

    def _write_inputs(self) -> None:
        """Writes the job, the rows, the base's weights and the state for the engine."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True)
        self._job().write(self.scratch)
        tokens, labelled = zip(*((row.tokens, row.loss_mask) for row in self.examples), strict=True)
        job.Rows.from_lists(tokens, labelled).write(self.scratch)
        weights = base_weights(self.peft_model)
        weights[job.INVERSE_FREQUENCIES] = causal_model(self.peft_model).get_decoder().rotary_emb.inv_freq.float()
        ckpt.write(self.scratch / job.BASE_FILE, [to_ckpt(name, tensor) for name, tensor in weights.items()])
        ckpt.write(self.scratch / job.STATE_FILE, [to_ckpt(name, tensor) for name, tensor in self._state().items()])

    def _job(self) -> job.Job:
        base, train = causal_model(self.peft_model), self.settings
        config, layers = base.config, [m for m in self.peft_model.modules() if hasattr(m, "lora_A")]
        heads = config.num_attention_heads
        shape = job.Shape(
            layers=config.num_hidden_layers,
            heads=heads,
            key_value_heads=config.num_key_value_heads,
            head_size=getattr(config, "head_dim", None) or config.hidden_size // heads,
            epsilon=config.rms_norm_eps,
            attention_scale=float(base.get_decoder().rotary_emb.attention_scaling),
            is_tied=bool(config.tie_word_embeddings),
        )
        has_bias_correction = train.optimizer == "adamw"
        optimizer = job.Optimizer(has_bias_correction, *BETAS, EPSILON, train.weight_decay, train.clip_norm)
        adapted = {_layer_name(name): train.loraplus_ratio for name in self.trained}
        is_half = any(p.dtype == torch.bfloat16 for p in base.parameters()) and _has_ascend()
        scale = float(layers[0].scaling["default"])
        return job.Job(shape, optimizer, adapted, scale, train.tokens_per_batch, is_half)

    def _state(self) -> dict[str, Tensor]:
        """The adapter and, after the first step, the optimizer's moments, under the engine's names."""
        tensors: dict[str, Tensor] = {_engine_name(name): parameter for name, parameter in self.trained.items()}
        for name, parameter in self.trained.items():
            state = self.optimizer.state.get(parameter, {})
            for prefix, key in zip(job.MOMENT_PREFIXES, self._moment_keys, strict=True):
                if key in state:
                    tensors[f"{prefix}{_engine_name(name)}"] = state[key]
        return tensors

    @property
    def _moment_keys(self) -> tuple[str, str]:
        return _MOMENT_KEYS[self.settings.optimizer == "adamw"]


def _has_ascend() -> bool:
    return Path("/dev/davinci_manager").exists()


def _engine_name(name: str) -> str:
    """A LoRA tensor's name without PEFT's prefix."""
    return name.removeprefix("base_model.model.")


def _layer_name(name: str) -> str:
    return _engine_name(name).rsplit(".lora_", 1)[0]
