"""What MindFormers makes of keeptune's files, on a processor; run by a Python that has MindFormers and not keeptune.

    python theirs.py logits FINETUNE.yaml CHECKPOINT 0|1   ids.npy to logits.npy, without LoRA or with it
    python theirs.py train EXPORT RECORD                   MindFormers' own Trainer goes on, and saves last.ckpt

What a processor needs otherwise than the exported files say is in `for_a_processor` and stated in
docs/how-to/mindformers.md.
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
    """Every tensor has to be loaded, and every parameter has to get one."""
    ids = np.load("ids.npy")
    given = yaml.safe_load(Path(configuration).read_text(encoding="utf-8"))["model"]["model_config"]
    pet, kind = given.pop("pet_config"), given.pop("type")
    assert kind == "LlamaConfig"
    sizes = {"batch_size": ids.shape[0], "seq_length": ids.shape[1]}
    ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU")
    model = LlamaForCausalLM(LlamaConfig(**{**given, **sizes, **KERNELS, **FORMATS}))
    model = get_pet_model(model, pet) if lora == "1" else model
    own = {parameter.name for parameter in model.get_parameters()}
    loaded = {name: value for name, value in ms.load_checkpoint(checkpoint).items() if "." in name}
    # The trainer's checkpoints hold its optimiser's state as well.
    weights = {name: value for name, value in loaded.items() if not name.startswith("adam_")}
    weights = {name: value for name, value in weights.items() if lora == "1" or "mindpet" not in name}
    missing, unused = ms.load_param_into_net(
        model, {name: ms.Parameter(value.astype(ms.float32), name=name) for name, value in weights.items()}
    )
    assert not missing and not unused and own == set(weights), (missing, unused, own ^ set(weights))
    made = model.set_train(False)(ms.Tensor(ids, ms.int32))
    np.save("logits.npy", made[0].asnumpy())


def for_a_processor(config: Any) -> None:
    """Changes what Ascend has and a processor has not, and names of 1.1 that 1.9 writes otherwise."""
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
    # It asks the Ascend whether a number has overflowed.
    nn.TrainOneStepWithLossScaleCell.get_overflow_status = lambda *_: ms.Tensor(False)


def train(export: str, record: str) -> None:
    """Goes on with the exported adapter on the exported rows."""
    config = MindFormerConfig(str(Path(export) / "finetune.yaml"))
    for_a_processor(config)
    config.train_dataset.data_loader.dataset_dir = record
    config.train_dataset_task.dataset_config = config.train_dataset
    config.load_checkpoint = str(Path(export) / "tuned.ckpt")
    config.output_dir = "."
    Trainer(args=config).train(train_checkpoint=config.load_checkpoint)
    shutil.copy(max(Path("checkpoint/rank_0").glob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns), "last.ckpt")


if __name__ == "__main__":
    {"logits": logits, "train": train}[sys.argv[1]](*sys.argv[2:])
