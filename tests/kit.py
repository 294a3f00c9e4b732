"""The contest's configurations, key by key, as the contest's description has them; and how each team's differed."""

from copy import deepcopy
from typing import Any

Tree = dict[str, Any]

_LOADER: Tree = {
    "data_loader": {"type": "MindDataset", "dataset_dir": "train-fastchat256-mindrecore.mindrecord", "shuffle": True},
    "input_columns": ["input_ids", "labels"],
    "num_parallel_workers": 8,
    "python_multiprocessing": False,
    "drop_remainder": True,
    "batch_size": 1,
    "repeat": 1,
    "numa_enable": False,
    "prefetch_size": 1,
}

_MODEL_CONFIG: Tree = {
    "type": "LlamaConfig",
    "batch_size": 1,
    "seq_length": 256,
    "hidden_size": 4096,
    "num_layers": 32,
    "num_heads": 32,
    "n_kv_heads": 8,
    "vocab_size": 128256,
    "intermediate_size": 14336,
    "rms_norm_eps": 1.0e-5,
    "bos_token_id": 128000,
    "eos_token_id": 128001,
    "pad_token_id": 128002,
    "ignore_token_id": -100,
    "compute_dtype": "bfloat16",
    "layernorm_compute_type": "float32",
    "softmax_compute_type": "float32",
    "rotary_dtype": "float32",
    "param_init_type": "bfloat16",
    "use_past": False,
    "scaling_factor": 1.0,
    "theta": 500000,
    "extend_method": "None",
    "use_flash_attention": True,
    "offset": 0,
    "fine_grain_interleave": 1,
    "checkpoint_name_or_path": "ms_ckpt/llama3-8B.ckpt",
    "repetition_penalty": 1,
    "max_decode_length": 512,
    "top_k": 3,
    "top_p": 1,
    "do_sample": False,
    "pet_config": {
        "pet_type": "lora",
        "lora_rank": 8,
        "lora_alpha": 16,
        "lora_dropout": 0.0,
        "target_modules": ".*wq|.*wv",
    },
}

_TRAINING: Tree = {
    "seed": 0,
    "output_dir": "./output",
    "load_checkpoint": "llama3-8B.ckpt",
    "src_strategy_path_or_dir": "",
    "auto_trans_ckpt": False,
    "only_save_strategy": False,
    "resume_training": False,
    "run_mode": "finetune",
    "trainer": {"type": "CausalLanguageModelingTrainer", "model_name": "llama3_8b"},
    "runner_config": {"epochs": 5, "batch_size": 64, "sink_mode": True, "sink_size": 2},
    "optimizer": {"type": "FP32StateAdamWeightDecay", "beta1": 0.9, "beta2": 0.95, "eps": 1.0e-8},
    "lr_schedule": {
        "type": "CosineWithWarmUpLR",
        "learning_rate": 1.0e-5,
        "lr_end": 0.0,
        "warmup_ratio": 0.03,
        "total_steps": -1,
    },
    "train_dataset": _LOADER,
    "train_dataset_task": {"type": "CausalLanguageModelDataset", "dataset_config": _LOADER},
    "do_eval": False,
    "eval_dataset": {**_LOADER, "input_columns": ["input_ids"], "drop_remainder": False},
    "eval_dataset_task": {"type": "CausalLanguageModelDataset"},
    "use_parallel": True,
    "parallel": {
        "parallel_mode": 1,
        "gradients_mean": False,
        "enable_alltoall": False,
        "full_batch": True,
        "search_mode": "sharding_propagation",
        "enable_parallel_optimizer": True,
        "strategy_ckpt_config": {"save_file": "./ckpt_strategy.ckpt", "only_trainable_params": False},
        "parallel_optimizer_config": {"gradient_accumulation_shard": False, "parallel_optimizer_threshold": 64},
    },
    "parallel_config": {
        "data_parallel": 1,
        "model_parallel": 4,
        "pipeline_stage": 1,
        "use_seq_parallel": False,
        "micro_batch_num": 1,
        "vocab_emb_dp": True,
        "gradient_aggregation_group": 4,
    },
    "micro_batch_interleave_num": 1,
    "recompute_config": {
        "recompute": True,
        "select_recompute": False,
        "parallel_optimizer_comm_recompute": False,
        "mp_comm_recompute": True,
        "recompute_slice_activation": True,
    },
    "callbacks": [
        {"type": "MFLossMonitor"},
        {
            "type": "CheckpointMointor",
            "prefix": "llama3_8b",
            "save_checkpoint_steps": 1400,
            "integrated_save": False,
            "async_save": False,
        },
        {"type": "ObsMonitor"},
    ],
    "context": {
        "mode": 0,
        "device_target": "Ascend",
        "enable_graph_kernel": False,
        "max_call_depth": 10000,
        "max_device_memory": "26GB",
        "save_graphs": False,
        "save_graphs_path": "./graph",
        "device_id": 0,
        "runtime_num_threads": 1,
    },
    "model": {"model_config": _MODEL_CONFIG, "arch": {"type": "LlamaForCausalLM"}},
    "metric": {"type": "PerplexityMetric"},
    "runner_wrapper": {"type": "MFTrainOneStepCell", "scale_sense": 1.0, "use_clip_grad": True},
    "eval_callbacks": [{"type": "ObsMonitor"}],
    "auto_tune": False,
    "filepath_prefix": "./autotune",
    "autotune_per_step": 10,
    "profile": False,
    "layer_scale": False,
    "layer_decay": 0.65,
    "lr_scale_factor": 256,
    "remote_save_url": "Please input obs url on AICC platform.",
}


def changed(tree: Tree, **changes: Any) -> Tree:
    """A copy with other values; the names are dotted, with a double underscore for the point. None takes one out."""
    made = deepcopy(tree)
    for name, value in changes.items():
        *sections, last = name.split("__")
        node = made
        for section in sections:
            node = node.setdefault(section, {})
        if value is None:
            node.pop(last, None)
        else:
            node[last] = value
    return made


def training(**changes: Any) -> Tree:
    """The official file for four cards."""
    return changed(_TRAINING, **changes)


def lora(**changes: Any) -> Tree:
    """The official file with another pet_config."""
    return training(**{f"model__model_config__pet_config__{name}": value for name, value in changes.items()})


def predicting(**changes: Any) -> Tree:
    """The official file that answers the maths questions."""
    model = {
        "batch_size": 8,
        "seq_length": 3000,
        "compute_dtype": "float16",
        "param_init_type": "float16",
        "use_past": True,
        "block_size": 64,
        "is_dynamic": False,
        "max_new_tokens": 128,
    }
    tokenizer = {
        "model_max_length": 8192,
        "vocab_file": "tokenizer.model",
        "pad_token": "<|reserved_special_token_0|>",
        "type": "Llama3Tokenizer",
    }
    made = training(
        runner_config__batch_size=16,
        use_parallel=False,
        context__max_device_memory="28GB",
        processor={"return_tensors": "ms", "tokenizer": tokenizer, "type": "LlamaProcessor"},
        **{f"model__model_config__{name}": value for name, value in model.items()},
    )
    return changed(made, **changes)


def reading(**changes: Any) -> Tree:
    """The official file for the retained ability."""
    made = predicting(
        model__model_config__seq_length=8192,
        model__model_config__max_decode_length=700,
        model__model_config__max_new_tokens=20,
        metric__type="EmF1Metric",
    )
    return changed(made, **changes)


def stock(**changes: Any) -> Tree:
    """MindFormers' own file to predict with, which has no pet_config."""
    made = reading(
        model__model_config__use_flash_attention=False,
        parallel__enable_parallel_optimizer=False,
        recompute_config__recompute=False,
        lr_schedule__learning_rate=5.0e-5,
        model__model_config__pet_config=None,
    )
    return changed(made, **changes)


TEAMS: dict[str, Tree] = {
    "four cards": {},
    "eight cards": {
        "parallel_config__model_parallel": 8,
        "runner_config__batch_size": 16,
        "train_dataset__batch_size": 16,
        "eval_dataset__batch_size": 16,
    },
    "debias": {
        "rank": 64, "alpha": 64, "dropout": 0.05, "targets": ".*wq|.*wk|.*wv|.*wo",
        "seq": 768, "batch": 16, "rate": 1.0e-4,
    },
    "qiangxin": {
        "rank": 16, "alpha": 32, "targets": ".*wq|.*wk|.*wv|.*wo", "seq": 512, "epochs": 1, "batch": 4,
        "rate": 1.0e-4, "end": 1.0e-5, "warmup": 0.01, "use_parallel": False, "parallel_config__model_parallel": 1,
    },
    "sishier": {"dropout": 0.05, "seq": 512, "batch": 32},
    "nankeqiming": {"rank": 4, "seq": 2048},
    "bengtie": {"only_save_strategy": True},
    "aics": {"dropout": 0.05, "epochs": 1},
    "peft": {"rank": 16, "alpha": 32, "dropout": 0.05},
    "mantiao": {"rank": 16, "alpha": 16, "dropout": 0.05, "targets": ".*wq|.*wv|.*wk|.*wo", "epochs": 4},
    "nju": {"dropout": 0.2, "rate": 1.0e-4},
    "lzma": {"dropout": 0.05, "epochs": 2, "batch": 4, "rate": 3.0e-5, "use_parallel": False},
    "abaaba": {"rank": 12, "alpha": 24, "dropout": 0.05, "epochs": 1, "rate": 3.0e-6},
    "dian": {"epochs": 3, "batch": 32},
    "all in one": {"dropout": 0.05, "only_save_strategy": True},
    "gaogaozhen": {"rank": 4, "alpha": 8, "epochs": 8, "batch": 8, "rate": 1.0e-4},
    "huanying": {"alpha": 8, "dropout": 0.5},
    "niuniu": {"epochs": 6, "rate": 3.0e-5, "end": 1.0e-6},
    "ababaaba": {"dropout": 0.05, "targets": ".*wq|.*wv|.*wo", "epochs": 2},
    "biqibao": {"dropout": 0.05, "epochs": 10, "batch": 32, "rate": 3.0e-5, "end": 1.0e-6},
}  # fmt: skip
"""What was changed in the official training file, by whom; short names stand for those in `_PLACES`."""

_PLACES = {
    "rank": "model__model_config__pet_config__lora_rank",
    "alpha": "model__model_config__pet_config__lora_alpha",
    "dropout": "model__model_config__pet_config__lora_dropout",
    "targets": "model__model_config__pet_config__target_modules",
    "seq": "model__model_config__seq_length",
    "epochs": "runner_config__epochs",
    "batch": "runner_config__batch_size",
    "rate": "lr_schedule__learning_rate",
    "end": "lr_schedule__lr_end",
    "warmup": "lr_schedule__warmup_ratio",
}


def team(name: str) -> Tree:
    """A team's training file."""
    return training(**{_PLACES.get(key, key): value for key, value in TEAMS[name].items()})
