"""Creates a recipe from a MindFormers YAML configuration.

Settings that keeptune supports are imported; each other setting is listed with the reason. The configuration holds
neither the rows nor the prompt, because its MindRecord file has only tokens. Both are arguments; without them, the
recipe names the rows and the prompt of the contest's kit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from keeptune.config import recipe as recipes
from keeptune.errors import DataError, ModelError, RecipeError
from keeptune.files import write_text
from keeptune.mindspore.configuration import Configuration, format_value, load_configuration
from keeptune.mindspore.configuration_warnings import TokenLengths, all_warnings
from keeptune.mindspore.unsupported_keys import reason
from keeptune.prompts import named

_MODEL = "model.model_config"
_LLAMA3_8B = {"hidden_size": 4096, "num_layers": 32, "n_kv_heads": 8, "vocab_size": 128256, "intermediate_size": 14336}
_OPTIMIZERS = {"FP32StateAdamWeightDecay": "mindformers", "AdamWeightDecay": "mindformers", "AdamW": "adamw"}
_DTYPES = ("bfloat16", "float16", "float32")
_KIT_ROWS, _KIT_PROMPT = "train.json", "vicuna-alpaca"
_NO_CLIPPING = 1e9


@dataclass(slots=True)
class ImportedRecipe:
    """A recipe and what became of each setting of the configuration that it was created from.

    `used` maps imported keys to recipe keys, `unused` the other settings to reasons. `assumed` lists what the
    configuration lacks, `warnings` what its author may have overlooked.
    """

    source: Path
    recipe: dict[str, Any]
    used: dict[str, str] = field(default_factory=dict)
    unused: dict[str, str] = field(default_factory=dict)
    assumed: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The recipe file as YAML. Comments list the warnings, the assumptions and the unused settings."""
        lines = [
            f"# Imported from {format_value(self.source.name)} (MindFormers).",
            *_comments("Warning", self.warnings),
        ]
        lines += _comments("Not in that file", self.assumed)
        lines += _comments("Not used", [f"{name}: {why}" for name, why in self.unused.items()])
        return "\n".join(lines) + "\n" + yaml.safe_dump(self.recipe, sort_keys=False, allow_unicode=True)

    def summary(self) -> str:
        """The used and unused settings, the assumptions and the warnings as indented lists."""
        sections = [
            ("used", [f"{name} → {recipe_key}" for name, recipe_key in self.used.items()]),
            ("not used", [f"{name} — {why}" for name, why in self.unused.items()]),
            ("not in the file", self.assumed),
            ("warnings", self.warnings),
        ]
        return "\n".join(line for title, items in sections if items for line in (title, *(f"  {one}" for one in items)))


def write_recipe(
    path: Path,
    out: Path,
    evaluations: Sequence[Path],
    rows: Path | None,
    prompt: str | None,
    model: str | None,
    skill: str,
) -> str:
    """Writes the recipe to `out` and returns a summary of what was imported.

    Raises:
        RecipeError: when `out` exists, or as in `import_recipe`.
        RunError: when `out` cannot be written.
    """
    if out.exists():
        raise RecipeError(f"{out}: already exists; choose another path with --out")
    imported = import_recipe(path, evaluations, rows, prompt, model, skill)
    write_text(out, imported.text())
    return f"{imported.summary()}\n{out}"


def import_recipe(
    path: Path,
    evaluations: Sequence[Path] = (),
    rows: Path | None = None,
    prompt: str | None = None,
    model: str | None = None,
    skill: str = "arithmetic",
) -> ImportedRecipe:
    """The recipe that trains as the MindFormers configuration at `path` does.

    `evaluations` are configurations that evaluate the adapter or generate with it; they are checked against `path`.

    Raises:
        RecipeError: when a file is not a configuration, trains no LoRA, or has a value that a recipe does not accept.
    """
    training, others = load_configuration(path), [load_configuration(other) for other in evaluations]
    imported = ImportedRecipe(path, {})
    _RecipeBuilder(training, imported).build(rows, named.resolve_template(prompt or _KIT_PROMPT), model, skill)
    if prompt is None:
        imported.assumed.append(f"the prompt: {_KIT_PROMPT}, as in the contest's kit; give another with --prompt")
    lengths = None
    if rows is None:
        imported.assumed.append(
            f"the rows: {_KIT_ROWS} in the recipe's folder; give them with --data to check their token lengths"
        )
    else:
        try:
            lengths = _token_lengths(rows, imported.recipe)
        except ModelError as error:
            imported.assumed.append(f"the token lengths of rows and answers; they were not checked: {error}")
    imported.warnings = all_warnings(training, others, lengths)
    recipes.parse(imported.recipe, f"{path}: as a recipe")
    return imported


class _RecipeBuilder:
    """Builds the recipe section by section and records which keys of the configuration it used."""

    def __init__(self, training: Configuration, imported: ImportedRecipe) -> None:
        self.training, self.imported = training, imported

    def build(self, rows: Path | None, template: str, model: str | None, skill: str) -> None:
        """Fills in the recipe, and lists each setting of the configuration as used or unused."""
        training = self.training
        seed, window = training.number("seed", 0), training.positive_integer(f"{_MODEL}.seq_length", 512)
        if seed is None or seed != int(seed):
            raise training.invalid_value("seed", training.get("seed"), "an integer")
        self._mark_used("seed", "seed")
        self._mark_used(f"{_MODEL}.seq_length", "data.max_tokens")
        adapter = self._adapter()
        self.imported.recipe = {
            "name": training.path.stem,
            "seed": int(seed),
            "model": {"name": model or self._model(), **self._dtype()},
            "data": {
                "skill": skill,
                "files": [str(rows.resolve()) if rows else _KIT_ROWS],
                "styles": {"default": "raw"},
                "max_tokens": window,
            },
            "prompt": {"template": template},
            "adapter": adapter,
            "train": {
                **self._optimizer(),
                **self._schedule(),
                **self._amounts(int(window or 512)),
            },
            "retain": {"replay_share": 0.0},
        }
        for name, value in training.values.items():
            if name not in self.imported.used:
                why = reason(name, self.imported.used)
                setting = f"{format_value(name)[1:-1]}: {format_value(value)}"
                self.imported.unused[setting] = self.imported.unused.pop(name, why)

    def _mark_used(self, name: str, recipe_key: str) -> None:
        if self.training.get(name) is not None:
            self.imported.used[name] = recipe_key

    def _model(self) -> str:
        if all(self.training.get(f"{_MODEL}.{name}") == size for name, size in _LLAMA3_8B.items()):
            self.imported.used.update({f"{_MODEL}.{name}": "model.name" for name in _LLAMA3_8B})
            return "meta-llama/Meta-Llama-3-8B"
        raise RecipeError(f"{self.training.path}: {_MODEL} does not describe Llama 3 8B; name the model with --model")

    def _dtype(self) -> dict[str, str]:
        name = f"{_MODEL}.compute_dtype"
        dtype = self.training.string(name)
        if dtype in _DTYPES:
            self._mark_used(name, "model.dtype")
            return {"dtype": str(dtype)}
        if dtype is not None:
            self.imported.unused[name] = (
                f"keeptune supports {', '.join(_DTYPES)}; the recipe lets keeptune choose the faster one"
            )
        return {}

    def _adapter(self) -> dict[str, Any]:
        training, section = self.training, self.training.pet_config
        if section is None:
            raise RecipeError(
                f"{training.path}: there is no pet_config. MindFormers would train all weights, and keeptune trains "
                "only adapters; give the configuration that trains the adapter"
            )
        if (kind := training.string(f"{section}.pet_type")) not in (None, "lora"):
            raise RecipeError(f"{training.path}: {section}.pet_type must be 'lora' (got {format_value(kind)})")
        self._mark_used(f"{section}.pet_type", "adapter.family")
        adapter: dict[str, Any] = {
            "rank": training.positive_integer(f"{section}.lora_rank"),
            "alpha": training.positive_integer(f"{section}.lora_alpha"),
            "dropout": training.number(f"{section}.lora_dropout", 0.0),
            "targets": _as_regex(training.string(f"{section}.target_modules") or ""),
        }
        if missing := [key for key in ("rank", "alpha", "targets") if adapter[key] in (None, "")]:
            raise RecipeError(
                f"{training.path}: {section} has no {', '.join(missing)}; give lora_rank, lora_alpha and target_modules"
            )
        for key, option in zip(("lora_rank", "lora_alpha", "lora_dropout", "target_modules"), adapter, strict=True):
            self._mark_used(f"{section}.{key}", f"adapter.{option}")
        return adapter

    def _optimizer(self) -> dict[str, Any]:
        training, name = self.training, "optimizer.type"
        kind = training.string(name)
        if kind in _OPTIMIZERS:
            self._mark_used(name, "train.optimizer")
        elif kind is not None:
            self.imported.unused[name] = f"keeptune supports {', '.join(_OPTIMIZERS)}; the recipe uses the first"
        self._mark_used("optimizer.weight_decay", "train.weight_decay")
        clip = training.get("runner_wrapper.use_clip_grad") is True
        self._mark_used("runner_wrapper.use_clip_grad", "train.clip_norm")
        if clip:
            self._mark_used("runner_wrapper.max_grad_norm", "train.clip_norm")
        return {
            "optimizer": _OPTIMIZERS.get(kind or "", "mindformers"),
            "weight_decay": training.number("optimizer.weight_decay", 0.0),
            "clip_norm": training.number("runner_wrapper.max_grad_norm", 1.0) if clip else _NO_CLIPPING,
        }

    def _schedule(self) -> dict[str, Any]:
        """The learning rates. Without a rate in `lr_schedule`, MindFormers reads it from the optimizer section."""
        training = self.training
        section = next(
            (name for name in ("lr_schedule", "optimizer") if training.get(f"{name}.learning_rate")), "lr_schedule"
        )
        peak = training.number(f"{section}.learning_rate")
        if not peak or peak < 0:
            name = "lr_schedule.learning_rate"
            raise training.invalid_value(name, training.get(name), "a number > 0")
        self._mark_used(f"{section}.learning_rate", "train.learning_rate")
        end = training.number("lr_schedule.lr_end", 0.0) or 0.0
        kind = training.string("lr_schedule.type")
        if kind in (None, "ConstantWarmUpLR"):
            end = peak
        elif kind != "CosineWithWarmUpLR":
            self.imported.unused["lr_schedule.type"] = (
                "keeptune supports CosineWithWarmUpLR and ConstantWarmUpLR; the recipe uses the first"
            )
        if kind in ("CosineWithWarmUpLR", "ConstantWarmUpLR"):
            self._mark_used("lr_schedule.type", "train.final_rate_share")
        self._mark_used("lr_schedule.lr_end", "train.final_rate_share")
        return {"learning_rate": peak, "final_rate_share": end / peak, "warmup_share": self._warmup()}

    def _warmup(self) -> float:
        training = self.training
        share = training.number("lr_schedule.warmup_ratio")
        steps, total = training.number("lr_schedule.warmup_steps"), training.number("lr_schedule.total_steps", -1.0)
        if share is not None:
            self._mark_used("lr_schedule.warmup_ratio", "train.warmup_share")
            return share
        if steps and total and total > 0:
            for name in ("lr_schedule.warmup_steps", "lr_schedule.total_steps"):
                self._mark_used(name, "train.warmup_share")
            return steps / total
        return 0.0

    def _amounts(self, window: int) -> dict[str, Any]:
        """The epochs, and the tokens per step: MindFormers' rows per step times the longest row that fits."""
        training, rows = self.training, self.training.positive_integer("runner_config.batch_size", 1)
        epochs = training.number("runner_config.epochs", 1.0)
        self._mark_used("runner_config.epochs", "train.epochs")
        self._mark_used("runner_config.batch_size", "train.tokens_per_step")
        assert rows is not None
        for name in self._batch_factors():
            rows *= training.positive_integer(name, 1) or 1
            self._mark_used(name, "train.tokens_per_step")
        self.imported.assumed.append(
            f"the rows' lengths: {rows:,} rows per step of at most {window:,} tokens are {rows * window:,} tokens. If "
            f"rows are shorter, set train.tokens_per_step to {rows:,} times their mean length; `keeptune plan` shows it"
        )
        amounts: dict[str, Any] = {"epochs": epochs, "tokens_per_step": rows * window}
        if every := training.find_name("callbacks.*.save_checkpoint_steps"):
            amounts["checkpoint_every_steps"] = training.positive_integer(every)
            self._mark_used(every, "train.checkpoint_every_steps")
        return amounts

    def _batch_factors(self) -> list[str]:
        """The keys that multiply the batch size. With pipeline stages, MindFormers uses micro-batches instead of
        gradient accumulation.

        Source: mindformers/trainer/base_trainer.py of 1.9.0.
        """
        accumulation = "runner_config.gradient_accumulation_steps"
        if self.training.get("use_parallel") is not True:
            return [accumulation]
        has_pipeline = (self.training.positive_integer("parallel_config.pipeline_stage", 1) or 1) > 1
        per_device = "parallel_config.micro_batch_num" if has_pipeline else accumulation
        return ["parallel_config.data_parallel", "micro_batch_interleave_num", per_device]


def _token_lengths(rows: Path, recipe: dict[str, Any]) -> TokenLengths:
    """The longest row and the longest answer in a file, in the base model's tokens."""
    from keeptune.data.reader import read_rows
    from keeptune.data.row import RawRow
    from keeptune.models.load import load_tokenizer
    from keeptune.prompts.token_count import TokenCounter

    counter = TokenCounter.of(
        load_tokenizer(recipe["model"]["name"]), named.resolve_prompt(recipe["prompt"]["template"])
    )
    texts = [(row.problem, row.solution) for row in read_rows(rows) if isinstance(row, RawRow)]
    if not texts:
        raise DataError(f"{rows}: no row can be read; give the rows from which the MindRecord file was made")
    counts = counter(texts)
    return TokenLengths(max(map(sum, counts)), max(answer for _, answer in counts))


def _as_regex(pattern: str) -> str:
    """The pattern, written as a regular expression: a recipe would read a bare `wq` as a module name."""
    return f"{pattern}.*" if pattern.isidentifier() else pattern


def _comments(title: str, items: Sequence[str]) -> list[str]:
    return [f"# {title}: {item}" for item in items]
