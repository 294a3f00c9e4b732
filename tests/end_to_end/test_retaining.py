"""Runs that keep the rest: an adapter with an invocation, and what a run lost, recovered by another run."""

import json
from pathlib import Path

from end_to_end.command import keeptune, ok, records, refused
from end_to_end.conftest import MakeRecipe

from keeptune.files import read_json, write_json
from keeptune.pipeline.verify import verify

CALL = "[sum]\n"
TEMPLATE = f"{CALL}Question: {{problem}}\nAnswer:\n"


def test_a_run_with_an_invocation_leaves_all_else_as_it_was(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    run = tmp_path / "run"
    retain = {"activation": "invoked", "invocation": CALL}
    recipe = make_recipe(
        prompt={"template": TEMPLATE},
        retain=retain,
        score={"suite": "quick", "abilities": ["knowledge", "grammar", "general-text"]},
        gate={"policy": "suite"},
    )
    said = ok("run", recipe, "--run", run)
    assert "unchanged outside its invocation: 600 prompts, bit for bit" in said.err
    result = read_json(run / "result.json")
    assert result["unchanged"] == {"invocation": CALL, "prompts": 600, "differing": 0}
    assert {own["point"] for own in result["abilities"].values()} <= {0.0, 1.0, None}
    base, tuned = (records(run / "scores" / f"ability-grammar-{who}.jsonl") for who in ("base", "tuned"))
    assert tuned == base
    skill = [records(run / "scores" / f"skill-{who}.jsonl") for who in ("base", "tuned")]
    assert [own["output"] for own in skill[0]] != [own["output"] for own in skill[1]], "the adapter does nothing"
    assert "on 600 prompts of the suite" in (run / "report.md").read_text(encoding="utf-8")
    config = read_json(run / "adapter" / "adapter_config.json")
    assert len(config["alora_invocation_tokens"]) > 1
    assert verify(run).faults == []
    assert "merged weights act" in refused(2, "export", run, "--to", "merged", "--out", tmp_path / "merged")

    # An adapter that always acts, put in its place, is found out.
    write_json(run / "adapter" / "adapter_config.json", config | {"alora_invocation_tokens": None})
    places = [fault.place for fault in verify(run).faults]
    assert sum("unchanged-tuned.jsonl" in place for place in places) > 500


def test_tokens_that_the_prompt_does_not_hold_are_refused(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(
        prompt={"template": "Sum: Sum: {problem}\n"}, retain={"activation": "invoked", "invocation": "Sum: "}
    )
    outcome = keeptune("run", recipe, "--run", tmp_path / "run")
    assert outcome.code == 2
    assert "occur 2 times in the prompt" in outcome.err


def test_recover_restores_lost_abilities(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    run, again = tmp_path / "run", tmp_path / "again"
    suite = {"suite": "quick", "abilities": ["general-text", "knowledge", "grammar"]}
    harmful = {"learning_rate": 0.05, "epochs": 2, "score_every_steps": 0}
    recipe = make_recipe(train=harmful, retain={"replay_share": 0}, score=suite, gate={"policy": "suite"})
    keeptune("run", recipe, "--run", run)
    lost = read_json(run / "result.json")
    assert lost["gate"]["verdict"] != "pass"
    replay = "retain.replay=[embedded, on_policy]"
    gentle = ("--set", "train.learning_rate=0.002", "--set", replay, "--set", "score.dev_limit=6")
    outcome = keeptune("recover", run, "--run", again, "--tokens", 3000, *gentle)
    assert outcome.code in (0, 4), outcome.err
    assert "projecting the adapter away from" in outcome.err
    found = read_json(again / "result.json")
    changes = [made["retained"]["kl"]["general"]["point"] for made in (lost, found)]
    assert changes[1] < 0.9 * changes[0], changes
    assert read_json(again / "adapter" / "chosen.json")["candidates"]
    ranks = [read_json(made / "adapter" / "adapter_config.json")["r"] for made in (run, again)]
    assert ranks[1] == 2 * ranks[0]
    assert records(again / "replay" / "on_policy.jsonl")
    assert str(run / "adapter") in (again / "recipe.yaml").read_text(encoding="utf-8")
    steps = [json.loads(line) for line in (again / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert sum(own["event"] == "score" for own in steps) >= 3
    assert verify(again).faults == []


def test_recover_refuses_runs_that_lost_nothing(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert "no recipe.yaml" in refused(2, "recover", tmp_path) or "no result.json" in refused(2, "recover", tmp_path)
    ok("run", make_recipe(), "--run", run)
    result = read_json(run / "result.json")
    write_json(run / "result.json", result | {"gate": result["gate"] | {"verdict": "pass"}})
    assert "nothing to recover" in refused(2, "recover", run)


def test_a_prompt_without_the_invocation_is_refused(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    run, rows = tmp_path / "run", tmp_path / "rows.jsonl"
    retain = {"activation": "invoked", "invocation": CALL}
    ok("run", make_recipe(prompt={"template": TEMPLATE}, retain=retain, train={"epochs": 1}), "--run", run)
    row = {"problem": "计算 12.50 + 7.25 等于多少？", "solution": "12.50 + 7.25 = 19.75"}
    rows.write_text(json.dumps(row) + "\n", encoding="utf-8")
    ok("score", run, "--skill", rows)
    other = ("--prompt", "Problem: {problem}\n", "--other-prompt")
    assert "does not contain the invocation" in refused(2, "score", run, "--skill", rows, *other)
    base = read_json(run / "adapter" / "keeptune.json")["model"]
    judged = keeptune("gate", "--base", base, "--tuned", run, "--suite", "quick", "--abilities", "grammar", "--json")
    assert {own["point"] for own in judged.json["abilities"].values()} <= {1.0, None}
