"""Why a key of a MindFormers configuration has no part in a recipe.

The names are those of MindFormers r1.1 as the contest's configurations have them, and of 1.9. A name stands for
everything below it, and the longest that fits decides.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_DEVICE = "how MindSpore runs on its device; keeptune takes the device that is there"
_DEVICES = "how MindSpore divides the work among devices; keeptune divides it over the processes that torchrun starts"
_FILES = "where MindFormers reads and writes checkpoints; a run directory has its own places"
_BASE = "the base model's own, which stands in its config.json"
_ANSWERS = "how MindFormers writes answers; keeptune answers greedily, base and tuned alike, up to what the data needs"
_WATCH = "what MindFormers watches and logs; keeptune has its own log and report"
_LOADER = "how MindFormers reads MindRecord; keeptune reads rows and takes every one of them"
_SCALING = "scaling of losses in float16; keeptune computes in bfloat16 or float32 and needs none"
_EVALUATION = "MindFormers' evaluation; keeptune scores skill and reading itself (recipe: score)"
_NAMES = "a name in MindFormers' registry; a recipe names no code"
_LAYERS = "rates by layer, which MindFormers uses for vision models"

_SHAPE = """hidden_size num_layers num_heads n_kv_heads vocab_size intermediate_size multiple_of ffn_dim_multiplier
    rms_norm_eps bos_token_id eos_token_id scaling_factor theta extend_method offset fine_grain_interleave
    qkv_has_bias qkv_concat tie_word_embeddings max_position_embedding use_rope_slice fused_rms_norm"""
_GENERATION = """use_past block_size num_blocks is_dynamic max_new_tokens min_new_tokens max_decode_length max_length
    do_sample top_k top_p temperature repetition_penalty"""

REASONS: dict[str, str] = {
    "context": _DEVICE,
    "use_parallel": _DEVICES,
    "parallel": _DEVICES,
    "parallel_config": _DEVICES,
    "micro_batch_interleave_num": _DEVICES,
    "moe_config": "experts, which a Llama has none of",
    "recompute_config": "memory for time on Ascend; keeptune sizes its batches by train.tokens_per_batch",
    "swap_config": "memory for time on Ascend; keeptune sizes its batches by train.tokens_per_batch",
    "trainer": _NAMES,
    "runner_config.sink_mode": _DEVICE,
    "runner_config.sink_size": "how many steps MindSpore takes at once; names of its checkpoints count in it",
    "runner_wrapper.type": _NAMES,
    "runner_wrapper.scale_sense": _SCALING,
    "runner_wrapper.loss_scale_value": _SCALING,
    "optimizer.beta1": "keeptune's is 0.9",
    "optimizer.beta2": "keeptune's is 0.95",
    "optimizer.betas": "keeptune's are 0.9 and 0.95",
    "optimizer.eps": "keeptune's is 1e-8",
    "lr_schedule.total_steps": "-1 is what the rows and epochs give, which is keeptune's rule, too",
    "lr_schedule.warmup_lr_init": "keeptune's warm-up begins at zero, or one step above",
    "lr_schedule.warmup_epoch": "keeptune knows a share of the steps (lr_schedule.warmup_ratio) only",
    "lr_schedule.warmup_steps": "a share of unknown steps; give lr_schedule.warmup_ratio, or total_steps with it",
    "lr_schedule.num_cycles": "keeptune's schedule is half a cosine",
    "train_dataset": _LOADER,
    "train_dataset_task": _LOADER,
    "eval_dataset": _EVALUATION,
    "eval_dataset_task": _EVALUATION,
    "eval_callbacks": _EVALUATION,
    "eval_step_interval": _EVALUATION,
    "eval_epoch_interval": _EVALUATION,
    "do_eval": _EVALUATION,
    "metric": _EVALUATION,
    "processor": "MindFormers' tokenizer settings; keeptune takes the base model's tokenizer as it is",
    "callbacks": _WATCH,
    "profile": _WATCH,
    "init_start_profile": _WATCH,
    "auto_tune": _DEVICE,
    "filepath_prefix": _DEVICE,
    "autotune_per_step": _DEVICE,
    "layer_scale": _LAYERS,
    "layer_decay": _LAYERS,
    "lr_scale": _LAYERS,
    "lr_scale_factor": _LAYERS,
    "remote_save_url": _FILES,
    "output_dir": _FILES,
    "load_checkpoint": "what MindFormers starts from; a base model's .ckpt can be named as model.name",
    "load_ckpt_format": _FILES,
    "src_strategy_path_or_dir": _FILES,
    "auto_trans_ckpt": _FILES,
    "only_save_strategy": _FILES,
    "resume_training": "keeptune resumes by itself",
    "run_mode": "a recipe trains and scores",
    "model.arch": _NAMES,
    "model.model_config.type": _NAMES,
    "model.model_config.batch_size": "of answers; keeptune fills its memory by itself",
    "model.model_config.checkpoint_name_or_path": _FILES,
    "model.model_config.param_init_type": "the adapter and the optimiser's state are float32 in keeptune",
    "model.model_config.layernorm_compute_type": "keeptune's norms and softmax are float32, as transformers has them",
    "model.model_config.softmax_compute_type": "keeptune's norms and softmax are float32, as transformers has them",
    "model.model_config.rotary_dtype": "float32 in keeptune",
    "model.model_config.use_flash_attention": "keeptune takes the attention that is fastest on its device",
    "model.model_config.ignore_token_id": "keeptune's labels are marked beside the tokens, not in them",
    "model.model_config.pad_token_id": "keeptune pads by mask, never by id",
    **dict.fromkeys((f"model.model_config.{name}" for name in _SHAPE.split()), _BASE),
    **dict.fromkeys((f"model.model_config.{name}" for name in _GENERATION.split()), _ANSWERS),
}


def reason(name: str, used: Iterable[str]) -> str:
    """Why the value of that name is not used; `used` are names that are, for a misspelling to be found by."""
    part = name
    while part:
        if part in REASONS:
            return REASONS[part]
        part = part.rpartition(".")[0]
    near = difflib.get_close_matches(name, [*used, *REASONS], n=1, cutoff=0.75)
    return "no key that keeptune knows" + (f"; did you mean {near[0]}?" if near else "")
