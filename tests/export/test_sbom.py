"""The bill of materials of a published adapter: valid by the official schema, complete, the same on each writing."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from export import published

pytest.importorskip("cyclonedx", reason="needs the extra evidence")

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from keeptune.errors import ModelError
from keeptune.export.sbom import bill_of_materials, write_bom


def written(target: Path, exports: list[Path], out: Path) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads(write_bom(target, exports, out).read_text(encoding="utf-8"))
    return tree


def by_ref(tree: dict[str, Any]) -> dict[str, Any]:
    """All components by their reference."""
    model = tree["metadata"]["component"]
    return {one["bom-ref"]: one for one in (model, *model["components"], *tree["components"])}


def properties(component: dict[str, Any]) -> dict[str, str]:
    return {one["name"].removeprefix("keeptune:"): one["value"] for one in component["properties"]}


def test_it_is_valid_and_lists_everything(tmp_path: Path) -> None:
    adapter = published.write(tmp_path / "sums")
    export = tmp_path / "export"
    export.mkdir()
    (export / "model.gguf").write_bytes(b"GGUF")
    tree = written(adapter, [export], adapter / "bom.cdx.json")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(tree)) is None
    components = by_ref(tree)
    for name, path in (("adapter_model.safetensors", adapter), ("scores/scores.json", adapter), ("model.gguf", export)):
        label = "export/" if path == export else ""
        sha256 = hashlib.sha256((path / name).read_bytes()).hexdigest()
        assert components[f"file/{label}{name}"]["hashes"] == [{"alg": "SHA-256", "content": sha256}]
    assert components["base-model"]["hashes"][0]["content"] == "a" * 64
    assert components["base-model"]["purl"] == f"pkg:huggingface/{published.HUB_ID}"
    assert components["pkg:pypi/torch@2.13.0%2Bcpu"]["version"] == "2.13.0+cpu"
    (synth,) = (one for reference, one in components.items() if reference.startswith("data/synth@"))
    assert properties(synth) == {"rows": "809993", "seed": "42"}
    texts = hashlib.sha256((adapter / "texts.txt").read_bytes()).hexdigest()
    assert components[f"data/texts.txt@{texts[:12]}"]["hashes"][0]["content"] == texts
    assert str(tmp_path) not in json.dumps(tree), "no path of this machine"
    references = [one["ref"] for one in tree["dependencies"]]
    assert len(set(references)) == len(references) == 1 + len(tree["components"])


def test_the_model_card_has_the_figures_and_the_losses(tmp_path: Path) -> None:
    card = written(published.write(tmp_path / "sums"), [], tmp_path / "bom.json")["metadata"]["component"]["modelCard"]
    metrics = {(one["type"], one["slice"]): one for one in card["quantitativeAnalysis"]["performanceMetrics"]}
    skill = metrics["accuracy", "arithmetic: test.jsonl, n = 50"]
    assert skill["value"] == "0.9"
    assert skill["confidenceInterval"] == {"lowerBound": "0.8", "upperBound": "0.95"}
    assert metrics["accuracy, tuned / base", "retention suite, grammar, n = 100"]["value"] == "0.75"
    limitations = card["considerations"]["technicalLimitations"]
    assert "grammar: lost (the reason why it is lost)" in limitations
    assert any(line.startswith("code: undecided") for line in limitations)
    assert {one["name"]: one["value"] for one in card["properties"]}["keeptune:verdict"] == "fail"


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    adapter = published.write(tmp_path / "sums")
    out = adapter / "bom.cdx.json"
    first = write_bom(adapter, [], out).read_bytes()
    assert write_bom(adapter, [], out).read_bytes() == first, "nor does it list itself"
    tree = json.loads(first)
    assert tree["metadata"]["timestamp"] == "2026-11-30T18:26:49+00:00"
    (adapter / "texts.txt").write_text("Another text.\n", encoding="utf-8")
    assert json.loads(write_bom(adapter, [], out).read_bytes())["serialNumber"] != tree["serialNumber"]


def test_without_a_verdict_there_are_no_figures(tmp_path: Path) -> None:
    adapter = published.write(tmp_path / "sums")
    for name in ("gate/gate.json", "manifest.json", "recipe.yaml"):
        (adapter / name).unlink()
    tree = json.loads(bill_of_materials(adapter, adapter, {}, tmp_path / "bom.json"))
    assert "quantitativeAnalysis" not in tree["metadata"]["component"]["modelCard"]
    assert "timestamp" not in tree["metadata"]
    assert [one["bom-ref"] for one in tree["components"]] == ["base-model"]


def test_a_folder_without_an_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no adapter"):
        write_bom(tmp_path, [], tmp_path / "bom.json")
    adapter = published.write(tmp_path / "sums")
    with pytest.raises(ModelError, match="no such folder"):
        write_bom(adapter, [tmp_path / "nowhere"], tmp_path / "bom.json")
    for parent in ("first", "second"):
        (tmp_path / parent / "gguf").mkdir(parents=True)
    with pytest.raises(ModelError, match="the same name"):
        write_bom(adapter, [tmp_path / "first" / "gguf", tmp_path / "second" / "gguf"], tmp_path / "bom.json")
