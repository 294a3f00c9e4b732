"""A whole run with each adapter family: trained, chosen, scored, asked, and resumed to the same bytes."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import yaml
from end_to_end.command import Outcome, assert_same_bytes, files, keeptune, ok, records, refused
from end_to_end.conftest import Tree
from peft import PeftModel
from transformers import AutoConfig, AutoTokenizer

from keeptune.config import recipe as recipes
from keeptune.models.adapters import ParameterCount
from keeptune.pipeline.memory_estimate import peak_bytes


def stored(tree: Tree, folder: Path, adapter: Tree, **train: Any) -> Path:
    """A short job with another adapter."""
    data = {**tree["data"], "quota": {"area": 8, "sales": 6}, "split": {"dev": 4, "test": 6}}
    changed = {**tree, "data": data, "adapter": adapter, "train": {**tree["train"], **train}}
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(changed, allow_unicode=True), encoding="utf-8")
    return path


def run(recipe: Path, folder: Path) -> Outcome:
    """A run that comes to its verdict, whatever that is: so short a training only makes the model forget."""
    outcome = keeptune("run", recipe, "--run", folder, "--json")
    assert outcome.code in (0, 4), outcome.err
    return outcome


@pytest.mark.parametrize(
    "family", ["dora", "pissa", *(pytest.param(name, marks=pytest.mark.slow) for name in ("vera", "ia3"))]
)
def test_a_run(family: str, tree: Tree, model_folder: Path, squad: Path, tmp_path: Path) -> None:
    rate = {"vera": 0.05, "ia3": 0.05}.get(family, 0.005)
    recipe = stored(tree, tmp_path, {"family": family, **tiny.FAMILIES[family]}, learning_rate=rate)
    plan, folder = ok("plan", recipe, "--json").json, tmp_path / "run"
    result = run(recipe, folder).json
    assert {key: plan["parameters"][key] for key in result["parameters"]} == result["parameters"]
    assert {path.name for path in (folder / "adapter").iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "keeptune.json", "chosen.json",
    }  # fmt: skip
    base, tuned = (records(folder / "scores" / f"skill-{who}.jsonl") for who in ("base", "tuned"))
    assert [answer["output"] for answer in base] != [answer["output"] for answer in tuned], "this would prove nothing"
    assert_plain_peft_says_the_same(folder / "adapter", tuned[:2], model_folder)
    assert ok("ask", folder, tuned[0]["problem"], "--json").json["output"] == tuned[0]["output"].strip()
    assert_scale_0_is_the_base(folder, squad, tmp_path)
    assert_resumed_to_the_same(recipe, folder, tmp_path / "again")


def assert_plain_peft_says_the_same(adapter: Path, answers: list[Tree], model_folder: Path) -> None:
    plain: Any = PeftModel.from_pretrained(tiny.reference(model_folder), adapter)
    words = AutoTokenizer.from_pretrained(model_folder)
    for answer in answers:
        asked = words(answer["prompt"], return_tensors="pt")
        with torch.inference_mode():
            tokens = plain.generate(**asked, max_new_tokens=answer["output_tokens"] + 1, do_sample=False)[0]
        new = tokens[asked["input_ids"].shape[1] :][: answer["output_tokens"]]
        assert words.decode(new, skip_special_tokens=True) == answer["output"]


def assert_scale_0_is_the_base(folder: Path, squad: Path, scratch: Path) -> None:
    adapter = Path(shutil.copytree(folder / "adapter", scratch / "adapter"))
    card = json.loads((adapter / "keeptune.json").read_text(encoding="utf-8"))
    (adapter / "keeptune.json").write_text(json.dumps({**card, "scale": 0}), encoding="utf-8")
    ok("score", adapter, "--retained", squad, "--limit", 6, "--out", scratch)
    said = [answer["output"] for answer in records(scratch / "retained.jsonl")]
    assert said == [answer["output"] for answer in records(folder / "scores" / "retained-base.jsonl")[:6]]


def assert_resumed_to_the_same(recipe: Path, folder: Path, again: Path) -> None:
    """Goes on from the first checkpoint, as after a kill."""
    first = min((folder / "checkpoints").glob("step-*"), key=lambda path: int(path.name.partition("-")[2]))
    kept = (f"checkpoints/{first.name}/", "data/", "recipe.yaml", "manifest.json", "log.jsonl")
    for name, content in files(folder).items():
        if name.startswith(kept):
            (again / name).parent.mkdir(parents=True, exist_ok=True)
            (again / name).write_bytes(content)
    run(recipe, again)
    assert_same_bytes(again, folder)


def test_a_plan_estimates_the_memory_of_each_family(tree: Tree, tmp_path: Path, model_folder: Path) -> None:
    config = AutoConfig.from_pretrained(model_folder)
    needed = {}
    for family in tiny.FAMILIES:
        recipe = recipes.load(stored(tree, tmp_path, {"family": family}, tokens_per_batch=10**5))
        needed[family] = peak_bytes(config, ParameterCount(1000, 40_000), recipe, 0, 0)
    assert needed["lora"] == needed["rslora"] == needed["pissa"], "each lays its frozen layers out"
    assert needed["ia3"] < needed["lora"] < needed["vera"] < needed["dora"]


@pytest.mark.parametrize(
    ("adapter", "told"),
    [
        ({"family": "pissa", "rank": 40}, "pissa needs 40"),
        ({"layers": [0, 2]}, "adapter.layers: [0, 2]"),
        ({"family": "ia3", "targets": "mlp"}, "gate_proj, up_proj, only k_proj, v_proj, down_proj"),
        ({"family": "ia3", "rank": 8}, "ia3 has no rank"),
    ],
)
def test_the_plan_reports_unsuitable_settings(tree: Tree, tmp_path: Path, adapter: Tree, told: str) -> None:
    assert told in refused(2, "plan", stored(tree, tmp_path, adapter))
