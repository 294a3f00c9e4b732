"""The two commands that need no run: a plan, which writes nothing, and a corpus, which is whole or not there."""

import json
import signal
from pathlib import Path

import pytest
from end_to_end.command import ended, files, keeptune, ok, process, records, refused, wait_until
from end_to_end.conftest import KINDS, MakeRecipe


def test_a_plan_has_all_estimates(finished: Path, recipe: Path) -> None:
    before = files(recipe.parent)
    plan = ok("plan", recipe, "--json").json
    result = json.loads((finished / "result.json").read_text(encoding="utf-8"))
    card = json.loads((finished / "data" / "card.json").read_text(encoding="utf-8"))
    assert {kind: facts["chosen"] for kind, facts in plan["kinds"].items()} == {
        kind: facts["chosen"] for kind, facts in card["kinds"].items()
    }
    assert plan["rows_read"] == card["rows_read"] and plan["rows_rejected"] == card["rows_rejected"]
    assert plan["splits"] == card["splits"]
    own = plan["parameters"]
    assert {key: own[key] for key in result["parameters"]} == result["parameters"]
    steps = json.loads((finished / "checkpoints" / "trained.json").read_text(encoding="utf-8"))["steps"]
    assert plan["steps"] == pytest.approx(steps, rel=0.25)
    assert plan["tokens"]["training"] == pytest.approx(result["cost"]["tokens_useful"], rel=0.25)
    assert plan["estimate"]["training_seconds"] > 0 and plan["estimate"]["memory_bytes"] > 0
    assert files(recipe.parent) == before


def test_a_plan_counts_only_trained_tokens_of_truncated_targets(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    openings = {"epochs": 1, "score_every_steps": 0, "truncate_targets": {"area": 1.0}}
    recipe = make_recipe(train=openings, retain={"replay_share": 0}, data={"styles": {"default": "longhand"}})
    planned = ok("plan", recipe, "--json").json["tokens"]["training"]
    whole = ok("plan", recipe, "--set", "train.truncate_targets={}", "--json").json["tokens"]["training"]
    ok("data", recipe, "--run", tmp_path / "run")
    ok("train", tmp_path / "run")
    steps = [event for event in records(tmp_path / "run" / "log.jsonl") if event["event"] == "train"]
    assert steps[-1]["tokens"] == planned < whole


def test_a_plan_for_people(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    out = ok("plan", recipe).out
    for kind in KINDS:
        assert kind in out
    assert "1,856 of 41,120 trained" in out
    assert "spelling" not in out
    spelled = ok("plan", recipe, "--set", "data.spelling=spaced").out
    assert "spelling    numbers in the solutions are spaced" in spelled
    assert not any(tmp_path.iterdir())


def test_unique_problems_are_as_many_as_a_score_needs(tmp_path: Path) -> None:
    ok("synth", "--unique", "--out", tmp_path / "test.jsonl")
    problems = [row["problem"] for row in records(tmp_path / "test.jsonl")]
    assert len(problems) == len(set(problems)) == 2000


def test_a_plan_of_bad_data_exits_with_3(make_recipe: MakeRecipe) -> None:
    outcome = keeptune("plan", make_recipe(data={"quota": {"area": 9999}}), "--json")
    assert outcome.code == 3 and outcome.out == ""


def test_the_same_seed_writes_the_same_corpus(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        asked = ["--rows", 500, "--bad-share", 0.1, "--seed", seed, "--out", tmp_path / "new" / f"{name}.jsonl"]
        assert ok("synth", *asked).out == f"{tmp_path / 'new' / name}.jsonl\n"
    made = files(tmp_path / "new")
    assert made["a.jsonl"] == made["b.jsonl"] != made["c.jsonl"]
    assert made["a.jsonl"].count(b"\n") == 500


def test_problems_of_other_files_are_not_written_again(tmp_path: Path) -> None:
    ok("synth", "--rows", 400, "--seed", 1, "--out", tmp_path / "all.jsonl")
    small = ("分数", "质量")  # Of these kinds nothing would be left.
    test = [row for row in records(tmp_path / "all.jsonl") if not any(word in row["problem"] for word in small)]
    halves = {tmp_path / "a.jsonl": test[::2], tmp_path / "b.jsonl": test[1::2]}
    for path, part in halves.items():
        path.write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")
    excluded = [argument for path in halves for argument in ("--exclude", path)]
    ok("synth", "--rows", 400, "--seed", 1, *excluded, "--out", tmp_path / "train.jsonl")
    taught = records(tmp_path / "train.jsonl")
    assert len(taught) == 400
    assert not {row["problem"] for row in test} & {row["problem"] for row in taught}


def test_a_kind_that_is_excluded_whole_is_an_error_and_writes_nothing(tmp_path: Path) -> None:
    fractions = [f"将分数 {top}/{bottom} 进行简化。" for bottom in range(2, 11) for top in range(1, bottom)]
    path = tmp_path / "test.jsonl"
    path.write_text("".join(json.dumps({"problem": one, "solution": "1/2"}) + "\n" for one in fractions))
    said = refused(3, "synth", "--rows", 400, "--exclude", path, "--out", tmp_path / "train.jsonl")
    assert "data.synth" in said and "'fraction'" in said
    assert list(tmp_path.iterdir()) == [path]


def test_exactly_the_bad_rows_are_corrupted(tmp_path: Path) -> None:
    for name, share in (("good", 0), ("bad", 0.1)):
        ok("synth", "--rows", 1000, "--bad-share", share, "--out", tmp_path / name)
    good, bad = ((tmp_path / name).read_text(encoding="utf-8").splitlines() for name in ("good", "bad"))
    assert all(json.loads(line).keys() == {"problem", "solution"} for line in good)
    assert 60 < sum(one != other for one, other in zip(good, bad, strict=True)) < 140


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_corpus_leaves_no_file(tmp_path: Path, number: int) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_text("the one before\n", encoding="utf-8")
    with process("synth", "--rows", 5_000_000, "--out", path) as running:
        wait_until(lambda: len(list(tmp_path.iterdir())) == 2, running)
        running.send_signal(number)
        outcome = ended(running)
    assert outcome.code == (5 if number == signal.SIGTERM else -number)
    assert outcome.out == "" and "Traceback" not in outcome.err
    assert path.read_text(encoding="utf-8") == "the one before\n"
    if number == signal.SIGTERM:
        assert list(tmp_path.iterdir()) == [path]
