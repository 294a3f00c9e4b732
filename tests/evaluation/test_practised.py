"""What training practised is found from the recipe, its files and the texts themselves."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from keeptune.config import recipe as recipes
from keeptune.config.ability_names import ABILITY_NAMES
from keeptune.config.recipe import Recipe
from keeptune.evaluation.abilities.registry import ABILITIES
from keeptune.evaluation.practised import practised_by, practised_by_source, practised_by_texts, tasks_of

PROSE = "The old ferry was painted green in spring, and nobody on the island could remember why.\n"
CHAT = "<|im_start|>user\nHow do I dry herbs?<|im_end|>\n<|im_start|>assistant\nIn the shade.<|im_end|>\n"
QUESTIONS = "Question: Which river flows through the town of Lenn?\nAnswer: the Ost\n"
CODE = "import numpy as np\n\ndef area(width: float, height: float) -> float:\n    return width * height\n"
PASSAGE = {"en": "Ann Moss keeps nine goats on the hill.", "zh": "安妮在山上养了九只山羊，每天早上挤奶。"}


def squad(path: Path, language: str) -> Path:
    asked = {"en": ("How many goats?", "nine"), "zh": ("养了几只山羊？", "九只")}[language]
    question = {"id": "q1", "question": asked[0], "answers": [{"text": asked[1], "answer_start": 0}]}
    paragraphs = [{"context": PASSAGE[language], "qas": [question]}]
    path.write_text(json.dumps({"data": [{"title": "Goats", "paragraphs": paragraphs}]}), encoding="utf-8")
    return path


def recipe(folder: Path, replay: list[str], share: float = 0.1, start: Path | None = None) -> Recipe:
    """The recipe that is stored in a folder, as a run stores it."""
    folder.mkdir(parents=True, exist_ok=True)
    tree: dict[str, Any] = {
        "data": {"files": ["rows.jsonl"]},
        "retain": {"replay": replay, "replay_share": share},
        "adapter": {"start": str(start)} if start else {},
        "score": {"suite": "quick"},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return recipes.load(path)


def source(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_embedded_replay_practises_reading(tmp_path: Path) -> None:
    assert set(practised_by(recipe(tmp_path, ["embedded"]))) == {"reading-en"}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_squad_file_practises_reading_in_its_language(tmp_path: Path, language: str) -> None:
    made = practised_by_source(str(squad(tmp_path / "mine.json", language)))
    assert set(made) == {f"reading-{language}"}
    assert "mine.json" in made[f"reading-{language}"]


@pytest.mark.parametrize(
    ("text", "abilities"),
    [
        (PROSE, {"general-text"}),
        (CHAT, {"chat", "instructions"}),
        ("User: How do I dry herbs?\nAssistant: In the shade.\n", {"chat", "instructions"}),
        ("用户：怎样晒干香草？\n助手：放在阴凉处。\n", {"chat", "instructions"}),
        ("[INST] How do I dry herbs? [/INST] In the shade.\n", {"chat", "instructions"}),
        (QUESTIONS, {"knowledge"}),
        ("Q: Which river?\nA: the Ost\n", {"knowledge"}),
        ("问题：哪条河？\n答案：奥斯特河\n", {"knowledge"}),
        (CODE, {"code"}),
        ("def area(width, height):\n    return width * height\n", {"code"}),
        ("for n in range(3):\n    print(n)\n", {"code"}),
        ("from math import pi\nradius = 2\n", {"code"}),
        ("class Ferry(Ship):\n    colour = 'green'\n", {"code"}),
        ("She asked one question: why? The answer: nobody knew.\n", {"general-text"}),
        ("Users of the ferry pay at the pier.\n", {"general-text"}),
        ("From the import of tea they grew rich.\n", {"general-text"}),
        (f"{PROSE}\n{QUESTIONS}\n{CODE}", {"general-text", "knowledge", "code"}),
    ],
)
def test_plain_text_practises_the_task_that_it_has(tmp_path: Path, text: str, abilities: set[str]) -> None:
    made = practised_by_source(source(tmp_path, "texts.txt", text))
    assert set(made) == abilities
    assert all("texts.txt" in reason for reason in made.values())


def test_only_known_abilities_are_practised() -> None:
    assert tasks_of([PROSE, CHAT, QUESTIONS, CODE]) <= set(ABILITY_NAMES)
    assert tasks_of([]) == set()


def test_no_replay_practises_nothing(tmp_path: Path) -> None:
    assert practised_by(recipe(tmp_path, ["embedded"], share=0)) == {}


def test_all_sources_count(tmp_path: Path) -> None:
    own = [str(squad(tmp_path / "zh.json", "zh")), source(tmp_path, "chat.txt", CHAT), "embedded"]
    assert set(practised_by(recipe(tmp_path, own))) == {"reading-en", "reading-zh", "chat", "instructions"}


def test_a_file_that_is_gone_still_has_its_name(tmp_path: Path) -> None:
    gone = [str(tmp_path / "gone.json"), str(tmp_path / "gone.txt")]
    assert set(practised_by(recipe(tmp_path, gone))) == {"reading-en", "general-text"}


@pytest.mark.parametrize("ability", [name for name in ABILITY_NAMES if name not in ("grammar", "long-context", "code")])
def test_a_training_text_with_an_item_in_it_practises_its_ability(ability: str) -> None:
    whole = {
        "general-text": "text",
        "chat": "messages",
        "reading-en": "context",
        "reading-zh": "context",
        "commonsense": "question",
    }
    texts = []
    for item in ABILITIES[ability].items("final", "full"):
        value = getattr(item, whole.get(ability, "prompt"), None) or ABILITIES[ability].item_fields(item)["question"]
        texts.append(value if isinstance(value, str) else value[-1].content)
    text = max(texts, key=len)
    made = practised_by_texts([PROSE, f"It is said: {text} That is all."], "training data")
    assert ability in made
    assert made[ability].startswith("training data")


def test_other_texts_practise_nothing() -> None:
    assert practised_by_texts([PROSE, CHAT, QUESTIONS, CODE, *PASSAGE.values(), ""], "training data") == {}
    first = ABILITIES["reading-en"].items("final", "full")[0]
    worked = ABILITIES["reading-en"].item_fields(first)["prompt"].partition(first.context)[0]
    assert practised_by_texts([worked], "training data") == {}  # the worked passages are no items


def test_replay_that_holds_an_item_practises_two_abilities(tmp_path: Path) -> None:
    passage = ABILITIES["reading-en"].items("final", "full")[0].context
    made = practised_by_source(source(tmp_path, "texts.txt", passage))
    assert set(made) == {"general-text", "reading-en"}


def test_an_adapter_inherits_what_its_ancestors_practised(tmp_path: Path) -> None:
    chat, code = source(tmp_path, "chat.txt", CHAT), source(tmp_path, "code.txt", CODE)
    recipe(tmp_path / "first", [chat])
    (tmp_path / "first" / "adapter").mkdir()
    recipe(tmp_path / "second", [code], start=tmp_path / "first" / "adapter")
    # The recipe stands beside the adapter here, and in the folder above it there.
    third = recipe(tmp_path / "third", [source(tmp_path, "prose.txt", PROSE)], start=tmp_path / "second")
    assert set(practised_by(third)) == {"chat", "instructions", "code", "general-text"}
    without = recipe(tmp_path / "fourth", ["embedded"], share=0, start=tmp_path / "second")
    assert set(practised_by(without)) == {"chat", "instructions", "code"}


def test_the_newest_reason_is_given(tmp_path: Path) -> None:
    recipe(tmp_path / "first", [source(tmp_path, "old.txt", CHAT)])
    second = recipe(tmp_path / "second", [source(tmp_path, "new.txt", CHAT)], start=tmp_path / "first")
    assert "new.txt" in practised_by(second)["chat"]


def test_an_adapter_without_recipe_has_no_practised_abilities(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    assert practised_by(recipe(tmp_path / "run", ["embedded"], start=tmp_path / "adapter")).keys() == {"reading-en"}
    (tmp_path / "adapter" / "recipe.yaml").write_text("name: [", encoding="utf-8")
    assert practised_by(recipe(tmp_path / "run", ["embedded"], start=tmp_path / "adapter")).keys() == {"reading-en"}


def test_a_cyclic_chain_of_start_adapters_ends(tmp_path: Path) -> None:
    own = recipe(tmp_path, [source(tmp_path, "chat.txt", CHAT)], start=tmp_path)
    assert set(practised_by(own)) == {"chat", "instructions"}
