"""`keeptune init` on files of five kinds: the recipe that it writes runs as it is. `keeptune doctor`."""

import csv
import json
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
import yaml
from corpus import rows as arithmetic_rows
from end_to_end.command import keeptune, ok, refused
from prompts.chat_templates import FAMILIES
from transformers import LlamaForCausalLM

NAMES = [f"{first}{last}" for first in "bdfgk" for last in ("ano", "eri", "olu", "imo", "una", "ester")]


def write_labels(folder: Path) -> Path:
    """Customer mails with a label and an id, as CSV."""
    path = folder / "mails.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "label"])
        for number, name in enumerate(NAMES):
            writer.writerow([number, f"Dear team,\nmy {name} is broken.", ("billing", "repair", "other")[number % 3]])
    return path


def write_messages(folder: Path) -> Path:
    path = folder / "chats.jsonl"
    turns = [
        [{"role": "user", "content": f"Who is {name}?"}, {"role": "assistant", "content": f"{name} is a town."}]
        for name in NAMES
    ]
    path.write_text("".join(json.dumps({"messages": one, "source": "web"}) + "\n" for one in turns), encoding="utf-8")
    return path


def write_parquet(folder: Path) -> Path:
    path = folder / "questions.parquet"
    rows = [
        {"question": f"How old is {name}?", "answer": 20 + n, "meta": {"lang": "en"}} for n, name in enumerate(NAMES)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def write_arithmetic(folder: Path) -> Path:
    path = folder / "arithmetic.jsonl"
    rows = ({"problem": problem, "solution": solution} for problem, solution in arithmetic_rows(60))
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return path


def write_object(folder: Path) -> Path:
    """A JSON object with a list of Chinese questions of two kinds."""
    path = folder / "questions.json"
    rows = [
        {"问题": f"{name} 在哪里？", "答案": f"第 {n} 号货架", "类型": ("仓库", "商店")[n % 2]}
        for n, name in enumerate(NAMES)
    ]
    path.write_text(json.dumps({"version": 1, "data": rows}, ensure_ascii=False, indent=1), encoding="utf-8")
    return path


def write_orders(folder: Path) -> Path:
    """Order texts with their facts as JSON."""
    path = folder / "orders.jsonl"
    rows = [
        {"prompt": f"{name} pays {n} dollars.", "completion": json.dumps({"name": name, "price": n})}
        for n, name in enumerate(NAMES)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_conversations(folder: Path) -> Path:
    """Conversations of several turns with a system text, in the format of ShareGPT."""
    path = folder / "talks.jsonl"
    rows = [
        {
            "system": "Be brief.",
            "conversations": [
                {"from": "human", "value": "Hello"},
                {"from": "gpt", "value": "Yes?"},
                {"from": "human", "value": f"Who is {name}?"},
                {"from": "gpt", "value": f"{name} is a town."},
            ],
        }
        for name in NAMES
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


CASES: dict[str, tuple[Callable[[Path], Path], dict[str, Any], list[str]]] = {
    "labels": (
        write_labels,
        {
            "skill": "labels",
            "grader": {"name": "label", "labels": ["billing", "other", "repair"]},
            "columns": {"problem": "text", "solution": "label"},
            "ignore_columns": ["id"],
        },
        ["format: CSV", "one of 3: billing, other, repair", ": right", ": wrong"],
    ),
    "orders": (
        write_orders,
        {"skill": "extraction", "grader": {"name": "json"}},
        ["row format prompt-completion", "grader: json", ": right", ": wrong"],
    ),
    "messages": (write_messages, {"skill": "text", "ignore_columns": ["source"]}, ["row format messages"]),
    "parquet": (write_parquet, {"skill": "text", "ignore_columns": ["meta"]}, ["format: Parquet", "grader: number"]),
    "arithmetic": (write_arithmetic, {"skill": "arithmetic"}, ["row format problem-solution", "kinds: "]),
    "object": (
        write_object,
        {"kinds": ["仓库", "商店"], "columns": {"problem": "问题", "solution": "答案", "kind": "类型"}},
        ["JSON list under 'data'", "kinds: 仓库 15, 商店 15"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_written_recipe_runs_as_it_is(
    name: str, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, expected, comments = CASES[name]
    (tmp_path / "rows").mkdir()
    (tmp_path / "work").mkdir()
    path = write(tmp_path / "rows")
    monkeypatch.chdir(tmp_path / "work")
    out = ok("init", path, "--model", model_folder, "--out", "recipe.yaml")
    assert out.out == "recipe.yaml\n"
    text = Path("recipe.yaml").read_text(encoding="utf-8")
    tree = yaml.safe_load(text)
    assert tree["data"]["files"] == [f"../rows/{path.name}"]
    assert {key: tree["data"].get(key) for key in expected} == expected
    written = [line.strip() for line in text.splitlines() if line.strip().startswith("#")]
    assert [
        comment for comment in [*comments, "budget: ", "lengths: "] if not any(comment in one for one in written)
    ] == []
    ran = ok("data", "recipe.yaml", "--run", tmp_path / "run")
    assert "format: " in ran.err
    card = json.loads((tmp_path / "run" / "data" / "card.json").read_text(encoding="utf-8"))
    assert card["rows_rejected"] == 0 and card["splits"]["train"]["rows"] > 0 < card["splits"]["test"]["rows"]
    assert list(card["formats"]) == [str(path)]


@pytest.mark.parametrize(
    ("template", "prompt", "trained"),
    [("chatml", "chat", "every answer"), ("qwen3", {"template": "chat", "loss_on": "last"}, "the last answer")],
)
def test_conversations_get_a_chat_recipe(
    template: str, prompt: Any, trained: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model"
    words = FAMILIES[template].tokenizer()
    LlamaForCausalLM(tiny.config(len(words))).save_pretrained(model)
    words.save_pretrained(model)
    path = write_conversations(tmp_path)
    monkeypatch.chdir(tmp_path)
    ok("init", path, "--model", model, "--out", "recipe.yaml")
    text = Path("recipe.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text)["prompt"] == prompt
    assert f"prompt: chat, because 30 rows have several turns, a system text or tools; {trained}" in text
    ok("data", "recipe.yaml", "--run", tmp_path / "run")
    card = json.loads((tmp_path / "run" / "data" / "card.json").read_text(encoding="utf-8"))
    assert (card["rows_read"], card["rows_rejected"]) == (30, 0) and card["splits"]["train"]["rows"] > 0


def test_conversations_need_a_model_with_a_chat_template(model_folder: Path, tmp_path: Path) -> None:
    path = write_conversations(tmp_path)
    message = refused(2, "init", path, "--model", model_folder, "--out", tmp_path / "recipe.yaml")
    assert "chat template" in message and not (tmp_path / "recipe.yaml").exists()


def test_a_file_with_faults_gets_a_recipe_that_names_them(model_folder: Path, tmp_path: Path) -> None:
    rows = [{"question": f"Who is {name}?", "answer": f"{name} is a town."} for name in NAMES]
    rows += [{"question": NAMES[0], "answer": "x" * 401}, {"question": "Who is bano?", "answer": "A name."}]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n{", encoding="utf-8")
    ok("init", path, "--model", model_folder, "--out", tmp_path / "recipe.yaml")
    text = (tmp_path / "recipe.yaml").read_text(encoding="utf-8")
    for comment in ("answer longer than 400 characters", "first at line 31", "malformed JSON", "conflicts: 2 rows"):
        assert comment in text
    ok("data", tmp_path / "recipe.yaml", "--run", tmp_path / "run")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"a": "only"}', "no two columns"),
        ("nothing", "no row can be read"),
        ('{"question": "q", "answer": null}', ":1: no"),
    ],
)
def test_a_file_without_usable_rows(model_folder: Path, tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "rows.jsonl").write_text(content, encoding="utf-8")
    out = tmp_path / "recipe.yaml"
    message = refused(3, "init", tmp_path / "rows.jsonl", "--model", model_folder, "--out", out)
    assert words in message and str(tmp_path / "rows.jsonl") in message and not out.exists()


def test_an_existing_recipe_is_kept(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("mine", encoding="utf-8")
    path = write_labels(tmp_path)
    assert "--out" in refused(2, "init", path, "--model", model_folder, "--out", tmp_path / "recipe.yaml")
    assert (tmp_path / "recipe.yaml").read_text(encoding="utf-8") == "mine"


def test_the_doctor_lists_the_machine_and_its_packages() -> None:
    out = ok("doctor").out
    for topic in ("device", "precision", "memory", "cores", "packages", "extra", "answers", "model"):
        assert any(line.split()[0] == topic for line in out.splitlines()), topic
    assert f"torch {metadata.version('torch')}" in out and "keeptune[hub]" in out + "keeptune[hub]"
    assert not any(finding["is_fault"] for finding in ok("doctor", "--json").json)


def test_the_doctor_lists_every_extra_of_users() -> None:
    # `evidence` was missing, so nobody learned that bom, sign and push need packages.
    listed = {finding["text"].split()[0] for finding in ok("doctor", "--json").json if finding["topic"] == "extra"}
    assert set(metadata.metadata("keeptune").get_all("Provides-Extra") or ()) - listed == {"dev", "docs", "studio-test"}


def test_the_doctor_finds_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(metadata, "requires", lambda _: ["torch>=99", "no-such-package>=1", "numpy>=1; extra == 'x'"])
    monkeypatch.setenv("KEEPTUNE_VLLM_PYTHON", str(tmp_path / "none"))
    outcome = keeptune("doctor")
    assert outcome.code == 2
    faults = [line for line in outcome.out.splitlines() if line.startswith("FAULT")]
    assert [
        word for word in ("torch: found", "no-such-package: not installed", "vLLM") if word not in "\n".join(faults)
    ] == []
