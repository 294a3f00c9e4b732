"""The verdict in words names its scope: what was measured and counted."""

import json
from pathlib import Path
from typing import Any

import pytest

from keeptune.report.wording import COUNTED_PASS, VERDICTS, retained_count, skill_label, unmeasured, verdict_wording
from keeptune.run_files.result import Result


@pytest.fixture(scope="module")
def tree(judged: Path) -> dict[str, Any]:
    """result.json of the run that the suite judged."""
    return json.loads((judged / "result.json").read_text(encoding="utf-8"))


def result(tree: dict[str, Any], **gate: Any) -> Result:
    return Result.model_validate({**tree, "gate": {**tree["gate"], **gate}})


def with_statuses(tree: dict[str, Any], **changes: dict[str, Any]) -> dict[str, Any]:
    """The result with other fields of these abilities; `_` stands for a hyphen."""
    abilities = {name: {**ability} for name, ability in tree["abilities"].items()}
    for name, change in changes.items():
        abilities[name.replace("_", "-")].update(change)
    return {**tree, "abilities": abilities}


@pytest.mark.parametrize("verdict", ["pass", "fail", "undecided"])
def test_each_verdict_has_a_sentence_and_a_scope(tree: dict[str, Any], verdict: str) -> None:
    for policy in ("suite", "contest"):
        wording = verdict_wording(result(tree, verdict=verdict, policy=policy))
        assert wording.sentence.endswith(VERDICTS[policy][verdict])
        assert "commonsense" in wording.scope
        assert "knew" not in wording.sentence


def test_a_mean_score_is_not_called_a_share_of_right_answers(tree: dict[str, Any]) -> None:
    # A grader with scores between 0 and 1, such as json or chrf, has a mean score and no McNemar test.
    assert "correctly" in skill_label(result(tree).skill)
    assert "Mean score" in skill_label(result({**tree, "skill": {**tree["skill"], "mcnemar_p": None}}).skill)


def test_pass_lists_uncounted_abilities(tree: dict[str, Any]) -> None:
    uncounted = with_statuses(tree, chat={"counted": False}, grammar={"counted": False, "status": "retained"})
    wording = verdict_wording(result(uncounted, verdict="pass"))
    assert wording.sentence == COUNTED_PASS
    assert "chat (lost), grammar" in wording.scope or "grammar (retained), chat (lost)" in wording.scope


def test_contest_rule_names_its_tasks(tree: dict[str, Any]) -> None:
    ratio = {"point": 1.0, "low95": 0.9, "high95": 1.1}
    task = {"metric": "acc", "n": 40, "base": 50.0, "tuned": 50.0, "ratio": ratio}
    tasks = {**tree, "retained": {**tree["retained"], "tasks": {"sums": task, "facts": task}}}
    assert "reading and 2 tasks" in verdict_wording(result(tasks, policy="contest")).sentence


def test_unmeasured_abilities_are_named(tree: dict[str, Any]) -> None:
    assert unmeasured(result(tree)).startswith("Not measured: commonsense, reading-en of")
    knowledge = tree["abilities"]["knowledge"]
    everything = {**tree, "abilities": {**tree["abilities"], "commonsense": knowledge, "reading-en": knowledge}}
    assert "Not measured" not in unmeasured(result(everything))
    assert "task own sums" in unmeasured(result(everything))
    nothing = unmeasured(result({**tree, "abilities": {}}, policy="contest"))
    assert "knowledge" in nothing and "reading-en" not in nothing


def test_retained_count(tree: dict[str, Any]) -> None:
    assert retained_count(result(tree))[0] == "4 of 8"
    figure, notes = retained_count(result(with_statuses(tree, chat={"counted": False})))
    assert figure == "4 of 7"
    assert "2 lost" in notes and "1 by the recipe" in notes
