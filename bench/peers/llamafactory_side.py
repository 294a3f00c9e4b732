"""LLaMA-Factory in its best configuration on a processor; started by train_cpu.py with its own Python."""

from __future__ import annotations

import json
from pathlib import Path

from hf_trainer import JOB, Watch, common_settings
from llamafactory.train.tuner import run_exp


def main() -> None:
    """Trains the job's number of steps on the same problems, and prints the figures on the last line."""
    rows = json.loads(Path("rows.json").read_text(encoding="utf-8"))
    told = [{"instruction": row["prompt"], "input": "", "output": row["solution"]} for row in rows]
    folder = Path("data")
    folder.mkdir()
    (folder / "rows.json").write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")
    (folder / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": "rows.json"}}), encoding="utf-8")
    watch = Watch()
    settings = {
        **common_settings(),
        "model_name_or_path": JOB["model"],
        "adapter_name_or_path": JOB["adapter"],
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "template": "empty",
        "dataset_dir": str(folder),
        "dataset": "rows",
        "cutoff_len": 4096,
        "disable_gradient_checkpointing": True,
        "disable_shuffling": JOB["ordered"],
        "overwrite_cache": True,
    }
    run_exp(settings, callbacks=[watch])
    watch.tell("llamafactory", "trl")


if __name__ == "__main__":
    main()
