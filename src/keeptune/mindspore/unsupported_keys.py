"""States why a key of a MindFormers configuration is not imported into a recipe.

The keys are those of MindFormers r1.1, as in the contest's configurations, and of 1.9. An entry also covers all keys
below it; the longest matching entry applies.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_DEVICE = "configures MindSpore's device; keeptune uses the available device"
_DEVICES = "distributes MindSpore over devices; keeptune distributes over the processes that torchrun starts"
_FILES = "MindFormers' checkpoint paths; keeptune stores checkpoints in the run directory"
_BASE = "belongs to the base model; keeptune reads it from the model's config.json"
_GENERATION = "MindFormers' generation settings; keeptune decodes greedily and derives the lengths from the data"
_LOGGING = "MindFormers' monitoring and logging; keeptune writes its own log and report"
_LOADER = "configures the MindRecord loader; keeptune reads rows and skips none"
_SCALING = "loss scaling for float16; keeptune computes in bfloat16 or float32, which need none"
_EVALUATION = "MindFormers' evaluation; keeptune evaluates skill and reading itself (recipe: score)"
_NAMES = "a name in MindFormers' registry; a recipe does not name code"
_LAYERS = "learning rates per layer, which MindFormers uses for vision models"
_MEMORY = "trades compute for memory on Ascend; keeptune sizes its batches by train.tokens_per_batch"
_FLOAT32 = "keeptune computes norms and softmax in float32, as transformers does"

_SHAPE_KEYS = """hidden_size num_layers num_heads n_kv_heads vocab_size intermediate_size multiple_of ffn_dim_multiplier
    rms_norm_eps bos_token_id eos_token_id scaling_factor theta extend_method offset fine_grain_interleave
    qkv_has_bias qkv_concat tie_word_embeddings max_position_embedding use_rope_slice fused_rms_norm"""
_GENERATION_KEYS = """use_past block_size num_blocks is_dynamic max_new_tokens min_new_tokens max_decode_length
    max_length do_sample top_k top_p temperature repetition_penalty"""

UNKNOWN_KEY = "unknown key"
"""The reason for a key that neither MindFormers nor keeptune is known to have."""

REASONS: dict[str, str] = {
    "context": _DEVICE,
    "use_parallel": _DEVICES,
    "parallel": _DEVICES,
    "parallel_config": _DEVICES,
    "micro_batch_interleave_num": _DEVICES,
    "moe_config": "configures experts; a Llama has none",
    "recompute_config": _MEMORY,
    "swap_config": _MEMORY,
    "trainer": _NAMES,
    "runner_config.sink_mode": _DEVICE,
    "runner_config.sink_size": "steps that MindSpore runs per call; its checkpoint names count these calls",
    "runner_wrapper.type": _NAMES,
    "runner_wrapper.scale_sense": _SCALING,
    "runner_wrapper.loss_scale_value": _SCALING,
    "optimizer.beta1": "keeptune uses 0.9",
    "optimizer.beta2": "keeptune uses 0.95",
    "optimizer.betas": "keeptune uses 0.9 and 0.95",
    "optimizer.eps": "keeptune uses 1e-8",
    "lr_schedule.total_steps": "keeptune derives the steps from rows and epochs, as MindFormers does for -1",
    "lr_schedule.warmup_lr_init": "keeptune's warm-up begins at zero, or one step above it",
    "lr_schedule.warmup_epoch": "keeptune supports only a share of the steps (lr_schedule.warmup_ratio)",
    "lr_schedule.warmup_steps": "needs total_steps too, or use lr_schedule.warmup_ratio",
    "lr_schedule.num_cycles": "keeptune's schedule is half a cosine cycle",
    "train_dataset": _LOADER,
    "train_dataset_task": _LOADER,
    "eval_dataset": _EVALUATION,
    "eval_dataset_task": _EVALUATION,
    "eval_callbacks": _EVALUATION,
    "eval_step_interval": _EVALUATION,
    "eval_epoch_interval": _EVALUATION,
    "do_eval": _EVALUATION,
    "metric": _EVALUATION,
    "processor": "MindFormers' tokenizer settings; keeptune uses the base model's tokenizer",
    "callbacks": _LOGGING,
    "profile": _LOGGING,
    "init_start_profile": _LOGGING,
    "auto_tune": _DEVICE,
    "filepath_prefix": _DEVICE,
    "autotune_per_step": _DEVICE,
    "layer_scale": _LAYERS,
    "layer_decay": _LAYERS,
    "lr_scale": _LAYERS,
    "lr_scale_factor": _LAYERS,
    "remote_save_url": _FILES,
    "output_dir": _FILES,
    "load_checkpoint": "the checkpoint that MindFormers starts from; set model.name to a base model's .ckpt",
    "load_ckpt_format": _FILES,
    "src_strategy_path_or_dir": _FILES,
    "auto_trans_ckpt": _FILES,
    "only_save_strategy": _FILES,
    "resume_training": "keeptune resumes automatically",
    "run_mode": "a recipe always trains and evaluates",
    "model.arch": _NAMES,
    "model.model_config.type": _NAMES,
    "model.model_config.batch_size": "the generation batch size; keeptune sizes its batches by the free memory",
    "model.model_config.checkpoint_name_or_path": _FILES,
    "model.model_config.param_init_type": "keeptune stores the adapter and the optimizer state in float32",
    "model.model_config.layernorm_compute_type": _FLOAT32,
    "model.model_config.softmax_compute_type": _FLOAT32,
    "model.model_config.rotary_dtype": "keeptune uses float32",
    "model.model_config.use_flash_attention": "keeptune uses the fastest attention of its device",
    "model.model_config.ignore_token_id": "keeptune marks labels in a separate mask",
    "model.model_config.pad_token_id": "keeptune marks padding in a separate mask",
    **dict.fromkeys((f"model.model_config.{name}" for name in _SHAPE_KEYS.split()), _BASE),
    **dict.fromkeys((f"model.model_config.{name}" for name in _GENERATION_KEYS.split()), _GENERATION),
}


def reason(name: str, used: Iterable[str]) -> str:
    """Why the value under a key is not imported. `used` are the imported keys; they serve to suggest a correction."""
    part = name
    while part:
        if part in REASONS:
            return REASONS[part]
        part = part.rpartition(".")[0]
    close = difflib.get_close_matches(name, [*used, *REASONS], n=1, cutoff=0.75)
    return UNKNOWN_KEY + (f"; did you mean {close[0]}?" if close else "")
