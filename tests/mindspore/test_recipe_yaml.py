"""Importing MindFormers configurations: each setting is used or listed with a reason, and mistakes cause warnings."""

import json
import math
from pathlib import Path
from typing import Any

import kit
import pytest
import tiny
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from keeptune.config import recipe as recipes
from keeptune.errors import DataError, KeeptuneError, RecipeError
from keeptune.mindspore.configuration import load_configuration
from keeptune.mindspore.recipe_yaml import ImportedRecipe, import_recipe, write_recipe
from keeptune.mindspore.unsupported_keys import UNKNOWN_KEY
from keeptune.prompts.named import NAMED


def write_yaml(folder: Path, tree: Any, name: str = "train.yaml") -> Path:
    path = folder / name
    path.write_text(tree if isinstance(tree, str) else yaml.safe_dump(tree), encoding="utf-8")
    return path


def imported(folder: Path, tree: Any, *others: kit.Tree, **options: Any) -> ImportedRecipe:
    evaluations = [write_yaml(folder, other, f"other{number}.yaml") for number, other in enumerate(others)]
    return import_recipe(write_yaml(folder, tree), evaluations, **options)


@pytest.mark.parametrize("name", kit.TEAMS)
def test_each_setting_of_a_contest_file_is_used_or_has_a_reason(name: str, tmp_path: Path) -> None:
    tree = kit.team(name)
    result = imported(tmp_path, tree)
    values = load_configuration(tmp_path / "train.yaml").values
    unused = {setting.split(": ")[0] for setting in result.unused}
    assert result.used.keys() | unused == values.keys()
    assert not result.used.keys() & unused
    assert not [setting for setting, why in result.unused.items() if UNKNOWN_KEY in why]
    recipe = recipes.parse(result.recipe, name)
    pet, runner, rates = tree["model"]["model_config"]["pet_config"], tree["runner_config"], tree["lr_schedule"]
    assert recipe.model.name == "meta-llama/Meta-Llama-3-8B"
    assert recipe.model.dtype == "bfloat16"
    assert recipe.data.max_tokens == tree["model"]["model_config"]["seq_length"]
    assert recipe.prompt.template == NAMED["vicuna-alpaca"]
    adapter, train = recipe.adapter, recipe.train
    assert (adapter.rank, adapter.alpha, adapter.dropout) == (pet["lora_rank"], pet["lora_alpha"], pet["lora_dropout"])
    assert adapter.targets == pet["target_modules"]
    assert (train.optimizer, train.epochs, train.clip_norm) == ("mindformers", runner["epochs"], 1.0)
    assert train.learning_rate == rates["learning_rate"]
    assert train.final_rate_share * train.learning_rate == pytest.approx(rates["lr_end"])
    assert train.warmup_share == rates["warmup_ratio"]
    assert train.tokens_per_step == runner["batch_size"] * recipe.data.max_tokens
    assert (train.checkpoint_every_steps, recipe.retain.replay_share, train.weight_decay) == (1400, 0, 0)


@pytest.mark.parametrize(
    ("tree", "warning"),
    [
        (kit.training(only_save_strategy=True), "only_save_strategy: True"),
        (kit.training(output_dir="/elsewhere"), "output_dir: '/elsewhere'"),
        (kit.training(resume_training=True), "resume_training: True"),
        (kit.training(), "drop_remainder: True"),
        (kit.training(runner_config__sink_size=3), "1400 is not a multiple of sink_size 3"),
        (kit.lora(target_modules=".*query|.*key"), "'.*query|.*key' matches none of"),
        (kit.lora(target_modules=".*wq | .*wv"), "so nothing is trained"),
        (kit.lora(target_modules=".*wq| .*wv"), "w3; spaces around |"),
        (kit.lora(target_modules="*.wv"), "'*.wv' is not a regular"),
        (kit.lora(target_modules=".*wq|"), "has an empty alternative"),
        (kit.training(lr_schedule__learning_rate="1e-5"), "YAML reads 1e-5 as a string"),
    ],
)
def test_training_warnings(tree: kit.Tree, warning: str, tmp_path: Path) -> None:
    assert [message for message in imported(tmp_path, tree).warnings if warning in message]


@pytest.mark.parametrize(
    ("other", "warning"),
    [
        (kit.stock(), "no pet_config"),
        (kit.predicting(model__model_config__pet_config__lora_rank=16), "lora_rank: 16 here and 8 in training"),
        (kit.reading(model__model_config__pet_config__lora_alpha=8), "lora_alpha: 8 here and 16 in training"),
        (kit.reading(model__model_config__pet_config__target_modules=".*wq"), "target_modules: '.*wq' here and"),
        (kit.reading(model__model_config__min_new_tokens=1), "min_new_tokens: 1"),
        (kit.predicting(), "compute_dtype: 'float16' here and 'bfloat16' in training"),
        (kit.predicting(), "max_new_tokens: 128 overrides"),
    ],
)
def test_evaluation_warnings(other: kit.Tree, warning: str, tmp_path: Path) -> None:
    warnings = imported(tmp_path, kit.training(), other).warnings
    assert [message for message in warnings if "other0.yaml" in message and warning in message]


def test_consistent_files_cause_no_mismatch_warnings(tmp_path: Path) -> None:
    result = imported(tmp_path, kit.training(train_dataset__drop_remainder=False), kit.predicting())
    expected = ("compute_dtype", "max_new_tokens")
    assert not [message for message in result.warnings if not any(key in message for key in expected)]


def test_token_lengths_of_given_rows_are_checked(model_folder: Path, tmp_path: Path) -> None:
    rows, tokenizer = tmp_path / "rows.jsonl", tiny.tokenizer()
    pairs = [(problem, solution) for _, problem, solution in tiny.problems(20)]
    lines = (json.dumps({"problem": problem, "solution": solution}) for problem, solution in pairs)
    rows.write_text("\n".join(lines), encoding="utf-8")
    answer = max(len(tokenizer.encode(solution)) + 1 for _, solution in pairs)
    row = max(len(tokenizer.encode(f"Q {problem}\n") + tokenizer.encode(solution)) + 1 for problem, solution in pairs)

    def truncations(window: int, budget: int) -> list[str]:
        tree = kit.training(model__model_config__seq_length=window)
        other = kit.predicting(model__model_config__max_new_tokens=budget)
        result = imported(tmp_path, tree, other, rows=rows, prompt="Q {problem}\n", model=str(model_folder))
        assert result.recipe["data"]["files"] == [str(rows)]
        return [message for message in result.warnings if "truncates" in message]

    assert truncations(row - 1, answer) == []
    of_rows, of_answers = truncations(row - 2, answer - 1)
    assert f"seq_length: {row - 2} " in of_rows and f" {row} tokens" in of_rows
    assert f"max_new_tokens: {answer - 1} " in of_answers and f" {answer} tokens" in of_answers
    rows.write_text("{}\n", encoding="utf-8")
    with pytest.raises(DataError, match="no row can be read"):
        truncations(256, 128)


def test_tokens_per_step_covers_all_devices(tmp_path: Path) -> None:
    tree = kit.training(
        parallel_config__data_parallel=2,
        parallel_config__micro_batch_num=3,
        runner_config__gradient_accumulation_steps=5,
        micro_batch_interleave_num=7,
    )
    assert imported(tmp_path, tree).recipe["train"]["tokens_per_step"] == 64 * 2 * 7 * 5 * 256
    tree["parallel_config"]["pipeline_stage"] = 2
    assert imported(tmp_path, tree).recipe["train"]["tokens_per_step"] == 64 * 2 * 7 * 3 * 256
    one_device = kit.training(parallel_config__data_parallel=2, use_parallel=False)
    assert imported(tmp_path, one_device).recipe["train"]["tokens_per_step"] == 64 * 256


@pytest.mark.parametrize(
    ("changes", "option", "value"),
    [
        ({"optimizer__type": "AdamW"}, "optimizer", "adamw"),
        ({"optimizer__type": "AdamWeightDecay"}, "optimizer", "mindformers"),
        ({"optimizer__weight_decay": 0.1}, "weight_decay", 0.1),
        ({"runner_wrapper__use_clip_grad": False}, "clip_norm", 1e9),
        ({"runner_wrapper__max_grad_norm": 0.5}, "clip_norm", 0.5),
        ({"lr_schedule__type": "ConstantWarmUpLR"}, "final_rate_share", 1.0),
        ({"lr_schedule__warmup_ratio": None, "lr_schedule__warmup_steps": 5, "lr_schedule__total_steps": 50},
         "warmup_share", 0.1),
        ({"lr_schedule__warmup_ratio": None}, "warmup_share", 0.0),
    ],
)  # fmt: skip
def test_other_training_settings(changes: dict[str, Any], option: str, value: Any, tmp_path: Path) -> None:
    assert imported(tmp_path, kit.training(**changes)).recipe["train"][option] == value


def test_unsupported_values_have_a_reason(tmp_path: Path) -> None:
    result = imported(
        tmp_path, kit.training(optimizer__type="Lion", optimizer__beta2=0.999, lr_scheduler={"type": "X"})
    )
    assert "FP32StateAdamWeightDecay" in result.unused["optimizer.type: 'Lion'"]
    assert "0.95" in result.unused["optimizer.beta2: 0.999"]
    reason = result.unused["lr_scheduler.type: 'X'"]
    assert UNKNOWN_KEY in reason and "lr_schedule.type" in reason


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (kit.stock(), "no pet_config"),
        (kit.lora(pet_type="prefixtuning"), "pet_type must be 'lora'"),
        (kit.lora(lora_rank=None), "has no rank"),
        (kit.lora(lora_rank="eight"), "lora_rank must be a number"),
        (kit.lora(lora_alpha=0), "lora_alpha must be an integer"),
        (kit.lora(target_modules=["wq"]), "target_modules must be a string"),
        (kit.lora(lora_dropout=1.5), "adapter.dropout must be < 1"),
        (kit.training(runner_config__epochs=-1), "train.epochs must be > 0"),
        (kit.training(lr_schedule__learning_rate=-1), "lr_schedule.learning_rate must"),
        (kit.training(seed=0.5), "seed must be an integer"),
        (kit.training(model__model_config__hidden_size=2048), "--model"),
        ("- a\n- b\n", "is a mapping"),
        ("{}", "is a mapping"),
        ("a: [", "not valid YAML"),
        ("a: !!int ''", "IndexError"),
        ("a: &a {b: *a}", "deeper than 20 levels"),
        ("&a [*a]", "deeper than 20 levels"),
        ("a: &a [1, *a]", "deeper than 20 levels"),
    ],
)
def test_invalid_files_are_rejected(tree: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        imported(tmp_path, tree)
    assert str(tmp_path / "train.yaml") in str(caught.value)
    assert message in str(caught.value)


def test_tree_of_a_billion_values_is_rejected(tmp_path: Path) -> None:
    lines = ["a0: &a0 [{b: 1}, {b: 2}]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    with pytest.raises(RecipeError, match=r"more than .* values"):
        imported(tmp_path, "\n".join(lines))


def test_recipe_file_lists_warnings_and_unused_settings(tmp_path: Path) -> None:
    path, out = write_yaml(tmp_path, kit.training(remote_save_url="a\nb: c\x85d")), tmp_path / "recipe.yaml"
    summary = write_recipe(
        path, out, [write_yaml(tmp_path, kit.stock(), "predict.yaml")], None, "vicuna", None, "arithmetic"
    )
    assert recipes.load(out).prompt.template == NAMED["vicuna"]
    text = out.read_text(encoding="utf-8")
    assert "predict.yaml: there is no pet_config" in text
    assert "context.max_device_memory: '26GB': " in text
    assert "model.model_config.pet_config.lora_rank → adapter.rank" in summary
    with pytest.raises(RecipeError, match="exists"):
        write_recipe(path, out, [], None, None, None, "arithmetic")


NAMES = sorted(
    f"{section}__{name}" if isinstance(values, dict) else section
    for section, values in kit.training().items()
    for name in (values if isinstance(values, dict) else [""])
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.just(10**400) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=6,
)
PLACES = st.sampled_from([*NAMES, *(f"model__model_config__pet_config__{n}" for n in ("lora_rank", "target_modules"))])


@settings(max_examples=25)
@given(st.dictionaries(PLACES, VALUES, min_size=1, max_size=4))
def test_random_values_give_a_recipe_or_an_error(tmp_path_factory: pytest.TempPathFactory, changes: Any) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    tree = kit.training()
    for name, value in changes.items():
        node, *rest = tree, *name.split("__")
        for part in rest[:-1]:
            node = node[part] if isinstance(node.get(part), dict) else node.setdefault(f"{part}2", {})
        node[rest[-1]] = value
    works(folder, yaml.safe_dump(tree, allow_unicode=True))


OFFICIAL = yaml.safe_dump(kit.training(), sort_keys=False)


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, len(OFFICIAL)), st.integers(0, 8), st.text(max_size=4)), max_size=4))
def test_damaged_text_gives_a_recipe_or_an_error(tmp_path_factory: pytest.TempPathFactory, edits: Any) -> None:
    text = OFFICIAL
    for place, cut, insert in edits:
        text = text[:place] + insert + text[place + cut :]
    works(tmp_path_factory.mktemp("fuzz"), text.encode("utf-8", errors="replace").decode())


def works(folder: Path, text: str) -> None:
    """A recipe that can be read back, or an error of ours that names the file."""
    path = write_yaml(folder, text)
    try:
        result = import_recipe(path)
    except KeeptuneError as error:
        assert str(path) in str(error)
        return
    again = recipes.parse(yaml.safe_load(result.text()), "again")
    assert again.adapter == recipes.parse(result.recipe, "first").adapter
    assert again.train == recipes.parse(result.recipe, "first").train
    assert math.isfinite(again.train.learning_rate)
