"""Recipes with deprecated keys load as the same recipe, and each key is reported once with its replacement."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

from keeptune.config.aliases import ALIASES, DeprecatedKeyWarning
from keeptune.config.recipe import Recipe, dump, load, load_stored, parse, with_overrides
from keeptune.errors import RecipeError

ROOT = Path(__file__).parents[2]
TEACHER = {"url": "http://localhost:8000/v1", "model": "m", "task": "reasoning"}
VALUES: dict[str, Any] = {
    "data.unseen": ["/test.jsonl"],
    "data.repeat_limit": 3,
    "data.places": {"default": 3, "div": 1},
    "data.digits": {"sqrt": 4},
    "data.halves": {"default": "even"},
    "data.writer": TEACHER,
    "train.openings": {"area": 0.5},
    "train.recompute": "always",
    "train.replay": ["embedded", "self"],
    "train.replay_share": 0.2,
    "train.kl_weight": 0.5,
    "train.kl_on": "prompts",
    "retain.kl_on": "prompts",
    "select.kept_weight": 0.25,
}


def tree_with(*pairs: tuple[str, Any]) -> dict[str, Any]:
    """A recipe with a value at each dotted key."""
    tree: dict[str, Any] = {"data": {"synth": {"rows": 100}}}
    for key, value in pairs:
        *sections, last = key.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        node[last] = value
    return tree


def write(folder: Path, tree: dict[str, Any]) -> Path:
    path = folder / "a.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


def value_at(recipe: Recipe, key: str) -> Any:
    value: Any = recipe.model_dump(mode="json")
    for part in key.split("."):
        value = value[part]
    return value


def test_every_alias_has_a_case_and_names_a_key_that_exists() -> None:
    assert VALUES.keys() == ALIASES.keys()
    recipe = parse(tree_with(), "a.yaml")
    for new in ALIASES.values():
        value_at(recipe, new)


@pytest.mark.parametrize("old", ALIASES)
def test_an_old_key_sets_the_current_one_and_warns_once(tmp_path: Path, old: str) -> None:
    new, value = ALIASES[old], VALUES[old]
    expected = parse(tree_with((new, value)), "a.yaml")
    path = write(tmp_path, tree_with((old, value)))
    with pytest.warns(DeprecatedKeyWarning) as caught:
        recipe = load(path)
    (message,) = (str(warning.message) for warning in caught)
    assert str(path) in message and old in message and new in message
    assert recipe == expected != parse(tree_with(), "a.yaml")


@pytest.mark.parametrize("old", ALIASES)
def test_an_override_may_use_an_old_key(tmp_path: Path, old: str) -> None:
    new, value = ALIASES[old], VALUES[old]
    path = write(tmp_path, tree_with())
    with pytest.warns(DeprecatedKeyWarning) as caught:
        recipe = load(path, (f"{old}={yaml.safe_dump(value, default_flow_style=True).strip()}",))
    (message,) = (str(warning.message) for warning in caught)
    assert old in message and new in message
    assert recipe == parse(tree_with((new, value)), "a.yaml")


def test_an_override_may_reach_below_an_old_key(tmp_path: Path) -> None:
    path = write(tmp_path, tree_with(("data.rounding.decimals", {"add": 1})))
    with pytest.warns(DeprecatedKeyWarning, match=r"data\.rounding\.decimals"):
        recipe = load(path, ("data.places.default=4",))
    assert recipe.data.rounding.decimals == {"add": 1, "default": 4}


@pytest.mark.parametrize("key", ["train.replay_share", "retain.replay_share"])
def test_an_override_replaces_a_value_under_either_name(tmp_path: Path, key: str) -> None:
    path = write(tmp_path, tree_with(("train.replay_share", 0.2)))
    with pytest.warns(DeprecatedKeyWarning) as caught:
        assert load(path, (f"{key}=0.4",)).retain.replay_share == 0.4
    assert len(caught) == 1


@pytest.mark.parametrize("old", ALIASES)
def test_one_setting_under_two_names_is_an_error_that_names_both(tmp_path: Path, old: str) -> None:
    new, value = ALIASES[old], VALUES[old]
    path = write(tmp_path, tree_with((old, value), (new, value)))
    for read in (load, load_stored):
        with pytest.raises(RecipeError) as caught:
            read(path)
        assert all(name in str(caught.value) for name in (str(path), old, new))
    with pytest.raises(RecipeError) as caught:
        parse(tree_with((old, value), (new, value)), "a.yaml")
    assert old in str(caught.value) and new in str(caught.value)


def test_two_old_names_of_one_setting_are_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, tree_with(("train.kl_on", "prompts"), ("retain.kl_on", "prompts")))
    with pytest.raises(RecipeError) as caught:
        load(path)
    assert all(name in str(caught.value) for name in ("train.kl_on", "retain.kl_on", "retain.kl_tokens"))


@pytest.mark.parametrize("section", [None, 5, []])
def test_a_section_that_is_no_mapping_stays_a_recipe_error(tmp_path: Path, section: Any) -> None:
    for tree in (tree_with(("retain", section), ("train.kl_weight", 0.5)), tree_with(("train", section))):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecatedKeyWarning)
                load(write(tmp_path, tree))
        except RecipeError as error:
            assert "retain" in str(error) or "train" in str(error)


@pytest.mark.parametrize("key", ["data.unsen", "train.opening", "train.replay_shar", "select.kept_weigth"])
def test_a_misspelled_old_key_suggests_the_current_one(tmp_path: Path, key: str) -> None:
    current = {"data": "data.exclude_files", "select": "select.retention_weight"}
    expected = current.get(key.split(".")[0], "train.truncate_targets" if "opening" in key else "retain.replay_share")
    with pytest.raises(RecipeError) as caught:
        load(write(tmp_path, tree_with()), (f"{key}=1",))
    assert f"{key}: no such key; did you mean {expected}?" in str(caught.value)


def test_a_tree_is_not_changed_by_reading_it() -> None:
    tree = tree_with(*VALUES.items())
    del tree["retain"], tree["train"]["kl_on"]
    before = yaml.safe_dump(tree)
    with pytest.warns(DeprecatedKeyWarning):
        parse(tree, "a.yaml")
    with pytest.warns(DeprecatedKeyWarning):
        with_overrides(tree, ("seed=1",))
    assert yaml.safe_dump(tree) == before


def test_stored_recipes_load_without_a_warning(tmp_path: Path) -> None:
    """Warnings are errors in tests. The recipe of this published adapter has most of the old keys."""
    adapter = ROOT / "adapters" / "smollm2-135m-arithmetic-invoked" / "recipe.yaml"
    recipe = load_stored(adapter)
    assert recipe.gate.policy == "contest"
    assert (recipe.retain.replay_share, recipe.retain.kl_tokens) == (0.18, "replay")
    assert len(recipe.data.exclude_files) == 5
    with pytest.warns(DeprecatedKeyWarning) as caught:
        load(adapter)
    assert {str(warning.message).split()[1] for warning in caught} == ALIASES.keys() - {"retain.kl_on"}
    again = tmp_path / "recipe.yaml"
    again.write_text(dump(recipe), encoding="utf-8")
    assert load_stored(again) == recipe


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").rglob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_of_the_repository_use_current_keys(path: Path) -> None:
    assert load(path) == load_stored(path)
