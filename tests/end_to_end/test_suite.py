"""A run that is judged by the retention suite: what it leaves, what decides, and what verify finds."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from end_to_end.command import keeptune, ok, records
from end_to_end.conftest import Tree, run_quick_suite

from keeptune.config.ability_names import ABILITY_NAMES

ABILITIES = ["knowledge", "grammar", "general-text", "chat", "instructions", "reading-en"]
STATUSES = {"retained", "lost", "undecided", "nothing to lose", "practised"}


@pytest.fixture(scope="module")
def judged(tree: Tree, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the tiny model with a part of the quick suite."""
    return run_quick_suite(tree, tmp_path_factory.mktemp("suite"), ABILITIES)


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_result_states_every_ability(judged: Path) -> None:
    result = read(judged / "result.json")
    assert result["schema_version"] == 2
    assert set(result["abilities"]) == set(ABILITIES)
    for own in result["abilities"].values():
        assert {"base", "tuned", "point", "low95", "status", "n", "practised", "counted", "measures"} <= set(own)
        assert own["status"] in STATUSES
    assert result["suite"]["size"] == "quick" and len(result["suite"]["sha256"]) == 64
    assert result["gate"]["policy"] == "suite"


def test_replay_marks_the_ability_it_practises(judged: Path) -> None:
    result = read(judged / "result.json")
    reading = result["abilities"]["reading-en"]
    assert reading["status"] == "practised" and not reading["counted"]
    assert "embedded" in reading["practised"]
    assert "reading-en" not in result["gate"]["counted"]


def test_random_model_cannot_pass(judged: Path) -> None:
    result = read(judged / "result.json")
    assert result["gate"]["verdict"] != "pass"
    assert result["abilities"]["knowledge"]["status"] == "nothing to lose"


def test_answers_are_stored_and_hashed(judged: Path) -> None:
    hashes = read(judged / "manifest.json")["hashes"]
    for name in ABILITIES:
        if name == "reading-en":  # it is what `score.retained` asks
            continue
        base, tuned = (records(judged / "scores" / f"ability-{name}-{who}.jsonl") for who in ("base", "tuned"))
        assert [own["id"] for own in base] == [own["id"] for own in tuned]
        assert f"scores/ability-{name}-base.jsonl" in hashes
    assert {"scores/practised.json", "scores/divergence-tuned.jsonl"} <= set(hashes)


def test_divergence_is_measured_on_answers(judged: Path) -> None:
    result, stored = read(judged / "result.json"), records(judged / "scores" / "divergence-tuned.jsonl")
    assert {(own["what"], own["mode"]) for own in stored} == {
        (what, mode) for what in ("skill", "chat") for mode in ("greedy", "sampled")
    }
    assert all(own["kl"] >= 0 for own in stored)
    for modes in result["retained"]["kl_on_answers"].values():
        for mean in modes.values():
            assert 0 <= mean["low95"] <= mean["point"] <= mean["high95"]


def test_candidates_are_compared_on_dev_items(judged: Path) -> None:
    events = [json.loads(line) for line in (judged / "log.jsonl").read_text(encoding="utf-8").split("\n") if line]
    scored = [event for event in events if event["event"] == "score"]
    assert scored and all(set(event["abilities"]) <= set(ABILITY_NAMES) for event in scored)
    final = {own["id"] for own in records(judged / "scores" / "ability-knowledge-base.jsonl")}
    dev = {own["id"] for own in records(judged / "dev" / "ability-knowledge-base.jsonl")}
    assert dev and dev.isdisjoint(final)
    assert all("lost" in own for own in read(judged / "result.json")["chosen"]["candidates"])


def test_untouched_run_verifies(judged: Path) -> None:
    ok("verify", judged)


def edit(path: Path, change: Callable[[dict[str, Any]], None], line: int = 0) -> None:
    lines = path.read_text(encoding="utf-8").split("\n")
    record = json.loads(lines[line])
    change(record)
    lines[line] = json.dumps(record, ensure_ascii=False)
    path.write_text("\n".join(lines), encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "change", "named"),
    [
        ("ability-knowledge-tuned", lambda own: own.update(question="another?"), "question"),
        ("ability-knowledge-tuned", lambda own: own.update(answer=3 - own["answer"]), "answer"),
        ("ability-knowledge-base", lambda own: own.update(log_likelihoods=[0.0, -9.0, -9.0, -9.0]), "hashes"),
        ("ability-grammar-tuned", lambda own: own.update(correct=not own["correct"]), "correct"),
        ("ability-general-text-tuned", lambda own: own.update(nats=1.0), "nats_per_token"),
        ("ability-chat-tuned", lambda own: own.update(output="Fine."), "hashes"),
        ("ability-instructions-base", lambda own: own.update(constraints=[{"type": "no_comma"}]), "constraints"),
    ],
)
def test_verify_finds_an_edited_record(
    judged: Path, tmp_path: Path, file: str, change: Callable[[dict[str, Any]], None], named: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(judged, run)
    edit(run / "scores" / f"{file}.jsonl", change)
    outcome = keeptune("verify", run)
    assert outcome.code == 3
    assert file in outcome.out and named in outcome.out


def test_verify_finds_an_edited_status(judged: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(judged, run)
    result = read(run / "result.json")
    own = result["abilities"]["grammar"]
    own["status"] = "lost" if own["status"] == "retained" else "retained"
    (run / "result.json").write_text(json.dumps(result), encoding="utf-8")
    outcome = keeptune("verify", run)
    assert outcome.code == 3 and "abilities.grammar.status" in outcome.out


def test_resumed_evaluation_gives_the_same_bytes(judged: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(judged, run)
    before = (run / "scores" / "ability-grammar-tuned.jsonl").read_bytes()
    for name in ("ability-grammar-tuned.jsonl", "divergence-tuned.jsonl"):
        (run / "scores" / name).unlink()
    (run / "result.json").unlink()
    outcome = keeptune("run", run / "recipe.yaml", "--run", run)
    assert outcome.code in (0, 4), outcome.err
    assert (run / "scores" / "ability-grammar-tuned.jsonl").read_bytes() == before
