"""Trackers show every metric at its step, also after an interruption, and their failures do not end a training."""

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from keeptune.errors import RecipeError
from keeptune.training.trackers import Trackers


def shown(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The metrics that TensorBoard displays, by name, with their steps."""
    events = EventAccumulator(str(folder / "run"))
    events.Reload()
    return {name: [(one.step, one.value) for one in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_metrics_are_logged_at_their_steps(tmp_path: Path) -> None:
    messages: list[str] = []
    trackers = Trackers(["tensorboard"], tmp_path, "run", messages.append)
    trackers.log("train", 1, {"loss": 2.0, "loss_by_kind": {"add": 1.5}})
    trackers.log("train", 2, {"loss": 1.0})
    trackers.log("dev", 2, {"skill": {"accuracy": 0.25, "n": 4}})
    trackers.finish()
    assert shown(tmp_path) == {
        "train/loss": [(1, 2.0), (2, 1.0)],
        "train/loss_by_kind/add": [(1, 1.5)],
        "dev/skill/accuracy": [(2, 0.25)],
        "dev/skill/n": [(2, 4.0)],
    }
    assert not messages


def test_repeated_steps_are_logged_once(tmp_path: Path) -> None:
    for steps, loss in (((1, 2, 3, 4), 2.0), ((3, 4, 5), 1.0)):
        trackers = Trackers(["tensorboard"], tmp_path, "run", print)
        for step in steps:
            trackers.log("train", step, {"loss": loss})
        trackers.finish()
    assert shown(tmp_path) == {"train/loss": [(1, 2.0), (2, 2.0), (3, 1.0), (4, 1.0), (5, 1.0)]}


def test_a_failing_tracker_is_disabled(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("", encoding="utf-8")
    messages: list[str] = []
    trackers = Trackers(["tensorboard"], tmp_path / "taken", "run", messages.append)
    trackers.log("train", 1, {"loss": 2.0})
    trackers.log("train", 2, {"loss": 1.0})
    trackers.finish()
    assert len(messages) == 1
    assert "tracker tensorboard failed" in messages[0]


def test_a_missing_tracker_raises_at_once(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="swanlab is not installed"):
        Trackers(["tensorboard", "swanlab"], tmp_path, "run", print)


def test_without_trackers_nothing_is_written(tmp_path: Path) -> None:
    trackers = Trackers([], tmp_path / "tracking", "run", print)
    trackers.log("train", 1, {"loss": 2.0})
    trackers.finish()
    assert not (tmp_path / "tracking").exists()
