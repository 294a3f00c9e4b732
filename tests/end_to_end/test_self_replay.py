"""A run that replays the base's own answers: they are kept, they are trained on, and verify knows them."""

import json
from pathlib import Path

import pytest
from end_to_end.command import keeptune, ok
from end_to_end.conftest import MakeRecipe

from keeptune.files import read_records, write_records
from keeptune.pipeline.verify import verify


def test_a_run_replays_answers_of_the_base(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    run, path = tmp_path / "run", tmp_path / "run" / "replay" / "self.jsonl"
    recipe = make_recipe(train={"epochs": 1}, retain={"replay": ["embedded", "self"], "replay_share": 0.3})
    said = ok("run", recipe, "--run", run).err
    assert "prompts of the pool" in said
    records = read_records(path)
    assert records and all(record["prompt"] for record in records)
    steps = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert any("reading" in own["loss_by_kind"] for own in steps if own["event"] == "train")
    assert verify(run).faults == []

    write_records(path, [{**records[0], "output": "something else"}, *records[1:]])
    assert [fault.place for fault in verify(run).faults] == ["manifest.json, hashes.replay/self.jsonl"]


@pytest.mark.parametrize("source", ["selfs", "sel.txt"])
def test_another_source_is_a_file(make_recipe: MakeRecipe, tmp_path: Path, source: str) -> None:
    refused = keeptune("run", make_recipe(retain={"replay": [source]}), "--run", tmp_path / "run")
    assert refused.code == 3 and source in refused.err


def test_a_divided_base_cannot_answer_before_training(make_recipe: MakeRecipe) -> None:
    refused = keeptune("plan", make_recipe(retain={"replay": ["self"]}, train={"shard": True}))
    assert refused.code == 2 and "train.shard" in refused.err


@pytest.mark.parametrize(
    ("retain", "key"),
    [({}, "replay_target"), ({"replay_target": "distribution", "kl_weight": 1.0}, "adapter.start")],
)
def test_on_policy_answers_need_a_start_and_are_not_learned(
    make_recipe: MakeRecipe, retain: dict[str, object], key: str
) -> None:
    refused = keeptune("plan", make_recipe(retain={"replay": ["on_policy"], **retain}))
    assert refused.code == 2 and key in refused.err
