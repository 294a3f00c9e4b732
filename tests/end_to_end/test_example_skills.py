"""The shipped example skills, in short: their recipes with few generated rows, a tiny model and little training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from end_to_end.command import keeptune, ok, records, refused
from end_to_end.conftest import Tree

from keeptune.skills.corpora.registry import CORPORA

ROOT = Path(__file__).resolve().parents[2]
ROWS = {"train": 60, "test": 12}


def shipped_recipe(name: str) -> dict[str, Any]:
    tree = yaml.safe_load((ROOT / "recipes" / f"{name}.yaml").read_text(encoding="utf-8"))
    assert isinstance(tree, dict)
    return tree


@pytest.fixture
def short_recipe(request: pytest.FixtureRequest, tree: Tree, tmp_path: Path) -> Path:
    """A shipped recipe with a tiny model. The prompt, the skill, the grader and the objective stay."""
    name = request.param
    for split, rows in ROWS.items():
        ok("synth", "--preset", name, "--split", split, "--rows", rows, "--out", tmp_path / f"{name}-{split}.jsonl")
    recipe = shipped_recipe(name)
    recipe["model"] = tree["model"]
    for key in ("files", "test_files"):
        recipe["data"][key] = [str(tmp_path / Path(file).name) for file in recipe["data"][key]]
    recipe["data"] |= {"split": {"dev": 6}, "max_tokens": 2000}
    recipe["adapter"] |= {"rank": 2, "alpha": 4}
    recipe["train"] |= {"tokens": 1500, "tokens_per_step": 500, "tokens_per_batch": 500}
    recipe["retain"]["replay"] = ["embedded"]
    recipe |= {"score": tree["score"], "gate": tree["gate"]}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("short_recipe", "grader"),
    [("customer-mail", "label"), ("order-texts", "json"), ("table-questions", "sql")],
    indirect=["short_recipe"],
)
def test_a_shipped_example_runs_from_its_generated_rows(short_recipe: Path, grader: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert keeptune("run", short_recipe, "--run", run).code in (0, 4)
    card = json.loads((run / "data" / "card.json").read_text(encoding="utf-8"))
    assert (card["rows_kept"], card["rows_rejected"]) == (ROWS["train"], 0)
    tuned = json.loads((run / "result.json").read_text(encoding="utf-8"))["skill"]["tuned"]
    assert (tuned["grader"], tuned["n"]) == (grader, ROWS["test"])
    assert len(records(run / "scores" / "skill-tuned.jsonl")) == ROWS["test"]


@pytest.mark.parametrize("name", CORPORA)
def test_a_shipped_recipe_reads_what_its_comment_generates(name: str) -> None:
    text = (ROOT / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
    data, corpus = shipped_recipe(name)["data"], CORPORA[name].data
    assert {key: value for key, value in data.items() if key in corpus} == corpus
    for key, split in (("files", "train"), ("test_files", "test")):
        (file,) = data[key]
        assert f"--out {file.removeprefix('../')}\n" in text and file.endswith(f"{split}.jsonl")
    assert f"keeptune run recipes/{name}.yaml" in text


def test_options_of_another_corpus_are_refused(tmp_path: Path) -> None:
    out = ("--out", tmp_path / "rows.jsonl")
    assert "did you mean order-texts?" in refused(2, "synth", "--preset", "order-text", *out)
    assert "--preset contest" in refused(2, "synth", "--preset", "order-texts", "--unique", *out)
    assert "--preset contest" in refused(2, "synth", "--preset", "order-texts", "--bad-share", 0.1, *out)
    assert "--split test" in refused(2, "synth", "--split", "test", *out)
    assert list(tmp_path.iterdir()) == []


def test_rows_of_an_example_skill_exclude_those_of_a_file(tmp_path: Path) -> None:
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    ok("synth", "--preset", "customer-mail", "--rows", 40, "--out", first)
    ok("synth", "--preset", "customer-mail", "--rows", 40, "--exclude", first, "--out", second)
    problems = [{row["problem"] for row in records(path)} for path in (first, second)]
    assert problems[0].isdisjoint(problems[1]) and len(problems[1]) == 40
