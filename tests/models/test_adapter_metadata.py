"""The metadata beside an adapter loads as it was saved, or raises."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeptune.errors import ModelError
from keeptune.models.adapter_metadata import FILE, AdapterMetadata, load, save
from keeptune.prompts.template import Prompt

METADATA = AdapterMetadata(
    "smollm2-135m", "arithmetic", Prompt("问：{problem}\n答："), {"add": 40, "english": 200}, 0.75
)


def edited(folder: Path, **changes: Any) -> Path:
    save(METADATA, folder)
    tree = json.loads((folder / FILE).read_text(encoding="utf-8"))
    (folder / FILE).write_text(json.dumps({**tree, **changes}), encoding="utf-8")
    return folder


def test_metadata_loads_as_saved(tmp_path: Path) -> None:
    save(METADATA, tmp_path)
    assert load(tmp_path) == METADATA


def test_missing_metadata_raises(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"keeptune\.json: cannot be read"):
        load(tmp_path)


@pytest.mark.parametrize(
    "template",
    ["问：{problem}\n答:", "no slot", "", None, 5, ["{problem}"], {"{problem}": 1}],
)
def test_an_edited_prompt_raises(tmp_path: Path, template: Any) -> None:
    with pytest.raises(ModelError, match=r"keeptune\.json: "):
        load(edited(tmp_path, prompt={"template": template, "sha256": METADATA.prompt.sha256}))


@pytest.mark.parametrize("content", ["", "[]", "null", "5", "{}", "{", '{"model": "a"}', "[" * 100_000])
def test_damaged_metadata_raises(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match=r"keeptune\.json: damaged"):
        load(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
)


@given(key=st.sampled_from(["model", "skill", "prompt", "budgets", "scale"]), value=JSON)
def test_any_invalid_value_raises_model_error(tmp_path_factory: pytest.TempPathFactory, key: str, value: Any) -> None:
    folder = edited(tmp_path_factory.getbasetemp(), **{key: value})
    try:
        assert load(folder).prompt == METADATA.prompt
    except ModelError as error:
        assert str(folder / FILE) in str(error)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"scale": float("nan")}, "scale"),
        ({"scale": float("inf")}, "scale"),
        ({"scale": -1.0}, "scale"),
        ({"scale": "1"}, "scale"),
        ({"budgets": {"add": 0}}, "budgets.add"),
        ({"budgets": {"add": -5}}, "budgets.add"),
        ({"budgets": {"add": 1.5}}, "budgets.add"),
        ({"budgets": {"add": 10**18}}, "budgets.add"),
        ({"skill": "algebra"}, "skill"),
    ],
)
def test_values_out_of_range_raise(tmp_path: Path, changes: dict[str, Any], key: str) -> None:
    """F12 and F17: such values were accepted, or ended in a traceback."""
    with pytest.raises(ModelError, match=rf"keeptune\.json: .*{key} must"):
        load(edited(tmp_path, **changes))
