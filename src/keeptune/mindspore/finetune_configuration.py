"""Builds MindFormers configurations that continue a run's training on Ascend, under the same prompt.

The keys are those of the contest's kit (MindFormers r1.1). MindFormers 1.9 renamed some of them; see
docs/how-to/mindformers.md.
The configurations to train, evaluate and predict share one pet_config and one dtype, because an alpha or a dtype that
differs between them degrades the results without an error message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from keeptune.config.recipe import Recipe
from keeptune.data.solution_rendering import PreparedRow
from keeptune.errors import ModelError
from keeptune.prompts.named import conversation_template
from keeptune.prompts.template import Prompt
from keeptune.training.optimizer import BETAS, EPSILON
from keeptune.training.target_truncation import truncated_row_tokens

CHECKPOINT, CONVERSATIONS, QUESTIONS = "tuned.ckpt", "conversations.json", "questions.jsonl"
_PREFIX = "tuned"
_READING_NEW_TOKENS = 20


@dataclass(frozen=True, slots=True)
class FinetuneFiles:
    """The configurations and the script for a run, built from its recipe, rows, base configuration and LoRA settings.

    `padding` is the padding token's id in the MindRecord file; MindFormers determines a row's length by it.
    """

    recipe: Recipe
    rows: Sequence[PreparedRow]
    base: Any
    lora: dict[str, Any]
    longest_answer: int
    padding: int

    @property
    def devices(self) -> int:
        """The number of devices that share a layer: 4 as in the contest, or 2 or 1 if 4 does not divide the heads."""
        heads = (self.base.num_attention_heads, self.base.num_key_value_heads)
        return next(number for number in (4, 2, 1) if all(count % number == 0 for count in heads))

    @property
    def has_kit_prompt(self) -> bool:
        """Whether the kit's preprocessing can create the rows. It supports one prompt; keeptune writes the others."""
        prompt = self.recipe.prompt
        return not prompt.is_chat and conversation_template(Prompt(prompt.template)) is not None

    @property
    def record(self) -> str:
        """The name of the MindRecord file, as its writer names it: MindSpore rejects renamed files."""
        return "train.mindrecord" if self.has_kit_prompt else f"train-{self.recipe.data.max_tokens}.mindrecord"

    @property
    def rows_per_step(self) -> int:
        """The mean number of these rows in one of keeptune's steps."""
        mean = sum(row.tokens for row in self.rows) / len(self.rows)
        return max(1, round(self.recipe.train.tokens_per_step / mean))

    def texts(self) -> dict[str, str]:
        """The text of each file by its name."""
        window = self.recipe.data.max_tokens
        evaluation = {"seq_length": window + self.longest_answer, "max_new_tokens": self.longest_answer}
        reading = {"seq_length": 8192, "max_new_tokens": _READING_NEW_TOKENS}
        return {
            "finetune.yaml": _text(
                "continues training",
                self._common("finetune", {"seq_length": window}) | self._training(),
                self._unsupported_settings(),
            ),
            "evaluate.yaml": _text(
                "evaluates reading", self._common("eval", reading) | {"metric": {"type": "EmF1Metric"}}
            ),
            "predict.yaml": _text("answers questions", self._common("predict", evaluation)),
            "commands.sh": self._commands(),
        }

    def _common(self, mode: str, model: dict[str, int]) -> dict[str, Any]:
        trains = mode == "finetune"
        return {
            "seed": self.recipe.seed,
            "output_dir": "./output",
            "load_checkpoint": CHECKPOINT,
            "src_strategy_path_or_dir": "",
            "auto_trans_ckpt": False,
            "only_save_strategy": False,
            "resume_training": False,
            "run_mode": mode,
            "trainer": {"type": "CausalLanguageModelingTrainer", "model_name": _PREFIX},
            "use_parallel": trains and self.devices > 1,
            "parallel": {"parallel_mode": 1, "gradients_mean": False, "full_batch": True},
            "parallel_config": {
                "data_parallel": 1,
                "model_parallel": self.devices if trains else 1,
                "pipeline_stage": 1,
            },
            "context": {"mode": 0, "device_target": "Ascend", "max_device_memory": "26GB", "device_id": 0},
            "model": {"model_config": self._model(model), "arch": {"type": "LlamaForCausalLM"}},
        }

    def _model(self, lengths: dict[str, int]) -> dict[str, Any]:
        """The `model_config` section.

        Raises:
            ModelError: when the base scales its rotary positions, which MindFormers' Llama does not support.
        """
        base, rope = self.base, self.base.rope_parameters
        if rope.get("rope_type", "default") != "default":
            raise ModelError(
                f"rope_type {rope['rope_type']}: MindFormers' Llama supports only default; export with `--to merged`"
            )
        dtype = "bfloat16" if self.recipe.model.dtype == "auto" else self.recipe.model.dtype
        return {
            "type": "LlamaConfig",
            "batch_size": 1,
            **lengths,
            "hidden_size": base.hidden_size,
            "num_layers": base.num_hidden_layers,
            "num_heads": base.num_attention_heads,
            "n_kv_heads": base.num_key_value_heads,
            "vocab_size": base.vocab_size,
            "intermediate_size": base.intermediate_size,
            "rms_norm_eps": base.rms_norm_eps,
            "bos_token_id": base.bos_token_id,
            "eos_token_id": base.eos_token_id,
            "pad_token_id": self.padding,
            "ignore_token_id": -100,
            "theta": rope["rope_theta"],
            "tie_word_embeddings": base.tie_word_embeddings,
            "compute_dtype": dtype,
            "param_init_type": dtype,
            "layernorm_compute_type": "float32",
            "softmax_compute_type": "float32",
            "rotary_dtype": "float32",
            "use_past": "max_new_tokens" in lengths,
            "do_sample": False,
            "pet_config": self.lora,
        }

    def _unsupported_settings(self) -> list[str]:
        """The settings of the run that MindFormers does not support, each with the consequence."""
        train, retain = self.recipe.train, self.recipe.retain
        settings = (
            (
                train.loraplus_ratio != 1,
                f"train.loraplus_ratio: {train.loraplus_ratio:g}: lora_b gets the learning rate of lora_a",
            ),
            (train.step_weight != "one", f"train.step_weight: {train.step_weight}: all steps have the same weight"),
            (
                bool(train.truncate_targets),
                f"train.truncate_targets: {train.truncate_targets}: every row is trained on its whole solution",
            ),
            (retain.replay_share > 0, f"retain.replay_share: {retain.replay_share:g}: no reading rows are added"),
            (retain.kl_weight > 0, f"retain.kl_weight: {retain.kl_weight:g}: the loss has no KL term"),
            (
                retain.token_weighting != "none",
                f"retain.token_weighting: {retain.token_weighting}: all tokens of a solution have the same weight",
            ),
        )
        return [text for is_used, text in settings if is_used]

    def _training(self) -> dict[str, Any]:
        train = self.recipe.train
        # keeptune's token counts include replay rows; these rows do not.
        tokens = sum(truncated_row_tokens(row, train.truncate_targets, self.recipe.seed) for row in self.rows)
        epochs = train.epochs_of(round(tokens / (1 - self.recipe.retain.replay_share)))
        every = train.checkpoint_every_steps
        if train.optimizer == "mindformers":
            optimiser: dict[str, Any] = {"type": "FP32StateAdamWeightDecay", "beta1": BETAS[0], "beta2": BETAS[1]}
        else:
            optimiser = {"type": "AdamW", "betas": list(BETAS)}
        loader = {"type": "MindDataset", "dataset_dir": self.record, "shuffle": True}
        return {
            "runner_config": {
                "epochs": max(1, round(epochs)),
                "batch_size": self.rows_per_step,
                "sink_mode": True,
                "sink_size": 2 if every % 2 == 0 else 1,
            },
            "optimizer": {**optimiser, "eps": EPSILON, "weight_decay": train.weight_decay},
            "lr_schedule": {
                "type": "CosineWithWarmUpLR",
                "learning_rate": train.learning_rate,
                "lr_end": train.final_rate_share * train.learning_rate,
                "warmup_ratio": train.warmup_share,
                "total_steps": -1,
            },
            "train_dataset": {
                "data_loader": loader,
                "input_columns": ["input_ids", "labels"],
                "drop_remainder": True,
                "batch_size": self.rows_per_step,
            },
            "train_dataset_task": {"type": "CausalLanguageModelDataset"},
            "runner_wrapper": {
                "type": "MFTrainOneStepCell",
                "scale_sense": 1.0,
                "use_clip_grad": True,
                "max_grad_norm": train.clip_norm,
            },
            "callbacks": [
                {"type": "MFLossMonitor"},
                {"type": "CheckpointMointor", "prefix": _PREFIX, "save_checkpoint_steps": every},
            ],
        }

    def _commands(self) -> str:
        devices = self.devices
        launcher = "python"
        if devices > 1:
            launcher = (
                f"msrun --worker_num={devices} --local_worker_num={devices} --master_port=8118 "
                "--log_dir=output/msrun_log --join=False --cluster_time_out=600"
            )
        tokens = self.recipe.data.max_tokens
        preprocessing = (
            f"python llama3/llama_preprocess.py --dataset_type qa --input_glob $HERE/{CONVERSATIONS} "
            f"--model_file $HERE/tokenizer.model --seq_length {tokens} --output_file $HERE/{self.record}"
            if self.has_kit_prompt
            else "# The kit's preprocessing would add the vicuna conversation. keeptune writes the rows instead:\n"
            f"# keeptune export RUN --to mindrecord --seq-length {tokens} --out ROWS\n"
            f"# Copy {self.record} and its .db beside this file. Keep the names, because MindSpore rejects others."
        )
        return "\n".join(
            [
                "#!/usr/bin/env bash",
                "# Run this in mindformers/research. HERE is the folder of this file.",
                'HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)',
                "# Tokenize the rows:",
                preprocessing,
                "# Continue training from the adapter:",
                f"{launcher} llama3/run_llama3.py --config $HERE/finetune.yaml --load_checkpoint $HERE/{CHECKPOINT} "
                f"--auto_trans_ckpt False --use_parallel {devices > 1} --run_mode finetune "
                f"--train_dataset $HERE/{self.record}",
                "# Answer the test questions, which already include the prompt:",
                "python llama3/run_llama3_test.py --config $HERE/predict.yaml --run_mode predict --use_parallel False "
                f"--load_checkpoint $HERE/{CHECKPOINT} --vocab_file $HERE/tokenizer.model --auto_trans_ckpt False "
                f"--input_dir $HERE/{QUESTIONS}",
                "",
            ]
        )


def conversations(template: str, rows: Sequence[PreparedRow]) -> list[dict[str, Any]]:
    """The rows in FastChat's layout. `template` renders the human turn."""
    turn = Prompt(template)
    return [
        {
            "id": str(number),
            "conversations": [
                {"from": "human", "value": turn.render(row.problem)},
                {"from": "gpt", "value": row.solution},
            ],
        }
        for number, row in enumerate(rows, 1)
    ]


def _text(purpose: str, tree: dict[str, Any], unsupported: Sequence[str] = ()) -> str:
    header = f"# MindFormers {purpose} with this file. Written by keeptune. Keep pet_config equal in all three files."
    header += "".join(f"\n# Not supported by MindFormers: {setting}" for setting in unsupported)
    return header + "\n" + yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
