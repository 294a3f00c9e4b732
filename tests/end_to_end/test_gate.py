"""`keeptune gate` on models that keeptune did not make: plain folders, plain PEFT adapters, other programs' results."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from end_to_end.command import keeptune, ok, records, refused
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

ABILITIES = "knowledge,grammar,general-text,instructions"


@pytest.fixture(scope="module")
def tuned_folder(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain transformers folder whose weights differ a little from the base's."""
    folder = tmp_path_factory.mktemp("tuned")
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    draw = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        parameter.data += 0.02 * torch.randn(parameter.shape, generator=draw)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(model_folder).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def peft_folder(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that plain PEFT code made, with no file of keeptune's beside it."""
    folder = tmp_path_factory.mktemp("peft")
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    tuned = get_peft_model(model, LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"]))
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.05)
    tuned.save_pretrained(folder)
    assert not (folder / "keeptune.json").exists()
    return folder


def gate(*arguments: object) -> Any:
    """The outcome of `keeptune gate --suite quick`, which may exit with any verdict."""
    outcome = keeptune("gate", "--suite", "quick", *arguments)
    assert outcome.code in (0, 4, 6), outcome.err
    return outcome


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_two_plain_folders(model_folder: Path, tuned_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    outcome = gate("--base", model_folder, "--tuned", tuned_folder, "--abilities", ABILITIES, "--out", out, "--json")
    made = outcome.json
    assert made == read(out / "gate.json")
    assert set(made["abilities"]) == set(ABILITIES.split(","))
    assert outcome.code == {"pass": 0, "fail": 4, "undecided": 6}[made["gate"]["verdict"]]
    assert made["weights"]["base"] != made["weights"]["tuned"]
    assert "| knowledge (probability) |" in (out / "gate.md").read_text(encoding="utf-8")
    assert ElementTree.parse(out / "gate.xml").getroot().get("tests") == "5"
    ok("verify", out)


def test_plain_peft_adapter(model_folder: Path, peft_folder: Path, tmp_path: Path) -> None:
    outcome = gate("--base", model_folder, "--tuned", peft_folder, "--abilities", ABILITIES, "--out", tmp_path / "o")
    assert "verdict" in outcome.out and "general-text" in outcome.out
    ok("verify", tmp_path / "o")


def test_base_against_itself_is_exactly_one(model_folder: Path, peft_folder: Path) -> None:
    for arguments in (["--tuned", model_folder], ["--tuned", peft_folder, "--scale", "0"]):
        made = gate("--base", model_folder, *arguments, "--json").json
        for own in made["abilities"].values():
            for measure in own["measures"].values():
                assert measure["base"] == measure["tuned"]
                if measure["point"] is not None:
                    exact = 1.0 if measure["kind"] == "score" else 0.0
                    assert measure["point"] == measure["low95"] == measure["high95"] == exact
        # A random model has nothing to lose, so it proves nothing.
        assert made["gate"]["verdict"] == "undecided"
        assert all(mode["point"] == 0 for mode in made["kl_on_answers"].values())


def test_a_run_directory_provides_its_practised_abilities(finished: Path, model_folder: Path) -> None:
    made = gate("--base", model_folder, "--tuned", finished, "--abilities", "reading-en,grammar", "--json").json
    assert made["abilities"]["reading-en"]["status"] == "practised"
    assert not made["abilities"]["reading-en"]["counted"]


def test_sequential_evaluates_at_most_all_questions(model_folder: Path, tuned_folder: Path, tmp_path: Path) -> None:
    arguments = ("--base", model_folder, "--tuned", tuned_folder, "--abilities", "knowledge,general-text")
    made = gate(*arguments, "--sequential", "--out", tmp_path / "o", "--json").json
    whole = gate(*arguments, "--json").json
    assert all(made["asked"][name] <= whole["asked"][name] for name in made["asked"])
    assert made["settings"]["sequential"]
    ok("verify", tmp_path / "o")


def test_questions_of_the_user(model_folder: Path, tuned_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "own.jsonl"
    lines = [{"prompt": f"Which is number {n}?", "options": ["one", "two"], "answer": n % 2} for n in range(40)]
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    out = tmp_path / "o"
    made = gate(
        "--base",
        model_folder,
        "--tuned",
        tuned_folder,
        "--abilities",
        "grammar",
        "--questions",
        file,
        "--out",
        out,
        "--json",
    ).json
    assert made["abilities"]["questions"]["n"] == 40
    ok("verify", out)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda own: own["gate"].update(verdict="pass"), "gate"),
        (lambda own: own["abilities"]["grammar"].update(status="retained"), "abilities"),
    ],
)
def test_verify_finds_an_edited_verdict(
    model_folder: Path, tuned_folder: Path, tmp_path: Path, change: Callable[[Any], None], named: str
) -> None:
    out = tmp_path / "o"
    gate("--base", model_folder, "--tuned", tuned_folder, "--abilities", "grammar,general-text", "--out", out)
    made = read(out / "gate.json")
    change(made)
    (out / "gate.json").write_text(json.dumps(made), encoding="utf-8")
    outcome = keeptune("verify", out)
    assert outcome.code == 3 and f"gate.json, {named}" in outcome.out


def test_other_tokenizer_compares_what_can_be_compared(model_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(model_folder, other)
    words = AutoTokenizer.from_pretrained(model_folder)
    words.add_tokens(["zebra"])
    words.save_pretrained(other)
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    model.resize_token_embeddings(len(words), mean_resizing=False)
    model.save_pretrained(other)
    made = gate("--base", model_folder, "--tuned", other, "--abilities", "all", "--json").json
    assert set(made["left_out"]) == {"chat", "general-text"}
    assert "tokenizer" in made["kl_on_answers"]["not_measured"]
    said = refused(2, "gate", "--base", model_folder, "--tuned", other, "--abilities", "general-text")
    assert "tokenizer" in said and "general-text" in said


def test_results_of_another_program(tmp_path: Path) -> None:
    for who, share in (("base", 1.0), ("tuned", 0.5)):
        folder = tmp_path / who / "model"
        folder.mkdir(parents=True)
        for task in ("one", "two", "three"):
            lines = [
                {
                    "doc_id": n,
                    "doc_hash": f"{task}{n}",
                    "prompt_hash": "p",
                    "target_hash": "t",
                    "acc": float(n < 60 * share),
                }
                for n in range(80)
            ]
            text = "\n".join(json.dumps({**line, "filter": "none", "target": "a"}) for line in lines)
            (folder / f"samples_{task}_2026-01-01T00-00-00.000000.jsonl").write_text(text, encoding="utf-8")
    outcome = keeptune("gate", "--base", tmp_path / "base", "--tuned", tmp_path / "tuned", "--json")
    assert outcome.code == 4, outcome.err
    assert set(outcome.json["abilities"]) == {"one", "two", "three"}
    same = keeptune("gate", "--base", tmp_path / "base", "--tuned", tmp_path / "base", "--json")
    assert same.code == 0 and same.json["gate"]["verdict"] == "pass"


def test_score_of_one_model(model_folder: Path, tmp_path: Path) -> None:
    made = ok("score", model_folder, "--abilities", "grammar", "--suite", "quick", "--out", tmp_path, "--json").json
    assert 0 < made["abilities"]["grammar"]["accuracy"]["mean"] < 1
    assert len(records(tmp_path / "ability-grammar.jsonl")) == made["abilities"]["grammar"]["accuracy"]["n"]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--abilities", "grammer"], ["grammer", "did you mean grammar?"]),
        (["--threshold", "1.5"], ["--threshold", "1.5"]),
        (["--margin", "chatt=0.2"], ["--margin", "chat"]),
        (["--json", "--junit"], ["--json"]),
        (["--grader", "exact"], ["--grader", "--questions"]),
        (["--scale", "0.5"], ["--scale"]),
    ],
)
def test_arguments_that_cannot_be_used(model_folder: Path, arguments: list[str], parts: list[str]) -> None:
    said = refused(2, "gate", "--base", model_folder, "--tuned", model_folder, *arguments)
    assert all(part in said for part in parts), said


def test_model_that_needs_its_own_code(model_folder: Path, tmp_path: Path) -> None:
    hostile = tmp_path / "hostile"
    shutil.copytree(model_folder, hostile)
    config = read(hostile / "config.json")
    config |= {"model_type": "hostile", "auto_map": {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"}}
    (hostile / "config.json").write_text(json.dumps(config), encoding="utf-8")
    trap = tmp_path / "executed"
    (hostile / "code.py").write_text(f"open({str(trap)!r}, 'w')\n", encoding="utf-8")
    said = refused(2, "gate", "--base", hostile, "--tuned", model_folder)
    assert "auto_map" in said
    assert not trap.exists()


def test_questions_that_were_trained(finished: Path, model_folder: Path, tmp_path: Path) -> None:
    from keeptune.data.preparation import load_prepared_rows

    row = load_prepared_rows(finished / "data" / "train.parquet")[0]
    file = tmp_path / "own.jsonl"
    file.write_text(json.dumps({"prompt": row.problem, "answer": "1"}, ensure_ascii=False), encoding="utf-8")
    said = refused(3, "gate", "--base", model_folder, "--tuned", finished, "--questions", file)
    assert "overlap" in said and "own.jsonl" in said


def test_folder_of_another_request(model_folder: Path, tuned_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    gate("--base", model_folder, "--tuned", tuned_folder, "--abilities", "general-text", "--out", out)
    said = refused(
        2,
        "gate",
        "--suite",
        "quick",
        "--base",
        model_folder,
        "--tuned",
        model_folder,
        "--abilities",
        "general-text",
        "--out",
        out,
    )
    assert str(out) in said and "--out" in said
