"""The card beside an adapter comes back as it was, or is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeptune.errors import ModelError
from keeptune.models.adapter_metadata import FILE, AdapterCard, load, save
from keeptune.prompts.template import Prompt

CARD = AdapterCard("smollm2-135m", "arithmetic", Prompt("问：{problem}\n答："), {"add": 40, "english": 200}, 0.75)


def edited(folder: Path, **changes: Any) -> Path:
    save(CARD, folder)
    tree = json.loads((folder / FILE).read_text(encoding="utf-8"))
    (folder / FILE).write_text(json.dumps({**tree, **changes}), encoding="utf-8")
    return folder


def test_a_card_comes_back(tmp_path: Path) -> None:
    save(CARD, tmp_path)
    assert load(tmp_path) == CARD


def test_a_missing_card(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"keeptune\.json: No such file or directory; an adapter without its prompt"):
        load(tmp_path)


@pytest.mark.parametrize(
    "template",
    ["问：{problem}\n答:", "no slot", "", None, 5, ["{problem}"], {"{problem}": 1}],
)
def test_an_edited_prompt(tmp_path: Path, template: Any) -> None:
    with pytest.raises(ModelError, match="take it from the run again"):
        load(edited(tmp_path, prompt={"template": template, "sha256": CARD.prompt.sha256}))


@pytest.mark.parametrize("content", ["", "[]", "null", "5", "{}", "{", '{"model": "a"}', "[" * 100_000])
def test_a_damaged_card(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match=r"keeptune\.json: damaged \(.*take it from the run again"):
        load(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
)


@given(key=st.sampled_from(["model", "skill", "prompt", "budgets", "scale"]), value=JSON)
def test_no_value_does_anything_worse_than_a_model_error(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: Any
) -> None:
    folder = edited(tmp_path_factory.getbasetemp(), **{key: value})
    try:
        assert load(folder).prompt == CARD.prompt
    except ModelError as error:
        assert "take it from the run again" in str(error)
