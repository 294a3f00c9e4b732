"""`keeptune verify`: a finished run follows from its answers, and whatever is changed afterwards is named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from end_to_end.command import keeptune

from keeptune.pipeline.verify import verify


@pytest.fixture
def own(finished: Path, tmp_path: Path) -> Path:
    """A finished run that a test may change."""
    return Path(shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints")))


def edit_json(path: Path, change: Callable[[Any], None]) -> None:
    tree = json.loads(path.read_text(encoding="utf-8"))
    change(tree)
    path.write_text(json.dumps(tree), encoding="utf-8")


def edit_record(path: Path, change: Callable[[Any], None]) -> None:
    first, *others = path.read_text(encoding="utf-8").split("\n")
    record = json.loads(first)
    change(record)
    path.write_text("\n".join([json.dumps(record), *others]), encoding="utf-8")


def places(folder: Path) -> list[str]:
    return [fault.place for fault in verify(folder).faults]


def test_a_finished_run_verifies(own: Path) -> None:
    done = keeptune("verify", own)
    assert done.code == 0
    assert done.out.rstrip().endswith("all of it follows")


def test_a_changed_figure_is_reported(own: Path) -> None:
    edit_json(own / "result.json", lambda tree: tree["skill"]["tuned"].update(accuracy=0.999))
    done = keeptune("verify", own)
    assert done.code == 3
    assert "1 do not follow\n  result.json, skill.tuned.accuracy: 0.999 is stored, " in done.out


def test_missing_and_additional_figures_are_reported(own: Path) -> None:
    def change(tree: Any) -> None:
        del tree["contest"]["phase1"]
        tree["contest"]["phase3"] = 1.0

    edit_json(own / "result.json", change)
    assert places(own) == ["result.json, contest.phase3", "result.json, contest.phase1"]


def test_a_changed_answer_is_graded_again(own: Path) -> None:
    path = own / "scores" / "skill-tuned.jsonl"
    name = json.loads(path.read_text(encoding="utf-8").split("\n")[0])["id"]
    edit_record(path, lambda record: record.update(output="#### 123456789.5\n"))
    assert f"scores/skill-tuned.jsonl, {name}, answer" in places(own)


def test_a_changed_truth_is_recomputed_from_its_problem(own: Path) -> None:
    path = own / "scores" / "skill-tuned.jsonl"
    name = json.loads(path.read_text(encoding="utf-8").split("\n")[0])["id"]
    edit_record(path, lambda record: record.update(truth="123456789"))
    assert f"scores/skill-tuned.jsonl, {name}, truth" in places(own)


def test_different_questions_of_base_and_tuned_are_reported(own: Path) -> None:
    edit_record(own / "scores" / "retained-tuned.jsonl", lambda record: record.update(prompt="something easier"))
    assert "scores/retained-tuned.jsonl, prompts, line 1" in places(own)


def other_bytes(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")


def edit_text(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def _score(run: Path) -> None:
    """The tuned model's first wrong answer is called right, in its record and in every figure."""
    edit_record(run / "scores" / "skill-tuned.jsonl", lambda record: record["verdicts"].update({"2d4s": True}))


def _likelihood(run: Path) -> None:
    edit_record(run / "scores" / "retained-tuned.jsonl", lambda record: record.update(answer_nll=0.01))


def _reasoning(run: Path) -> None:
    """A change that no grade shows."""
    edit_record(run / "scores" / "skill-tuned.jsonl", lambda record: record.update(output=f" {record['output']}"))


def _swap(run: Path) -> None:
    other_bytes(run / "adapter" / "adapter_model.safetensors")


def _alpha(run: Path) -> None:
    edit_json(run / "adapter" / "adapter_config.json", lambda tree: tree.update(lora_alpha=64))


def _prompt(run: Path) -> None:
    edit_text(run / "recipe.yaml", "Question: {problem}", "Problem: {problem}")


def _card_prompt(run: Path) -> None:
    edit_json(run / "adapter" / "keeptune.json", lambda card: card["prompt"].update(template="{problem}"))


def _data(run: Path) -> None:
    shutil.copy(run / "data" / "dev.parquet", run / "data" / "train.parquet")


def _text(run: Path) -> None:
    edit_record(run / "scores" / "drift-tuned.jsonl", lambda record: record.update(text="easier"))


@pytest.mark.parametrize(
    ("tamper", "named"),
    [
        (_score, "manifest.json, hashes.scores/skill-tuned.jsonl"),
        (_likelihood, "result.json, retained.tuned.answer_nll"),
        (_reasoning, "manifest.json, hashes.scores/skill-tuned.jsonl"),
        (_swap, "manifest.json, hashes.adapter"),
        (_alpha, "manifest.json, hashes.adapter/adapter_config.json"),
        (_prompt, "manifest.json, hashes.prompt"),
        (_card_prompt, "adapter/keeptune.json, prompt"),
        (_data, "manifest.json, hashes.data/train.parquet"),
        (_text, "scores/drift-tuned.jsonl, general-1-1, text"),
    ],
)
def test_every_change_is_reported(own: Path, tamper: Callable[[Path], None], named: str) -> None:
    tamper(own)
    done = keeptune("verify", own)
    assert done.code == 3
    assert f"\n  {named}: " in done.out
    assert " is stored, " in done.out and " follows" in done.out


def test_a_changed_source_is_reported_and_a_missing_one_listed(own: Path, tmp_path: Path) -> None:
    rows, reading = tmp_path / "rows.jsonl", tmp_path / "squad.json"
    (source,) = json.loads((own / "data" / "card.json").read_text(encoding="utf-8"))["files"]
    shutil.copy(source["file"], rows)
    edit_json(own / "data" / "card.json", lambda card: card["files"][0].update(file=str(rows)))
    stored = yaml.safe_load((own / "recipe.yaml").read_text(encoding="utf-8"))["score"]["retained"]
    shutil.copy(stored, reading)
    edit_text(own / "recipe.yaml", stored, str(reading))
    edited = ["manifest.json, hashes.recipe", "manifest.json, hashes.data/card.json", "result.json, retained.set"]
    assert places(own) == edited

    edit_text(reading, "The old mill was built in 1800", "The old mill was built in 1900")
    with rows.open("a", encoding="utf-8") as file:
        file.write("{}\n")
    found = places(own)
    assert f"data/card.json, sha256 of {rows}" in found
    assert "scores/retained-base.jsonl, q0, prompt" in found

    rows.unlink()
    reading.unlink()
    made = verify(own)
    assert made.absent[0] == str(rows)
    assert f"{reading}: cannot be read" in made.absent[1]
    assert [fault.place for fault in made.faults] == edited


def test_a_run_without_file_hashes_verifies(own: Path) -> None:
    """Such a run measured no drift either."""

    def change(manifest: Any) -> None:
        manifest["hashes"] = {name: value for name, value in manifest["hashes"].items() if "/" not in name}

    edit_json(own / "manifest.json", change)
    (own / "SHA256SUMS").unlink()
    (own / "scores" / "drift-tuned.jsonl").unlink()
    edit_json(own / "result.json", lambda tree: [tree["retained"].pop(name) for name in ("token_loss", "kl")])
    assert places(own) == []


def test_the_code_versions_are_shown_where_a_value_differs(own: Path) -> None:
    (own / "SHA256SUMS").unlink()
    edit_json(own / "manifest.json", lambda manifest: manifest.update(keeptune="0.0.1"))
    assert "0.0.1" not in keeptune("verify", own).out
    _likelihood(own)
    assert "made by keeptune 0.0.1" in keeptune("verify", own).out


def test_verifying_an_unfinished_run_names_the_missing_file(own: Path) -> None:
    (own / "result.json").unlink()
    done = keeptune("verify", own)
    assert done.code == 2
    assert "result.json: cannot be read" in done.err


def test_a_missing_adapter_is_reported(own: Path) -> None:
    (own / "adapter" / "adapter_model.safetensors").unlink()
    done = keeptune("verify", own)
    assert done.code == 2
    assert "adapter_model.safetensors: cannot be read" in done.err
