"""What both peers share: they train with transformers' Trainer, so one callback counts their tokens and their time."""

from __future__ import annotations

import json
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from energy import a_token, joules
from transformers import TrainerCallback

JOB = json.loads(Path("job.json").read_text(encoding="utf-8"))
"""What the benchmark wants: which model and adapter, how many steps of which size, in which order."""


class Watch(TrainerCallback):
    """Useful tokens and seconds of all steps behind the warm-up, and each step's loss."""

    def __init__(self) -> None:
        self.marks: list[tuple[float, int, float | None]] = []
        self.losses: list[float] = []

    def on_step_end(self, arguments: Any, state: Any, control: Any, **others: Any) -> None:  # noqa: ARG002
        """Remembers when a step ended, and what tokens and energy had gone into training by then."""
        self.marks.append((time.perf_counter(), int(state.num_input_tokens_seen), joules()))

    def on_log(self, arguments: Any, state: Any, control: Any, logs: dict[str, float], **others: Any) -> None:  # noqa: ARG002
        """Remembers a step's loss."""
        if "loss" in logs:
            self.losses.append(float(logs["loss"]))

    def tell(self, *packages: str) -> None:
        """The figures on the last line of what this process prints."""
        started, before, used = self.marks[JOB["warm_up_steps"] - 1]
        ended, after, energy = self.marks[-1]
        figures = {
            "useful_tokens_per_second": (after - before) / (ended - started),
            "losses": self.losses,
            "peak_memory_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
            "joules_per_token": a_token(used, energy, after - before),
            "versions": {name: _version(name) for name in ("torch", "transformers", "peft", *packages)},
        }
        print(json.dumps(figures))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def common_settings() -> dict[str, Any]:
    """What both set of transformers' TrainingArguments: rows of like length together, or in a fixed order."""
    return {
        "output_dir": "out",
        "use_cpu": JOB["cpu"],
        "bf16": JOB["bfloat16"],
        "max_steps": JOB["warm_up_steps"] + JOB["steps"],
        "learning_rate": JOB["learning_rate"],
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "adam_beta2": 0.95,
        "max_grad_norm": 1.0,
        "gradient_checkpointing": False,
        "per_device_train_batch_size": JOB["rows_per_batch"],
        "train_sampling_strategy": "sequential" if JOB["ordered"] else "group_by_length",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "seed": 0,
        "include_num_input_tokens_seen": "non_padding",
        "disable_tqdm": True,
    }
