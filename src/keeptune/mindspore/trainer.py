"""Training with MindSpore: the loop, the plan and the checkpoints are the usual ones, the steps are taken elsewhere.

MindSpore wants numpy 1 and must be imported before other libraries, so it runs in a process and a Python of its own
(`make setup-mindspore`). It gets the rows, the base's weights and the adapter once, then one request a step; before a
checkpoint or a score the adapter and the optimiser's state come back. So a checkpoint is of no engine: what one saved
the other goes on with.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from keeptune.config.recipe import Recipe
from keeptune.config.train import TrainSection
from keeptune.errors import RecipeError
from keeptune.files import unwritable
from keeptune.mindspore import ckpt, job
from keeptune.mindspore.tensors import restored, stored
from keeptune.mindspore.workers import WORKERS, Workers
from keeptune.models.adapters import added_parameters, base_weights, causal_model
from keeptune.training import checkpoints
from keeptune.training.batches import TokenizedExample, split_step
from keeptune.training.distributed import distributed_context
from keeptune.training.loop import ScoreFunction, StepRecord, StopCriterion, Trainer
from keeptune.training.optimizer import BETAS, EPSILON
from keeptune.training.schedule import learning_rate

_MEANS = {True: ("exp_avg", "exp_avg_sq"), False: ("m", "v")}
"""What the optimisers call their two means: torch's AdamW, and ours without correction."""


def require_supported(model: Any, recipe: Recipe) -> None:
    """errors: RecipeError listing all that the engine cannot do, of a recipe and its model."""
    config, adapter, train, retain = causal_model(model).config, recipe.adapter, recipe.train, recipe.retain
    faults = [
        told
        for wrong, told in (
            (config.model_type != "llama", f"model: a {config.model_type}; the engine knows Llamas"),
            (getattr(config, "attention_bias", False) or getattr(config, "mlp_bias", False), "model: it has biases"),
            (adapter.family not in ("lora", "rslora"), f"adapter.family: {adapter.family}; choose lora or rslora"),
            (adapter.dropout > 0, "adapter.dropout: set it to 0"),
            (retain.kl_weight > 0, "retain.kl_weight: set it to 0"),
            (retain.token_weighting != "none", "retain.token_weighting: leave it out"),
            (retain.activation != "always", "retain.activation: leave it out"),
            (retain.project_start > 0, "retain.project_start: leave it out"),
            (train.activation_checkpointing == "always", "train.activation_checkpointing: always; leave it out"),
            (distributed_context().world_size > 1, f"several processes of keeptune; start one, and set {WORKERS}"),
        )
        if wrong
    ]
    if faults:
        listed = "".join(f"\n  - {fault}" for fault in faults)
        raise RecipeError(f"engine: mindspore cannot train this; change it, or take engine: torch:{listed}")


class MindSporeTrainer(Trainer):
    """A trainer whose steps MindSpore takes."""

    def __init__(
        self, model: Any, examples: Sequence[TokenizedExample], settings: TrainSection, seed: int, run: Path
    ) -> None:
        super().__init__(model, examples, settings, seed, run)
        self.workers = Workers()
        self.scratch = run / "mindspore"
        self.named = {name.replace(".default", ""): p for name, p in added_parameters(model).items()}

    def run(
        self,
        on_step: Callable[[StepRecord], None],
        score: ScoreFunction | None = None,
        enough: StopCriterion | None = None,
    ) -> checkpoints.Progress:
        """As of Trainer. errors: also TrainingError when MindSpore ends, with the last that it said."""
        try:
            return super().run(on_step, score, enough)
        finally:
            # What was handed over is of no use any more; what MindSpore said may be.
            if self.workers.end():
                shutil.rmtree(self.scratch, ignore_errors=True)

    def _resume(self) -> checkpoints.Progress:
        progress = super()._resume()
        try:
            self._hand_over()
        except OSError as error:
            raise unwritable(self.scratch, error) from None
        self.workers.start(self.scratch)
        return progress

    def _step(self, index: int) -> StepRecord:
        started = time.perf_counter()
        rate = learning_rate(index, len(self.plan), self.settings)
        common = {"weight": self._token_weight(index), "rate": rate, "step": index + 1}
        dealt = split_step(self.plan[index], self.lengths, self.workers.count)
        told = self.workers.ask([{"batches": batches, **common} for batches in dealt])
        rows = {row: (total, count) for own in told for row, total, count in own["losses"]}
        norm = float(told[0]["norm"])
        if refused := tuple(row for row, (total, _) in rows.items() if not math.isfinite(total)):
            self._raise_not_finite(index, refused, "loss")
        if not math.isfinite(norm):
            self._raise_not_finite(index, tuple(rows), "gradient")
        seconds, tokens = time.perf_counter() - started, self.step_tokens[index]
        by_kind = {
            kind: _mean([own for row, own in rows.items() if self.examples[row].kind == kind])
            for kind in sorted({self.examples[row].kind for row in rows})
        }
        loss, speed = _mean(list(rows.values())), tokens / seconds
        return StepRecord(index + 1, len(self.plan), tokens, loss, by_kind, None, rate, norm, speed, seconds)

    def _save(self, progress: checkpoints.Progress) -> None:
        self._take_back(progress.step)
        super()._save(progress)

    def _hand_over(self) -> None:
        """Everything that the other process needs, as files."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True)
        self._job().write(self.scratch)
        tokens, labelled = zip(*((row.tokens, row.loss_mask) for row in self.examples), strict=True)
        job.Rows.of(tokens, labelled).write(self.scratch)
        weights = base_weights(self.peft_model)
        weights[job.INVERSE_FREQUENCIES] = causal_model(self.peft_model).get_decoder().rotary_emb.inv_freq.float()
        ckpt.write(self.scratch / job.BASE, [stored(name, own) for name, own in weights.items()])
        ckpt.write(self.scratch / job.STATE, [stored(name, own) for name, own in self._state().items()])

    def _job(self) -> job.Job:
        base, train = causal_model(self.peft_model), self.settings
        config, layers = base.config, [m for m in self.peft_model.modules() if hasattr(m, "lora_A")]
        heads = config.num_attention_heads
        shape = job.Shape(
            layers=config.num_hidden_layers,
            heads=heads,
            groups=config.num_key_value_heads,
            head_size=getattr(config, "head_dim", None) or config.hidden_size // heads,
            epsilon=config.rms_norm_eps,
            attention_scale=float(base.get_decoder().rotary_emb.attention_scaling),
            tied=bool(config.tie_word_embeddings),
        )
        corrected = train.optimizer == "adamw"
        optimiser = job.Optimiser(corrected, *BETAS, EPSILON, train.weight_decay, train.clip_norm)
        adapted = {_layer(name): train.loraplus_ratio for name in self.named}
        half = any(p.dtype == torch.bfloat16 for p in base.parameters()) and _on_ascend()
        scale = float(layers[0].scaling["default"])
        return job.Job(shape, optimiser, adapted, scale, train.tokens_per_batch, half)

    def _state(self) -> dict[str, Tensor]:
        """The adapter and, after a first step, the optimiser's means, by the engine's names."""
        tensors: dict[str, Tensor] = {_engine_name(name): own for name, own in self.named.items()}
        for name, parameter in self.named.items():
            state = self.optimizer.state.get(parameter, {})
            for prefix, mean in zip(job.MEANS, self._means, strict=True):
                if mean in state:
                    tensors[f"{prefix}{_engine_name(name)}"] = state[mean]
        return tensors

    @property
    def _means(self) -> tuple[str, str]:
        return _MEANS[self.settings.optimizer == "adamw"]

    def _take_back(self, step: int) -> None:
        """Puts the engine's adapter and means into the model and the optimiser here."""
        path = self.scratch / "saved.ckpt"
        self.workers.ask([{"save": str(path)}])
        tensors = {name: restored(own) for name, own in ckpt.read(path).items()}
        with torch.no_grad():
            for name, parameter in self.named.items():
                parameter.copy_(tensors[_engine_name(name)])
                state = {
                    mean: tensors[f"{prefix}{_engine_name(name)}"].to(parameter.device)
                    for prefix, mean in zip(job.MEANS, self._means, strict=True)
                }
                counted = {"step": torch.tensor(float(step))} if self.settings.optimizer == "adamw" else {}
                self.optimizer.state[parameter] = {**counted, **state}


def _on_ascend() -> bool:
    return Path("/dev/davinci_manager").exists()


def _mean(losses: Sequence[tuple[float, int]]) -> float:
    return sum(total for total, _ in losses) / sum(count for _, count in losses)


def _engine_name(name: str) -> str:
    """A LoRA tensor's name, as the layer's in the base and its half."""
    return name.removeprefix("base_model.model.")


def _layer(name: str) -> str:
    return _engine_name(name).rsplit(".lora_", 1)[0]
