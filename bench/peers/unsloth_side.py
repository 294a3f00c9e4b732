"""Unsloth under TRL's trainer; started by train_cpu.py and train_gpu.py with Unsloth's own Python."""

from __future__ import annotations

import torch
import unsloth  # first, for it changes what the others import
from hf_trainer import JOB
from trl_side import train


def main() -> None:
    """Loads model and adapter with Unsloth, which finds the one by the other, and trains."""
    torch.manual_seed(0)
    model, tokenizer = unsloth.FastLanguageModel.from_pretrained(
        JOB["adapter"],
        max_seq_length=JOB["tokens_per_step"],
        dtype=torch.bfloat16 if JOB["bfloat16"] else torch.float32,
        load_in_4bit=False,
        use_gradient_checkpointing=False,
    )
    train(model, tokenizer, "unsloth")


if __name__ == "__main__":
    main()
