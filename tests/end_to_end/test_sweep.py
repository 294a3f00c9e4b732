"""A sweep of real runs: what it tries, resumes, gives up and shows."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from end_to_end.command import Outcome, files, ok, refused
from end_to_end.conftest import MakeRecipe

from keeptune.config import recipe as recipes
from keeptune.event_log import EventLog
from keeptune.pipeline.run import Run
from keeptune.pipeline.run_lock import run_lock
from keeptune.pipeline.sweep import Pruner, TrialPrunedError, is_below_median
from keeptune.run_files.directory import RunDirectory

VARIED = ("--vary", "train.learning_rate=1e-4..1e-2", "--vary", "adapter.rank=1,2")


def swept(recipe: Path, folder: Path, trials: int) -> Outcome:
    return ok("sweep", recipe, *VARIED, "--trials", trials, "--run", folder, "--json")


@pytest.fixture(scope="module")
def sweep(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("sweeps") / "tiny"
    return folder, swept(recipe, folder, 2).json


def test_every_trial_is_a_run_with_its_own_settings(sweep: tuple[Path, Any]) -> None:
    folder, made = sweep
    assert [trial["state"] for trial in made["trials"]] == ["complete", "complete"]
    for trial in made["trials"]:
        rate, rank = (setting.partition("=")[2] for setting in trial["settings"])
        stored = (Path(trial["run"]) / "recipe.yaml").read_text(encoding="utf-8")
        assert f"\n  rank: {rank}\n" in stored and 1e-4 <= float(rate) <= 1e-2
        config = json.loads((Path(trial["run"]) / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
        assert config["r"] == int(rank)
        assert not (Path(trial["run"]) / "scores").exists(), "the test is not looked at"
    assert set(made["front"]) <= {0, 1} and made["front"]
    assert json.loads((folder / "sweep.json").read_text(encoding="utf-8")) == made


def test_more_trials_extend_the_sweep(sweep: tuple[Path, Any], recipe: Path, tmp_path: Path) -> None:
    folder = tmp_path / "more"
    shutil.copytree(sweep[0], folder)
    before = files(folder / "trial-1")
    made = swept(recipe, folder, 3).json
    assert [trial["settings"] for trial in made["trials"][:2]] == [trial["settings"] for trial in sweep[1]["trials"]]
    assert len(made["trials"]) == 3 and made["trials"][2]["settings"] != made["trials"][1]["settings"]
    assert files(folder / "trial-1") == before
    assert swept(recipe, folder, 3).json == made


def test_an_interrupted_trial_is_finished_first(sweep: tuple[Path, Any], recipe: Path, tmp_path: Path) -> None:
    """The journal says that the second trial is under way; its run has lost all behind the training."""
    folder = tmp_path / "cut"
    shutil.copytree(sweep[0], folder)
    lines = (folder / "trials.log").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "trials.log").write_text("".join(lines[:-1]), encoding="utf-8")
    shutil.rmtree(folder / "trial-2" / "adapter")
    made = swept(recipe, folder, 2).json
    assert len(made["trials"]) == 2
    assert [trial["accuracy"] for trial in made["trials"]] == [trial["accuracy"] for trial in sweep[1]["trials"]]


def test_the_page_and_the_table_show_every_trial(sweep: tuple[Path, Any], recipe: Path) -> None:
    folder, made = sweep
    page = (folder / "sweep.html").read_text(encoding="utf-8")
    table = ok("sweep", recipe, *VARIED, "--trials", 2, "--run", folder).out
    for trial in made["trials"]:
        for setting in trial["settings"]:
            assert setting in table and f"<td>{setting.partition('=')[2]}</td>" in page
    assert "<svg" in page and page.count("<tr>") == 3


def test_a_failed_trial_is_reported_and_the_sweep_continues(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe, folder = make_recipe(), tmp_path / "sweep"
    outcome = ok(
        "sweep", recipe, "--vary", "data.max_tokens=20,1000", "--trials", 4, "--run", folder, "--set", "train.epochs=1",
        "--json",
    )  # fmt: skip
    states = {tuple(trial["settings"]): trial["state"] for trial in outcome.json["trials"]}
    assert states == {("data.max_tokens=20",): "failed", ("data.max_tokens=1000",): "complete"}, "both were tried"
    for trial in outcome.json["trials"]:
        assert (Path(trial["run"]) / "failed.txt").is_file() == (trial["state"] == "failed")


def test_conflicting_values_are_a_failed_trial(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    vary = ("--vary", "adapter.family=pissa,lora", "--vary", "adapter.dropout=0.1,0.5")
    recipe, folder = make_recipe(), tmp_path / "sweep"
    made = ok("sweep", recipe, *vary, "--trials", 5, "--run", folder, "--set", "train.epochs=1", "--json").json
    excluded = ["adapter.family=pissa" in trial["settings"] for trial in made["trials"]]  # it has no dropout
    assert any(excluded) and not all(excluded)
    assert [trial["state"] == "failed" for trial in made["trials"]] == excluded
    for trial in made["trials"]:
        assert (Path(trial["run"]) / "failed.txt").is_file() == (trial["state"] == "failed")


def test_a_second_sweep_in_the_same_directory_is_refused(sweep: tuple[Path, Any], recipe: Path) -> None:
    before = files(sweep[0])
    with run_lock(sweep[0]):
        assert "another process" in refused(2, "sweep", recipe, *VARIED, "--trials", 3, "--run", sweep[0])
    assert files(sweep[0]) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--vary", "train.learning_rates=1,2"), "did you mean learning_rate?"),
        (("--vary", "adapter.rank=0..4"), "adapter.rank"),
        (("--vary", "adapter.rank=4,8", "--vary", "adapter.rank=1..3"), "each key once"),
        (("--vary", "adapter.rank"), "KEY=LOW..HIGH"),
        (("--vary", "adapter.rank=4,8", "--set", "data.split.dev=0"), "set data.split.dev"),
    ],
)
def test_invalid_values_are_refused_before_the_first_trial(
    arguments: tuple[str, ...], message: str, recipe: Path, tmp_path: Path
) -> None:
    assert message in refused(2, "sweep", recipe, *arguments, "--run", tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()


def test_a_different_sweep_in_the_same_directory_is_refused(sweep: tuple[Path, Any], recipe: Path) -> None:
    said = refused(2, "sweep", recipe, "--vary", "adapter.rank=1,2,4", "--run", sweep[0])
    assert "holds a sweep of another recipe or other values" in said


def test_a_sweep_of_an_older_version_resumes(sweep: tuple[Path, Any], recipe: Path, tmp_path: Path) -> None:
    """Whose recipe has no key for what has come since."""
    folder = Path(shutil.copytree(sweep[0], tmp_path / "sweep"))
    stored = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
    del stored["train"]["truncate_targets"]
    (folder / "recipe.yaml").write_text(yaml.safe_dump(stored), encoding="utf-8")
    ok("sweep", recipe, *VARIED, "--trials", 2, "--run", folder)


def test_a_pruned_trial_stops_after_its_score_is_logged(recipe: Path, tmp_path: Path) -> None:
    events = EventLog(RunDirectory(tmp_path / "trial").event_log)
    pruner = Pruner(events, lambda place: [(2.0, 200.0)] * (3 if place == 1 else 0))
    trial = Run.create(tmp_path / "trial", recipes.load(recipe), observers=[pruner])
    with pytest.raises(TrialPrunedError):
        trial.select()
    scored = [event["step"] for event in events.events() if event["event"] == "score"]
    assert scored == [6, 12]
    assert not (tmp_path / "trial" / "adapter").exists()


def test_only_trials_below_the_median_in_both_scores_are_pruned() -> None:
    others = [(0.5, 40.0), (0.6, 50.0), (0.7, 60.0)]
    assert is_below_median((0.5, 40.0), others)
    assert not is_below_median((0.5, 50.0), others)
    assert not is_below_median((0.6, 10.0), others)
    assert not is_below_median((0.0, 0.0), others[:2])
