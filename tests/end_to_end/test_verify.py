"""`keeptune verify`: a finished run follows from its answers, and whatever is changed afterwards is named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from end_to_end.command import keeptune

from keeptune.verify import verify


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


def test_a_finished_run_follows_from_its_answers(own: Path) -> None:
    done = keeptune("verify", own)
    assert done.code == 0
    assert done.out.rstrip().endswith("all of it follows")


def test_a_figure_that_was_changed_is_named(own: Path) -> None:
    edit_json(own / "result.json", lambda tree: tree["skill"]["tuned"].update(accuracy=0.999))
    done = keeptune("verify", own)
    assert done.code == 3
    assert "1 do not follow\n  result.json, skill.tuned.accuracy: 0.999 is stored, " in done.out


def test_figures_that_are_missing_or_too_many_are_named(own: Path) -> None:
    def change(tree: Any) -> None:
        del tree["contest"]["phase1"]
        tree["contest"]["phase3"] = 1.0

    edit_json(own / "result.json", change)
    assert places(own) == ["result.json, contest.phase3", "result.json, contest.phase1"]


def test_an_answer_that_was_changed_is_graded_again(own: Path) -> None:
    path = own / "scores" / "skill-tuned.jsonl"
    name = json.loads(path.read_text(encoding="utf-8").split("\n")[0])["id"]
    edit_record(path, lambda record: record.update(output="#### 123456789.5\n"))
    assert f"scores/skill-tuned.jsonl, {name}, answer" in places(own)


def test_a_truth_that_was_changed_does_not_follow_from_its_problem(own: Path) -> None:
    path = own / "scores" / "skill-tuned.jsonl"
    name = json.loads(path.read_text(encoding="utf-8").split("\n")[0])["id"]
    edit_record(path, lambda record: record.update(truth="123456789"))
    assert f"scores/skill-tuned.jsonl, {name}, truth" in places(own)


def test_another_question_for_the_tuned_model_is_named(own: Path) -> None:
    edit_record(own / "scores" / "retained-tuned.jsonl", lambda record: record.update(prompt="something easier"))
    assert places(own) == ["scores/retained-tuned.jsonl, questions"]


def test_an_adapter_or_data_other_than_the_manifest_says_are_named(own: Path) -> None:
    weights = own / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    shutil.copy(own / "data" / "dev.parquet", own / "data" / "train.parquet")
    assert places(own) == ["manifest.json, hashes.data", "manifest.json, hashes.adapter"]


def test_a_run_that_is_not_finished_says_what_is_missing(own: Path) -> None:
    (own / "result.json").unlink()
    done = keeptune("verify", own)
    assert done.code == 2
    assert "result.json: cannot be read" in done.err


def test_an_adapter_that_is_missing_is_named(own: Path) -> None:
    (own / "adapter" / "adapter_model.safetensors").unlink()
    done = keeptune("verify", own)
    assert done.code == 2
    assert "adapter_model.safetensors: cannot be read" in done.err
