"""Runs with a grader: rows are accepted by it, base and tuned are scored by it, and `verify` and `score` use it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from end_to_end.command import keeptune, ok, records, refused
from end_to_end.conftest import MakeRecipe, Tree
from remote_models.server import completion, serve

NAMES = ["Ada", "Bao", "Cem", "Dan", "Eva"]


def order(number: int) -> dict[str, str]:
    name, price = NAMES[number % len(NAMES)], number + 3
    answer = json.dumps({"name": name, "price": f"${price}"})
    return {"mail": f"Order {number}: {name} pays {price} dollars.", "facts": f"```json\n{answer}\n```", "note": "x"}


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Order texts with their facts. The last row is broken."""
    path = tmp_path_factory.mktemp("orders") / "orders.jsonl"
    rows = [*map(order, range(40)), {"mail": "Order 40: Fay pays.", "facts": '{"name": "Fay"', "note": "x"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def recipe(tree: Tree, orders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = {
        "files": [str(orders)],
        "skill": "extraction",
        "grader": {"name": "json", "fields": {"price": "number"}},
        "columns": {"problem": "mail", "solution": "facts"},
        "ignore_columns": ["note"],
        "reject_limit": 0.1,
        "max_tokens": 1000,
        "split": {"dev": 6, "test": 9},
    }
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    settings = {**tree["train"], "epochs": 1, "score_every_steps": 0}
    path.write_text(yaml.safe_dump({**tree, "data": data, "train": settings}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def finished_extraction(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "extraction"
    assert keeptune("run", recipe, "--run", folder).code in (0, 4)
    return folder


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_row_that_its_grader_cannot_read_is_rejected_with_the_reason(finished_extraction: Path) -> None:
    card = read(finished_extraction / "data" / "card.json")
    assert (card["rows_read"], card["rows_kept"], card["rows_rejected"]) == (41, 40, 1)
    (rejected,) = records(finished_extraction / "data" / "rejected.jsonl")
    assert rejected["line"] == 41
    assert rejected["reason"].startswith("no answer: ")


def test_scores_are_means_of_the_grader(finished_extraction: Path) -> None:
    skill = read(finished_extraction / "result.json")["skill"]
    for variant in ("base", "tuned"):
        scored = records(finished_extraction / "scores" / f"skill-{variant}.jsonl")
        assert skill[variant]["accuracy"] == pytest.approx(sum(record["score"] for record in scored) / 9)
        assert skill[variant]["figures"]["usable"] <= 1
        assert (skill[variant]["grader"], skill[variant]["by_policy"]) == ("json", {})
    report = (finished_extraction / "report.md").read_text(encoding="utf-8")
    assert "usable" in report and "usable" in (finished_extraction / "report.html").read_text(encoding="utf-8")


def test_verify_grades_the_outputs_again(finished_extraction: Path, tmp_path: Path) -> None:
    assert ok("verify", finished_extraction).out.rstrip().endswith("all of it follows")
    changed = Path(shutil.copytree(finished_extraction, tmp_path / "run"))
    path = changed / "scores" / "skill-tuned.jsonl"
    first, *others = records(path)
    first["output"] = json.dumps({"name": "Zoe", "price": "no number"})
    path.write_text("".join(json.dumps(record) + "\n" for record in [first, *others]), encoding="utf-8")
    done = keeptune("verify", changed)
    assert done.code == 3
    assert f"{first['id']}, details" in done.out


def test_score_uses_the_columns_and_the_grader_of_the_run(
    finished_extraction: Path, orders: Path, tmp_path: Path
) -> None:
    adapter = shutil.copytree(finished_extraction / "adapter", tmp_path / "adapter")
    scored = ok("score", adapter, "--skill", orders, "--json").json["skill"]
    assert (scored["n"], scored["grader"]) == (40, "json")
    assert "no answer" in scored["rejected"]["first"][0]["reason"]
    other = {"--grader": "{name: regex, pattern: '[A-Z]'}", "--columns": "problem: note, solution: mail"}
    options = [part for option in other.items() for part in option]
    scored = ok("score", adapter, "--skill", orders, *options, "--json").json["skill"]
    assert (scored["n"], scored["grader"], scored["by_kind"].keys()) == (41, "regex", {"text"})
    assert "toleranc" in refused(2, "score", adapter, "--skill", orders, "--grader", "{name: number, toleranc: 1}")
    assert "solutoin" in refused(2, "score", adapter, "--skill", orders, "--columns", "solutoin: mail")


def test_an_adapter_of_another_program_is_scored_with_a_prompt_and_a_grader(
    finished_extraction: Path, orders: Path, model_folder: Path, tmp_path: Path
) -> None:
    adapter = Path(shutil.copytree(finished_extraction / "adapter", tmp_path / "adapter"))
    (adapter / "keeptune.json").unlink()
    assert "keeptune.json" in refused(2, "score", adapter, "--skill", orders)
    options = ["--prompt", "{problem}\n", "--grader", "json", "--columns", "problem: mail, solution: facts"]
    scored = ok("score", adapter, "--skill", orders, *options, "--json").json
    assert (scored["model"], scored["skill"]["n"]) == (str(model_folder), 40)


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ({"skill": "text", "grader": "nubmer"}, "did you mean number?"),
        ({"skill": "text", "grader": {"name": "number", "toleranc": 1}}, "did you mean tolerance?"),
        ({"skill": "txt"}, "did you mean text?"),
        ({"skill": "arithmetic", "grader": "number"}, "data.skill: text"),
        ({"skill": "labels"}, "labels: [...]"),
        ({"skill": "sql", "grader": "exact"}, "data.skill: sql needs"),
    ],
)
def test_a_wrong_grader_or_skill_is_named(make_recipe: MakeRecipe, data: dict[str, Any], named: str) -> None:
    assert named in refused(2, "plan", make_recipe(data={"kinds": [], "quota": {}, **data}))


def test_code_of_the_user_runs_only_if_allowed(
    orders: Path, tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEEPTUNE_ALLOW_CODE", "0")
    (tmp_path / "mine.py").write_text("def score(output, truth):\n    return output == truth\n", encoding="utf-8")
    data = {
        "files": [str(orders)],
        "skill": "text",
        "grader": {"name": "function", "file": "mine.py:score"},
        "columns": {"problem": "mail", "solution": "facts"},
        "ignore_columns": ["note"],
        "max_tokens": 1000,
        "split": {"dev": 6, "test": 9},
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**tree, "data": data}), encoding="utf-8")
    assert "--allow-code" in refused(2, "data", path, "--run", tmp_path / "run")
    ok("--allow-code", "data", path, "--run", tmp_path / "run")
    assert read(tmp_path / "run" / "data" / "card.json")["rows_kept"] == 41


def test_a_judge_scores_answers_and_reports_its_cost(finished_extraction: Path, orders: Path, tmp_path: Path) -> None:
    pytest.importorskip("openai")
    with serve(lambda *_: completion("Score: 4")) as (url, _):
        grader = {"name": "judge", "url": url, "model": "m", "cache": str(tmp_path / "judgements.jsonl")}
        options = ("--grader", json.dumps(grader), "--limit", 5, "--json")
        scored = ok("score", finished_extraction / "adapter", "--skill", orders, *options).json["skill"]
    figures = scored["figures"]
    assert scored["grader"] == "judge" and 0 < figures["judged"] <= scored["n"] == 5
    assert scored["accuracy"] == pytest.approx(0.4 * figures["judged"] / 5)
    # Two requests per answer, each of 10 tokens and 5 tokens.
    assert (figures["prompt_tokens"], figures["completion_tokens"]) == (20 * figures["judged"], 10 * figures["judged"])
    assert figures["self_agreement"] == 1
