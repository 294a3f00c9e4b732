"""A MindFormers configuration becomes a recipe, with no value lost in silence, and its traps have names."""

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
from keeptune.mindspore.configuration import read
from keeptune.mindspore.recipe_yaml import Imported, import_recipe, write_recipe
from keeptune.prompts.named import NAMED


def stored(folder: Path, tree: Any, name: str = "train.yaml") -> Path:
    path = folder / name
    path.write_text(tree if isinstance(tree, str) else yaml.safe_dump(tree), encoding="utf-8")
    return path


def imported(folder: Path, tree: Any, *others: kit.Tree, **options: Any) -> Imported:
    evaluations = [stored(folder, other, f"other{number}.yaml") for number, other in enumerate(others)]
    return import_recipe(stored(folder, tree), evaluations, **options)


@pytest.mark.parametrize("name", kit.TEAMS)
def test_every_value_of_a_teams_file_is_used_or_has_a_reason(name: str, tmp_path: Path) -> None:
    tree = kit.team(name)
    made = imported(tmp_path, tree)
    values = read(tmp_path / "train.yaml").values
    kept = {entry.split(": ")[0] for entry in made.kept}
    assert made.used.keys() | kept == values.keys()
    assert not made.used.keys() & kept
    assert not [entry for entry, why in made.kept.items() if "no key that keeptune knows" in why]
    recipe = recipes.parse(made.recipe, name)
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
    ("tree", "trap"),
    [
        (kit.training(only_save_strategy=True), "only_save_strategy: True writes the strategy files and exits without"),
        (kit.training(output_dir="/elsewhere"), "output_dir: '/elsewhere': run_llama3.py stops"),
        (kit.training(resume_training=True), "resume_training: True goes on with an optimiser's state"),
        (kit.training(), "train_dataset.drop_remainder: True leaves out the rows"),
        (kit.training(runner_config__sink_size=3), "save_checkpoint_steps: 1400 is no multiple of sink_size 3"),
        (kit.lora(target_modules=".*query|.*key"), "'.*query|.*key' matches none of wq, wk, wv, wo, w1, w2, w3, so no"),
        (kit.lora(target_modules=".*wq | .*wv"), "'.*wq ', ' .*wv' matches"),
        (kit.lora(target_modules=".*wq| .*wv"), "' .*wv' matches none of wq, wk, wv, wo, w1, w2, w3; spaces around |"),
        (kit.lora(target_modules="*.wv"), "'*.wv' is no regular expression"),
        (kit.lora(target_modules=".*wq|"), "has an empty alternative, which matches every cell"),
        (kit.training(lr_schedule__learning_rate="1e-5"), "lr_schedule.learning_rate: 1e-5 is a text to YAML"),
    ],
)
def test_traps_of_training(tree: kit.Tree, trap: str, tmp_path: Path) -> None:
    if trap.startswith("'.*wq ', "):
        trap = "matches none of wq, wk, wv, wo, w1, w2, w3, so nothing is trained"
    assert [own for own in imported(tmp_path, tree).traps if trap in own]


@pytest.mark.parametrize(
    ("other", "trap"),
    [
        (kit.stock(), "there is no pet_config"),
        (kit.predicting(model__model_config__pet_config__lora_rank=16), "lora_rank: 16 here and 8 in training"),
        (kit.reading(model__model_config__pet_config__lora_alpha=8), "lora_alpha: 8 here and 16 in training"),
        (kit.reading(model__model_config__pet_config__target_modules=".*wq"), "target_modules: '.*wq' here and"),
        (kit.reading(model__model_config__min_new_tokens=1), "min_new_tokens: 1 forbids empty answers"),
        (kit.predicting(), "compute_dtype: 'float16' here and 'bfloat16' in training"),
        (kit.predicting(), "max_new_tokens: 128 counts; max_decode_length and --max_length do not"),
    ],
)
def test_traps_of_evaluation(other: kit.Tree, trap: str, tmp_path: Path) -> None:
    found = imported(tmp_path, kit.training(), other).traps
    assert [own for own in found if own.startswith("other0.yaml: ") and trap in own]


def test_files_that_agree_have_no_trap_of_disagreement(tmp_path: Path) -> None:
    found = imported(tmp_path, kit.training(train_dataset__drop_remainder=False), kit.predicting()).traps
    assert [own for own in found if "compute_dtype" not in own and "max_new_tokens" not in own] == []


def test_rows_at_hand_are_counted(model_folder: Path, tmp_path: Path) -> None:
    rows, words = tmp_path / "rows.jsonl", tiny.tokenizer()
    pairs = [(problem, solution) for _, problem, solution in tiny.problems(20)]
    lines = (json.dumps({"problem": problem, "solution": solution}) for problem, solution in pairs)
    rows.write_text("\n".join(lines), encoding="utf-8")
    answer = max(len(words.encode(solution)) + 1 for _, solution in pairs)
    row = max(len(words.encode(f"Q {problem}\n")) + len(words.encode(solution)) + 1 for problem, solution in pairs)

    def found(window: int, budget: int) -> list[str]:
        tree = kit.training(model__model_config__seq_length=window)
        other = kit.predicting(model__model_config__max_new_tokens=budget)
        made = imported(tmp_path, tree, other, rows=rows, prompt="Q {problem}\n", model=str(model_folder))
        assert made.recipe["data"]["files"] == [str(rows)]
        return [own for own in made.traps if "cuts" in own]

    assert found(row - 1, answer) == []
    cut_rows, cut_answers = found(row - 2, answer - 1)
    assert cut_rows.startswith(f"model.model_config.seq_length: {row - 2} cuts rows of up to {row} tokens")
    assert f"max_new_tokens: {answer - 1} cuts answers of up to {answer} tokens" in cut_answers
    rows.write_text("{}\n", encoding="utf-8")
    with pytest.raises(DataError, match="no row in it can be read"):
        found(256, 128)


def test_the_batch_is_what_all_devices_take_together(tmp_path: Path) -> None:
    tree = kit.training(
        parallel_config__data_parallel=2,
        parallel_config__micro_batch_num=3,
        runner_config__gradient_accumulation_steps=5,
        micro_batch_interleave_num=7,
    )
    assert imported(tmp_path, tree).recipe["train"]["tokens_per_step"] == 64 * 2 * 7 * 5 * 256
    tree["parallel_config"]["pipeline_stage"] = 2
    assert imported(tmp_path, tree).recipe["train"]["tokens_per_step"] == 64 * 2 * 7 * 3 * 256
    alone = kit.training(parallel_config__data_parallel=2, use_parallel=False)
    assert imported(tmp_path, alone).recipe["train"]["tokens_per_step"] == 64 * 256


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
def test_other_settings_of_training(changes: dict[str, Any], option: str, value: Any, tmp_path: Path) -> None:
    assert imported(tmp_path, kit.training(**changes)).recipe["train"][option] == value


def test_what_keeptune_has_not_is_said(tmp_path: Path) -> None:
    made = imported(tmp_path, kit.training(optimizer__type="Lion", optimizer__beta2=0.999, lr_scheduler={"type": "X"}))
    assert made.kept["optimizer.type: 'Lion'"].startswith("keeptune has FP32StateAdamWeightDecay")
    assert made.kept["optimizer.beta2: 0.999"] == "keeptune's is 0.95"
    assert made.kept["lr_scheduler.type: 'X'"] == "no key that keeptune knows; did you mean lr_schedule.type?"


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (kit.stock(), "it has no pet_config. To train, MindFormers would train all weights"),
        (kit.lora(pet_type="prefixtuning"), "pet_type is 'prefixtuning'; keeptune takes over lora"),
        (kit.lora(lora_rank=None), "has no rank; give lora_rank"),
        (kit.lora(lora_rank="eight"), "lora_rank is 'eight', and it has to be a number"),
        (kit.lora(lora_alpha=0), "lora_alpha is 0, and it has to be an integer above 0"),
        (kit.lora(target_modules=["wq"]), "target_modules is ['wq'], and it has to be a text"),
        (kit.lora(lora_dropout=1.5), "adapter.dropout must be < 1"),
        (kit.training(runner_config__epochs=-1), "train.epochs must be > 0"),
        (kit.training(lr_schedule__learning_rate=-1), "lr_schedule.learning_rate is -1, and it has to be above 0"),
        (kit.training(seed=0.5), "seed is 0.5, and it has to be an integer"),
        (kit.training(model__model_config__hidden_size=2048), "name the model with --model"),
        ("- a\n- b\n", "is a mapping"),
        ("{}", "is a mapping"),
        ("a: [", "not valid YAML"),
        ("a: !!int ''", "not valid YAML (IndexError"),
        ("a: &a {b: *a}", "deeper than 20 levels"),
        ("&a [*a]", "is a mapping"),
        ("a: &a [1, *a]", "deeper than 20 levels"),
    ],
)
def test_files_that_give_no_recipe(tree: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        imported(tmp_path, tree)
    assert str(tmp_path / "train.yaml") in str(caught.value)
    assert message in str(caught.value)


def test_a_tree_of_a_billion_values_is_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [{b: 1}, {b: 2}]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    with pytest.raises(RecipeError, match="more than 5,000 values"):
        imported(tmp_path, "\n".join(lines))


def test_the_recipe_file_can_be_read_and_holds_what_was_kept(tmp_path: Path) -> None:
    path, out = stored(tmp_path, kit.training(remote_save_url="a\nb: c\x85d")), tmp_path / "recipe.yaml"
    told = write_recipe(path, out, [stored(tmp_path, kit.stock(), "predict.yaml")], None, "vicuna", None, "arithmetic")
    assert recipes.load(out).prompt.template == NAMED["vicuna"]
    text = out.read_text(encoding="utf-8")
    assert "# Trap: predict.yaml: there is no pet_config" in text
    assert "# Kept, not used: context.max_device_memory: '26GB': how MindSpore runs on its device" in text
    assert "model.model_config.pet_config.lora_rank → adapter.rank" in told
    with pytest.raises(RecipeError, match="it exists already"):
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
def test_other_values_give_a_recipe_or_a_clear_error(tmp_path_factory: pytest.TempPathFactory, changes: Any) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    made_of = kit.training()
    for name, value in changes.items():
        node, *rest = made_of, *name.split("__")
        for part in rest[:-1]:
            node = node[part] if isinstance(node.get(part), dict) else node.setdefault(f"{part}2", {})
        node[rest[-1]] = value
    works(folder, yaml.safe_dump(made_of, allow_unicode=True))


OFFICIAL = yaml.safe_dump(kit.training(), sort_keys=False)


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, len(OFFICIAL)), st.integers(0, 8), st.text(max_size=4)), max_size=4))
def test_spoilt_text_gives_a_recipe_or_a_clear_error(tmp_path_factory: pytest.TempPathFactory, edits: Any) -> None:
    text = OFFICIAL
    for place, cut, insert in edits:
        text = text[:place] + insert + text[place + cut :]
    works(tmp_path_factory.mktemp("fuzz"), text.encode("utf-8", errors="replace").decode())


def works(folder: Path, text: str) -> None:
    """A recipe that can be read back, or an error of ours that names the file."""
    path = stored(folder, text)
    try:
        made = import_recipe(path)
    except KeeptuneError as error:
        assert str(path) in str(error)
        return
    again = recipes.parse(yaml.safe_load(made.text()), "again")
    assert again.adapter == recipes.parse(made.recipe, "first").adapter
    assert again.train == recipes.parse(made.recipe, "first").train
    assert math.isfinite(again.train.learning_rate)
