"""MindFormers configurations that go on with a run's adapter on Ascend, under the same prompt.

Their keys are those of the contest's kit (MindFormers r1.1), whose names MindFormers 1.9 has changed here and there
(docs/mindformers.md). Training, evaluation and prediction hold one pet_config and one number format: an alpha or a
format that differs between the files is a silent loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from keeptune.config.recipe import Recipe
from keeptune.data.solution_rendering import Example
from keeptune.errors import ModelError
from keeptune.prompts.named import conversation_template
from keeptune.prompts.template import Prompt
from keeptune.training.optimizer import BETAS, EPSILON
from keeptune.training.target_truncation import row_tokens

CHECKPOINT, CONVERSATIONS, QUESTIONS = "tuned.ckpt", "conversations.json", "questions.jsonl"
_PREFIX = "tuned"
_READING_NEW_TOKENS = 20


@dataclass(frozen=True, slots=True)
class Handover:
    """What the files are made of: a run's recipe and rows, its base model's configuration and its LoRA's. `padding` is
    the token that MindRecords are filled with: MindFormers finds the length of a row by it."""

    recipe: Recipe
    rows: Sequence[Example]
    base: Any
    lora: dict[str, Any]
    longest_answer: int
    padding: int

    @property
    def devices(self) -> int:
        """How many devices share a layer: four as in the contest, or as many as its heads can be dealt to."""
        heads = (self.base.num_attention_heads, self.base.num_key_value_heads)
        return next(number for number in (4, 2, 1) if all(count % number == 0 for count in heads))

    @property
    def in_conversation(self) -> bool:
        """Whether the kit's preprocessing makes the rows: under any other prompt keeptune writes them."""
        return conversation_template(Prompt(self.recipe.prompt.template)) is not None

    @property
    def record(self) -> str:
        """The file of the rows as tokens. MindSpore refuses one that was renamed, so it is what its writer calls it."""
        return "train.mindrecord" if self.in_conversation else f"train-{self.recipe.data.max_tokens}.mindrecord"

    @property
    def rows_per_step(self) -> int:
        """As many rows as keeptune's step has of these, in the mean."""
        mean = sum(row.tokens for row in self.rows) / len(self.rows)
        return max(1, round(self.recipe.train.tokens_per_step / mean))

    def files(self) -> dict[str, str]:
        """The text of each file by its name."""
        window = self.recipe.data.max_tokens
        evaluation = {"seq_length": window + self.longest_answer, "max_new_tokens": self.longest_answer}
        reading = {"seq_length": 8192, "max_new_tokens": _READING_NEW_TOKENS}
        return {
            "finetune.yaml": _text(
                "trains on", self._common("finetune", {"seq_length": window}) | self._training(), self._left_behind()
            ),
            "evaluate.yaml": _text(
                "is measured by", self._common("eval", reading) | {"metric": {"type": "EmF1Metric"}}
            ),
            "predict.yaml": _text("answers by", self._common("predict", evaluation)),
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
        """errors: ModelError where the base turns its positions in a way that MindFormers' Llama cannot."""
        base, rope = self.base, self.base.rope_parameters
        if rope.get("rope_type", "default") != "default":
            raise ModelError(
                f"positions of the type {rope['rope_type']}: MindFormers' Llama has plain ones; use `merged`"
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

    def _left_behind(self) -> list[str]:
        """What the run was trained with and MindFormers has no setting for."""
        train, retain = self.recipe.train, self.recipe.retain
        settings = (
            (
                train.loraplus_ratio != 1,
                f"train.loraplus_ratio: {train.loraplus_ratio:g}: lora_b gets the rate of lora_a",
            ),
            (train.step_weight != "one", f"train.step_weight: {train.step_weight}: all steps count the same"),
            (
                bool(train.truncate_targets),
                f"train.truncate_targets: {train.truncate_targets}: every row is trained whole",
            ),
            (retain.replay_share > 0, f"retain.replay_share: {retain.replay_share:g}: reading is not practised"),
            (retain.kl_weight > 0, f"retain.kl_weight: {retain.kl_weight:g}: predictions are not held near the base's"),
            (
                retain.token_weighting != "none",
                f"retain.token_weighting: {retain.token_weighting}: all tokens of a solution count the same",
            ),
        )
        return [what for used, what in settings if used]

    def _training(self) -> dict[str, Any]:
        train = self.recipe.train
        # Rows of replay count in keeptune's tokens, and are not among these.
        tokens = sum(row_tokens(row, train.truncate_targets, self.recipe.seed) for row in self.rows)
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
        start = "python"
        if devices > 1:
            start = (
                f"msrun --worker_num={devices} --local_worker_num={devices} --master_port=8118 "
                "--log_dir=output/msrun_log --join=False --cluster_time_out=600"
            )
        tokens = self.recipe.data.max_tokens
        prepared = (
            f"python llama3/llama_preprocess.py --dataset_type qa --input_glob $HERE/{CONVERSATIONS} "
            f"--model_file $HERE/tokenizer.model --seq_length {tokens} --output_file $HERE/{self.record}"
            if self.in_conversation
            else "# The kit's preprocessing would put the vicuna conversation around this prompt. keeptune writes\n"
            f"# them: keeptune export RUN --to mindrecord --seq-length {tokens} --out ROWS; put {self.record} and its\n"
            "# .db beside this file under the names that they have, for MindSpore refuses others."
        )
        return "\n".join(
            [
                "#!/usr/bin/env bash",
                "# Run in mindformers/research; HERE is the folder of this file.",
                'HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)',
                "# The rows, as tokens:",
                prepared,
                "# Training goes on from the adapter:",
                f"{start} llama3/run_llama3.py --config $HERE/finetune.yaml --load_checkpoint $HERE/{CHECKPOINT} "
                f"--auto_trans_ckpt False --use_parallel {devices > 1} --run_mode finetune "
                f"--train_dataset $HERE/{self.record}",
                "# Answers to the test questions, which hold the prompt already:",
                "python llama3/run_llama3_test.py --config $HERE/predict.yaml --run_mode predict --use_parallel False "
                f"--load_checkpoint $HERE/{CHECKPOINT} --vocab_file $HERE/tokenizer.model --auto_trans_ckpt False "
                f"--input_dir $HERE/{QUESTIONS}",
                "",
            ]
        )


def conversations(template: str, rows: Sequence[Example]) -> list[dict[str, Any]]:
    """The rows in FastChat's layout, where `template` is the human turn."""
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


def _text(what: str, tree: dict[str, Any], left_behind: Sequence[str] = ()) -> str:
    head = (
        f"# What MindFormers {what}; written by keeptune. pet_config is the same in all three files and has to stay so."
    )
    head += "".join(f"\n# Not carried over: {one}" for one in left_behind)
    return head + "\n" + yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
