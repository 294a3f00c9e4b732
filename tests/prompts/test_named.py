"""The prompts of the contest's kit, letter by letter, and nothing under a name that is not there."""

import json
from pathlib import Path

import pytest

from keeptune.config.recipe import dump, load, parse
from keeptune.data.reader import read_rows
from keeptune.data.row import RawRow
from keeptune.errors import PromptError, RecipeError
from keeptune.prompts.named import NAMED, conversation_template, resolve_prompt, resolve_template
from keeptune.prompts.template import Prompt

SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions."
)
ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n计算 1 + 1 等于多少？\n\n### Response:"
)


def rendered_by_the_kit(human: str, gpt: str) -> str:
    """FastChat's two-separator style: each turn is its role, a colon and a space, its text and its separator."""
    text = SYSTEM + " "
    for role, message, separator in (("USER", human, " "), ("ASSISTANT", gpt, "</s>")):
        text += f"{role}: {message}{separator}"
    return text


@pytest.mark.parametrize(("name", "human"), [("vicuna", "计算 1 + 1 等于多少？"), ("vicuna-alpaca", ALPACA)])
def test_prompt_and_answer_are_what_the_kit_trains_on(name: str, human: str) -> None:
    asked = resolve_prompt(name).render("计算 1 + 1 等于多少？")
    assert f"{asked} 1 + 1 = 2</s>" == rendered_by_the_kit(human, "1 + 1 = 2")
    assert resolve_prompt("alpaca").render("计算 1 + 1 等于多少？") == ALPACA


def test_a_recipe_names_one_and_stores_its_text(tmp_path: Path) -> None:
    tree = {"data": {"synth": {"rows": 9}}, "prompt": {"template": "vicuna-alpaca"}}
    recipe = parse(tree, "a.yaml")
    assert recipe.prompt.template == NAMED["vicuna-alpaca"]
    (tmp_path / "stored.yaml").write_text(dump(recipe), encoding="utf-8")
    assert load(tmp_path / "stored.yaml") == recipe
    with pytest.raises(RecipeError, match=r"prompt.template: .* vicuna"):
        parse({**tree, "prompt": {"template": "vicunna"}}, "a.yaml")


def test_an_unknown_name_must_be_a_template() -> None:
    assert resolve_template("{problem}=") == "{problem}="
    with pytest.raises(PromptError, match=r"'alpacca'.* alpaca\?"):
        resolve_template("alpacca")
    with pytest.raises(PromptError, match="exactly once"):
        resolve_template("{problem}{problem}")


def test_the_human_turn_of_a_prompt_that_the_kit_can_make() -> None:
    assert conversation_template(resolve_prompt("vicuna")) == "{problem}"
    assert conversation_template(resolve_prompt("vicuna-alpaca")) == NAMED["alpaca"]
    assert conversation_template(resolve_prompt("alpaca")) is None
    assert conversation_template(Prompt("{problem}")) is None


def test_a_conversation_file_is_read_without_its_wrapper(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": ALPACA}, {"from": "gpt", "value": "1 + 1 = 2"}]
    (tmp_path / "rows.json").write_text(json.dumps([{"id": "1", "conversations": turns}]), encoding="utf-8")
    [row] = read_rows(tmp_path / "rows.json")
    assert isinstance(row, RawRow)
    assert (row.problem, row.solution, row.unwrapped) == ("计算 1 + 1 等于多少？", "1 + 1 = 2", True)
