"""A recipe out of a MindFormers configuration: what both know is taken over, and what is not is told with its reason.

The configuration holds neither the rows nor the prompt: its MindRecord has tokens alone. Both are given beside it, or
the recipe names what the contest's kit has.
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
from keeptune.mindspore import configuration_warnings as traps
from keeptune.mindspore.configuration import Configuration, read, shown
from keeptune.mindspore.unsupported_keys import reason
from keeptune.prompts import named

_MODEL = "model.model_config"
_LLAMA3_8B = {"hidden_size": 4096, "num_layers": 32, "n_kv_heads": 8, "vocab_size": 128256, "intermediate_size": 14336}
_OPTIMISERS = {"FP32StateAdamWeightDecay": "mindformers", "AdamWeightDecay": "mindformers", "AdamW": "adamw"}
_KIT_ROWS, _KIT_PROMPT = "train.json", "vicuna-alpaca"
_NO_CLIPPING = 1e9


@dataclass(slots=True)
class Imported:
    """A recipe as a mapping; the names that it was made of and what they became; the others and why; and the traps."""

    source: Path
    recipe: dict[str, Any]
    used: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    assumed: list[str] = field(default_factory=list)
    traps: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The recipe file: what was kept stands in its comments, in the places that it had."""
        lines = [f"# Imported from {shown(self.source.name)} (MindFormers).", *_comments("Trap", self.traps)]
        lines += _comments("Not in that file", self.assumed)
        lines += _comments("Kept, not used", [f"{name}: {why}" for name, why in self.kept.items()])
        return "\n".join(lines) + "\n" + yaml.safe_dump(self.recipe, sort_keys=False, allow_unicode=True)

    def report(self) -> str:
        """The same for people to read, with what was used."""
        parts = [
            ("used", [f"{name} → {became}" for name, became in self.used.items()]),
            ("kept, not used", [f"{name} — {why}" for name, why in self.kept.items()]),
            ("not in the file", self.assumed),
            ("traps", self.traps),
        ]
        return "\n".join(line for title, items in parts if items for line in (title, *(f"  {one}" for one in items)))


def write_recipe(
    path: Path,
    out: Path,
    evaluations: Sequence[Path],
    rows: Path | None,
    prompt: str | None,
    model: str | None,
    skill: str,
) -> str:
    """What was taken over, for people to read, after the recipe was written to `out`.

    errors: as `import_recipe`; RunError when `out` cannot be written.
    """
    if out.exists():
        raise RecipeError(f"{out}: it exists already; choose another name with --out")
    imported = import_recipe(path, evaluations, rows, prompt, model, skill)
    write_text(out, imported.text())
    return f"{imported.report()}\n{out}"


def import_recipe(
    path: Path,
    evaluations: Sequence[Path] = (),
    rows: Path | None = None,
    prompt: str | None = None,
    model: str | None = None,
    skill: str = "arithmetic",
) -> Imported:
    """The recipe that trains as the MindFormers configuration at `path` does.

    `evaluations` are files that the adapter is evaluated or asked with; they are compared with it.

    errors: RecipeError when a file is no configuration, trains no LoRA, or has a value that no recipe can have.
    """
    training, others = read(path), [read(other) for other in evaluations]
    made = _Maker(training, Imported(path, {}))
    made.all(rows, named.resolve_template(prompt or _KIT_PROMPT), model, skill)
    imported = made.imported
    if prompt is None:
        imported.assumed.append(f"the prompt: {_KIT_PROMPT}, as the contest's kit has it; give yours with --prompt")
    lengths = None
    if rows is None:
        imported.assumed.append(f"the rows: {_KIT_ROWS} beside the recipe; give yours with --data, which are counted")
    else:
        try:
            lengths = _lengths(rows, imported.recipe)
        except ModelError as error:
            imported.assumed.append(f"lengths of rows and answers, which were not counted: {error}")
    imported.traps = traps.report(training, others, lengths)
    recipes.parse(imported.recipe, f"{path}: what it says, as a recipe")
    return imported


class _Maker:
    """Takes values out of a configuration, section by section, and remembers which."""

    def __init__(self, training: Configuration, imported: Imported) -> None:
        self.training, self.imported = training, imported

    def all(self, rows: Path | None, template: str, model: str | None, skill: str) -> None:
        """Fills the recipe, and says of every value whether it is in there."""
        training = self.training
        seed, window = training.number("seed", 0), training.whole(f"{_MODEL}.seq_length", 512)
        if seed is None or seed != int(seed):
            raise training.refused("seed", training.get("seed"), "an integer")
        self._use("seed", "seed")
        self._use(f"{_MODEL}.seq_length", "data.max_tokens")
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
                **self._optimiser(),
                **self._schedule(),
                **self._amounts(int(window or 512)),
            },
            "retain": {"replay_share": 0.0},
        }
        for name, value in training.values.items():
            if name not in self.imported.used:
                why = reason(name, self.imported.used)
                self.imported.kept[f"{shown(name)[1:-1]}: {shown(value)}"] = self.imported.kept.pop(name, why)

    def _use(self, name: str, became: str) -> None:
        if self.training.get(name) is not None:
            self.imported.used[name] = became

    def _model(self) -> str:
        if all(self.training.get(f"{_MODEL}.{name}") == size for name, size in _LLAMA3_8B.items()):
            self.imported.used.update({f"{_MODEL}.{name}": "model.name" for name in _LLAMA3_8B})
            return "meta-llama/Meta-Llama-3-8B"
        raise RecipeError(
            f"{self.training.path}: its model has not the sizes of Llama 3 8B; name the model with --model"
        )

    def _dtype(self) -> dict[str, str]:
        name, known = f"{_MODEL}.compute_dtype", ("bfloat16", "float16", "float32")
        dtype = self.training.text(name)
        if dtype in known:
            self._use(name, "model.dtype")
            return {"dtype": str(dtype)}
        if dtype is not None:
            self.imported.kept[name] = f"keeptune computes in {' or '.join(known)}, whichever is faster where it runs"
        return {}

    def _adapter(self) -> dict[str, Any]:
        training, place = self.training, self.training.pet_config
        if place is None:
            raise RecipeError(
                f"{training.path}: it has no pet_config. To train, MindFormers would train all weights, and keeptune "
                "trains adapters; to predict, the base model would answer. Give the file that trains the adapter"
            )
        if (kind := training.text(f"{place}.pet_type")) not in (None, "lora"):
            raise RecipeError(f"{training.path}: pet_type is {shown(kind)}; keeptune takes over lora")
        self._use(f"{place}.pet_type", "adapter.family")
        made: dict[str, Any] = {
            "rank": training.whole(f"{place}.lora_rank"),
            "alpha": training.whole(f"{place}.lora_alpha"),
            "dropout": training.number(f"{place}.lora_dropout", 0.0),
            "targets": _as_regex(training.text(f"{place}.target_modules") or ""),
        }
        if lacking := [key for key in ("rank", "alpha", "targets") if made[key] in (None, "")]:
            raise RecipeError(
                f"{training.path}: {place} has no {', '.join(lacking)}; give lora_rank, lora_alpha and target_modules"
            )
        for key, option in zip(("lora_rank", "lora_alpha", "lora_dropout", "target_modules"), made, strict=True):
            self._use(f"{place}.{key}", f"adapter.{option}")
        return made

    def _optimiser(self) -> dict[str, Any]:
        training, name = self.training, "optimizer.type"
        kind = training.text(name)
        if kind in _OPTIMISERS:
            self._use(name, "train.optimizer")
        elif kind is not None:
            self.imported.kept[name] = f"keeptune has {', '.join(_OPTIMISERS)}; the recipe takes the first"
        self._use("optimizer.weight_decay", "train.weight_decay")
        clip = training.get("runner_wrapper.use_clip_grad") is True
        self._use("runner_wrapper.use_clip_grad", "train.clip_norm")
        if clip:
            self._use("runner_wrapper.max_grad_norm", "train.clip_norm")
        return {
            "optimizer": _OPTIMISERS.get(kind or "", "mindformers"),
            "weight_decay": training.number("optimizer.weight_decay", 0.0),
            "clip_norm": training.number("runner_wrapper.max_grad_norm", 1.0) if clip else _NO_CLIPPING,
        }

    def _schedule(self) -> dict[str, Any]:
        """The rates; where the schedule's type or its rate is not given, MindFormers has the rate at the optimiser."""
        training = self.training
        place = next(
            (own for own in ("lr_schedule", "optimizer") if training.get(f"{own}.learning_rate")), "lr_schedule"
        )
        peak = training.number(f"{place}.learning_rate")
        if not peak or peak < 0:
            raise training.refused("lr_schedule.learning_rate", training.get("lr_schedule.learning_rate"), "above 0")
        self._use(f"{place}.learning_rate", "train.learning_rate")
        end = training.number("lr_schedule.lr_end", 0.0) or 0.0
        kind = training.text("lr_schedule.type")
        if kind in (None, "ConstantWarmUpLR"):
            end = peak
        elif kind != "CosineWithWarmUpLR":
            self.imported.kept["lr_schedule.type"] = (
                "keeptune has CosineWithWarmUpLR and ConstantWarmUpLR; it takes the first"
            )
        if kind in ("CosineWithWarmUpLR", "ConstantWarmUpLR"):
            self._use("lr_schedule.type", "train.final_rate_share")
        self._use("lr_schedule.lr_end", "train.final_rate_share")
        return {"learning_rate": peak, "final_rate_share": end / peak, "warmup_share": self._warmup()}

    def _warmup(self) -> float:
        training = self.training
        share = training.number("lr_schedule.warmup_ratio")
        steps, total = training.number("lr_schedule.warmup_steps"), training.number("lr_schedule.total_steps", -1.0)
        if share is not None:
            self._use("lr_schedule.warmup_ratio", "train.warmup_share")
            return share
        if steps and total and total > 0:
            for name in ("lr_schedule.warmup_steps", "lr_schedule.total_steps"):
                self._use(name, "train.warmup_share")
            return steps / total
        return 0.0

    def _amounts(self, window: int) -> dict[str, Any]:
        """Epochs, and the step in tokens: as many rows as MindFormers takes, each as long as it may be."""
        training, rows = self.training, self.training.whole("runner_config.batch_size", 1)
        epochs = training.number("runner_config.epochs", 1.0)
        self._use("runner_config.epochs", "train.epochs")
        self._use("runner_config.batch_size", "train.tokens_per_step")
        assert rows is not None
        for name in self._batch_factors():
            rows *= training.whole(name, 1) or 1
            self._use(name, "train.tokens_per_step")
        self.imported.assumed.append(
            f"the rows' lengths: {rows:,} rows of at most {window:,} tokens a step are {rows * window:,} tokens. Where "
            f"they are shorter, set train.tokens_per_step to {rows:,} times their mean, which `keeptune plan` shows"
        )
        made: dict[str, Any] = {"epochs": epochs, "tokens_per_step": rows * window}
        if every := training.named("callbacks.*.save_checkpoint_steps"):
            made["checkpoint_every_steps"] = training.whole(every)
            self._use(every, "train.checkpoint_every_steps")
        return made

    def _batch_factors(self) -> list[str]:
        """What multiplies a batch: MindFormers accumulates outside of a pipeline, and inside has micro-batches instead.

        Source: mindformers/trainer/base_trainer.py of 1.9.0.
        """
        together, accumulated = self.training.get("use_parallel") is True, "runner_config.gradient_accumulation_steps"
        if not together:
            return [accumulated]
        piped = (self.training.whole("parallel_config.pipeline_stage", 1) or 1) > 1
        within = "parallel_config.micro_batch_num" if piped else accumulated
        return ["parallel_config.data_parallel", "micro_batch_interleave_num", within]


def _lengths(rows: Path, recipe: dict[str, Any]) -> traps.Lengths:
    """The longest row and the longest answer in a file, in the base model's tokens."""
    from keeptune.data.reader import read_rows
    from keeptune.data.row import Row
    from keeptune.models.load import load_tokenizer
    from keeptune.prompts.token_count import TokenCounter

    counter = TokenCounter.of(
        load_tokenizer(recipe["model"]["name"]), named.resolve_prompt(recipe["prompt"]["template"])
    )
    texts = [(row.problem, row.solution) for row in read_rows(rows) if isinstance(row, Row)]
    if not texts:
        raise DataError(
            f"{rows}: no row in it can be read; give the rows that the configuration's MindRecord was made of"
        )
    counts = counter(texts)
    return traps.Lengths(max(map(sum, counts)), max(answer for _, answer in counts))


def _as_regex(pattern: str) -> str:
    """The same pattern, so written that it is no module's name: `wq` is one to MindFormers, and a name in a recipe."""
    return f"{pattern}.*" if pattern.isidentifier() else pattern


def _comments(title: str, items: Sequence[str]) -> list[str]:
    return [f"# {title}: {item}" for item in items]
