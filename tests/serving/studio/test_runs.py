"""The list of runs and the progress of a run, against the files that a run writes."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from report.conftest import HOSTILE
from serving.studio.client import Client, client_of
from serving.studio.conftest import OTHER, RUN

from keeptune.config import recipe as recipes
from keeptune.pipeline.run_lock import is_locked, run_lock
from keeptune.serving.studio.live import POINTS, losses_by_kind


def stored(folder: Path, name: str) -> dict[str, object]:
    return dict(json.loads((folder / name).read_text(encoding="utf-8")))


def test_runs_are_listed_with_the_figures_of_their_results(studio: Client, written: Path) -> None:
    runs = {run["id"]: run for run in studio.get("/api/runs")["runs"]}
    assert list(runs) == [RUN, OTHER]
    result = json.loads((written / RUN / "result.json").read_text(encoding="utf-8"))
    assert runs[RUN]["verdict"] == result["gate"]["verdict"]
    assert runs[RUN]["skill_base"] == result["skill"]["base"]["accuracy"]
    assert runs[RUN]["skill_tuned"] == result["skill"]["tuned"]["accuracy"]
    assert runs[RUN]["changed"] == result["finished"]
    assert runs[RUN]["name"] == f"runs {HOSTILE}"
    assert runs[RUN]["stage"] == "finished"
    assert not runs[RUN]["is_running"]


def test_a_single_run_has_the_name_of_its_folder(written: Path) -> None:
    with client_of(written / RUN) as client:
        assert [run["id"] for run in client.get("/api/runs")["runs"]] == [RUN]
        assert client.get("/api/progress", run=RUN)["id"] == RUN


@pytest.mark.parametrize(
    ("missing", "stage"),
    [
        (["result.json"], "data"),
        (["result.json", "+checkpoints/trained.json"], "select"),
    ],
)
def test_stage_follows_from_the_files(folder: Path, missing: list[str], stage: str) -> None:
    run = folder / RUN
    for name in missing:
        path = run / name.removeprefix("+")
        if name.startswith("+"):
            path.parent.mkdir()
            path.write_text('{"steps": 1}', encoding="utf-8")
        else:
            path.unlink()
    if stage == "data":
        (run / "data" / "card.json").unlink()
    with client_of(folder) as client:
        assert client.get("/api/progress", run=RUN)["stage"] == stage


def test_a_damaged_result_is_reported_and_hides_no_other_run(folder: Path) -> None:
    (folder / RUN / "result.json").write_text('{"schema_version": 2', encoding="utf-8")
    with client_of(folder) as client:
        damaged, whole = client.get("/api/runs")["runs"]
        assert "result.json" in damaged["problem"]
        assert whole["problem"] is None
        assert "result.json" in client.refused("/api/progress", 422, run=RUN)


def test_unknown_runs_and_paths_are_refused(studio: Client) -> None:
    assert f"did you mean {RUN}?" in studio.refused("/api/progress", 404, run="dmo")
    for run in ("..", f"../runs/{RUN}", "/etc", f"{RUN}/../{RUN}", f"{RUN}/"):
        assert "there is no run" in studio.refused("/api/progress", 404, run=run)


def test_links_out_of_a_run_are_not_followed(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.html"
    secret.write_text("secret", encoding="utf-8")
    report = folder / RUN / "report.html"
    report.unlink()
    report.symlink_to(secret)
    outside = tmp_path / "outside"
    shutil.copytree(folder / OTHER, outside)
    (folder / "linked").symlink_to(outside)
    with client_of(folder) as client:
        assert "report.html" in client.refused("/api/report", 404, run=RUN)
        assert "linked" not in [run["id"] for run in client.get("/api/runs")["runs"]]


def test_progress_has_losses_dev_scores_and_the_gate(studio: Client, written: Path) -> None:
    progress = studio.get("/api/progress", run=RUN)
    events = [json.loads(line) for line in (written / RUN / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [event for event in events if event["event"] == "train"]
    assert progress["losses"]["add"] == [
        [e["step"], e["loss_by_kind"]["add"]] for e in steps if "add" in e["loss_by_kind"]
    ]
    assert progress["training"]["tokens"] == steps[-1]["tokens"]
    seconds = steps[-1]["seconds"] - steps[-21]["seconds"]
    speed = (steps[-1]["tokens"] - steps[-21]["tokens"]) / seconds
    assert progress["training"]["tokens_per_second"] == pytest.approx(speed)
    assert [score["step"] for score in progress["dev"]] == [10, 20, 30]
    result = json.loads((written / RUN / "result.json").read_text(encoding="utf-8"))
    assert {name: ability["status"] for name, ability in result["abilities"].items()} == {
        name: ability["status"] for name, ability in progress["gate"]["abilities"].items()
    }
    assert progress["stages"] == [{"stage": "train", "seconds": 9.5}]


def test_remaining_time_follows_from_the_planned_tokens(folder: Path) -> None:
    run = folder / RUN
    (run / "result.json").unlink()
    recipe = recipes.load_stored(run / "recipe.yaml")
    card = json.loads((run / "data" / "card.json").read_text(encoding="utf-8"))
    planned = card["splits"]["train"]["tokens"] / (1 - recipe.retain.replay_share) * recipe.train.epochs
    with client_of(folder) as client:
        training = client.get("/api/progress", run=RUN)["training"]
    assert training["planned_tokens"] == pytest.approx(planned)
    remaining = (planned - training["tokens"]) / training["tokens_per_second"]
    assert training["remaining_seconds"] == pytest.approx(remaining)


def test_a_growing_log_is_read_up_to_its_last_whole_line(folder: Path) -> None:
    log = folder / RUN / "log.jsonl"
    event = {"event": "train", "step": 41, "loss": 0.5, "loss_by_kind": {"add": 0.5}, "tokens": 90_000, "seconds": 99.0}
    with client_of(folder) as client:
        with log.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(event)}\n" + '{"event": "train", "st')
        progress = client.get("/api/progress", run=RUN)
        assert progress["training"]["step"] == 41
        assert progress["losses"]["add"][-1] == [41, 0.5]


def test_a_damaged_log_is_named_with_its_line(folder: Path) -> None:
    log = folder / RUN / "log.jsonl"
    log.write_text('{"event": "train", "step": 1}\n', encoding="utf-8")
    with client_of(folder) as client:
        assert "log.jsonl:1" in client.refused("/api/progress", 422, run=RUN)


def test_long_curves_are_thinned_to_means() -> None:
    steps = [{"step": step, "loss_by_kind": {"add": float(step % 2)}} for step in range(1, 10 * POINTS + 1)]
    curve = losses_by_kind(steps)["add"]
    assert len(curve) == POINTS
    assert curve[-1] == (10 * POINTS, 0.5)


def test_control_characters_of_the_log_are_escaped(folder: Path) -> None:
    with (folder / RUN / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"event": "note", "text": "\u202eevil\x9b"}, ensure_ascii=False) + "\n")
    with client_of(folder) as client:
        assert "\\u202eevil\\x9b" in client.get("/api/progress", run=RUN)["log"][-1]


def test_a_locked_run_is_running(folder: Path) -> None:
    with client_of(folder) as client, run_lock(folder / RUN):
        states = {run["id"]: run["is_running"] for run in client.get("/api/runs")["runs"]}
    assert states == {RUN: True, OTHER: False}


def test_lock_of_a_killed_process_is_free_and_stays_free(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    assert not is_locked(tmp_path)
    with run_lock(tmp_path):
        assert is_locked(tmp_path)
    assert not is_locked(tmp_path)
    assert not os.path.exists(tmp_path / ".lock")  # noqa: PTH110


def test_suite_so_far_shows_what_only_the_base_has_answered(folder: Path) -> None:
    (folder / RUN / "result.json").unlink()
    (folder / RUN / "scores" / "ability-grammar-tuned.jsonl").unlink()
    with client_of(folder) as client:
        suite = {entry["source"]: entry for entry in client.get("/api/progress", run=RUN)["suite"]}
    assert suite["grammar"]["base"]["n"] > 0
    assert suite["grammar"]["tuned"] is None
    assert suite["knowledge"]["tuned"]["n"] == suite["knowledge"]["base"]["n"]
