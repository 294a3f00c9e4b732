"""Runs MindFormers on keeptune's files, on a CPU. The Python that runs this file has MindFormers but not keeptune.

    python mindformers_program.py logits FINETUNE.yaml CHECKPOINT 0|1
        compute logits.npy from ids.npy, without (0) or with (1) LoRA
    python mindformers_program.py train EXPORT RECORD
        continue training with MindFormers' Trainer and save last.ckpt

`adapt_to_cpu` changes the settings that a CPU does not support; docs/how-to/mindformers.md lists them.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import yaml
from mindformers import LlamaConfig, LlamaForCausalLM, Trainer
from mindformers.pet import get_pet_model
from mindformers.tools.register import MindFormerConfig
from mindspore import nn

KERNELS = {"use_flash_attention": False, "fused_rms_norm": False, "use_rope_slice": True}
FORMATS = {"compute_dtype": "float32", "param_init_type": "float32"}


def logits(configuration: str, checkpoint: str, lora: str) -> None:
    """Computes logits, and checks that each tensor is loaded and each parameter receives one."""
    ids = np.load("ids.npy")
    config = yaml.safe_load(Path(configuration).read_text(encoding="utf-8"))["model"]["model_config"]
    pet, kind = config.pop("pet_config"), config.pop("type")
    assert kind == "LlamaConfig"
    sizes = {"batch_size": ids.shape[0], "seq_length": ids.shape[1]}
    ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU")
    model = LlamaForCausalLM(LlamaConfig(**{**config, **sizes, **KERNELS, **FORMATS}))
    model = get_pet_model(model, pet) if lora == "1" else model
    parameters = {parameter.name for parameter in model.get_parameters()}
    loaded = {name: value for name, value in ms.load_checkpoint(checkpoint).items() if "." in name}
    # The trainer's checkpoints also hold the optimizer state.
    weights = {name: value for name, value in loaded.items() if not name.startswith("adam_")}
    weights = {name: value for name, value in weights.items() if lora == "1" or "mindpet" not in name}
    missing, unused = ms.load_param_into_net(
        model, {name: ms.Parameter(value.astype(ms.float32), name=name) for name, value in weights.items()}
    )
    assert not missing and not unused and parameters == set(weights), (missing, unused, parameters ^ set(weights))
    outputs = model.set_train(False)(ms.Tensor(ids, ms.int32))
    np.save("logits.npy", outputs[0].asnumpy())


def adapt_to_cpu(config: Any) -> None:
    """Replaces settings for Ascend, and names of 1.1 that 1.9 renamed."""
    config.use_parallel = False
    config.context.device_target = "CPU"
    config.context.pop("max_device_memory", None)
    config.model.model_config.update(**KERNELS, **FORMATS)
    config.runner_config.sink_mode = False
    for callback in config.callbacks:
        if callback["type"] == "CheckpointMointor":
            callback["type"] = "CheckpointMonitor"
    if config.optimizer.type == "FP32StateAdamWeightDecay":
        config.optimizer.type = "AdamWeightDecay"
    # The original function queries the Ascend device for overflows.
    nn.TrainOneStepWithLossScaleCell.get_overflow_status = lambda *_: ms.Tensor(False)


def train(export: str, record: str) -> None:
    """Continues training the exported adapter on the exported rows."""
    config = MindFormerConfig(str(Path(export) / "finetune.yaml"))
    adapt_to_cpu(config)
    config.train_dataset.data_loader.dataset_dir = record
    config.train_dataset_task.dataset_config = config.train_dataset
    config.load_checkpoint = str(Path(export) / "tuned.ckpt")
    config.output_dir = "."
    Trainer(args=config).train(train_checkpoint=config.load_checkpoint)
    shutil.copy(max(Path("checkpoint/rank_0").glob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns), "last.ckpt")


if __name__ == "__main__":
    {"logits": logits, "train": train}[sys.argv[1]](*sys.argv[2:])
