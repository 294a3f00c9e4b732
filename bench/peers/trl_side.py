"""TRL's SFTTrainer in its best configuration; started by train_cpu.py and train_gpu.py with TRL's own Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from hf_trainer import JOB, Watch, common_settings
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer


def configuration() -> SFTConfig:
    """Rows of like length together, or packed into full batches; in a fixed order where losses are compared."""
    wanted: dict[str, Any] = {
        **common_settings(),
        "max_length": JOB["tokens_per_step"] if JOB["packed"] else None,
        "packing": JOB["packed"],
        "completion_only_loss": True,
        "dataset_num_proc": 1,
        "use_liger_kernel": JOB["liger"],
    }
    if JOB["packed"]:
        wanted |= {"per_device_train_batch_size": 1, "packing_strategy": "bfd"}
    return SFTConfig(**wanted)


def train(model: Any, tokenizer: Any, *packages: str) -> None:
    """Trains the job's number of steps, and prints the figures on the last line."""
    rows, watch = json.loads(Path("rows.json").read_text(encoding="utf-8")), Watch()
    columns = {"input_ids": [row["tokens"] for row in rows], "completion_mask": [row["labelled"] for row in rows]}
    SFTTrainer(
        model=model,
        args=configuration(),
        train_dataset=Dataset.from_dict(columns),
        processing_class=tokenizer,
        callbacks=[watch],
    ).train()
    watch.tell("trl", *packages)


def main() -> None:
    """Loads the model and the adapter with transformers and PEFT, and trains."""
    torch.manual_seed(0)
    dtype = torch.bfloat16 if JOB["bfloat16"] else torch.float32
    base = AutoModelForCausalLM.from_pretrained(JOB["model"], dtype=dtype)
    model = PeftModel.from_pretrained(base, JOB["adapter"], is_trainable=True)
    train(model, AutoTokenizer.from_pretrained(JOB["model"]))


if __name__ == "__main__":
    main()
