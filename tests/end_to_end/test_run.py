"""One run from a corpus to its report: what it leaves, that its parts agree, and that it can be done again."""

import json
import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import tiny
import torch
import yaml
from end_to_end.command import ended, files, keeptune, ok, process, records
from end_to_end.conftest import KINDS, MakeRecipe
from peft import PeftModel
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoTokenizer

from keeptune.config import recipe as recipes
from keeptune.files import file_sha256
from keeptune.grading.contest_reading import score_contest
from keeptune.grading.number import POLICIES, grade, parse_truth
from keeptune.grading.squad import score_squad_v11
from keeptune.models import load as models
from keeptune.prompts.reading import first_line
from keeptune.training import checkpoints

ROW = "id kind problem solution truth file line prompt_tokens solution_tokens"
ACCURACY = {"accuracy", "n", "ci95"}
READING = {"f1", "em", "n", "empty", "unstopped"}
ESTIMATE = {"point", "low95", "high95"}


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_directory_holds_what_the_contract_names(finished: Path) -> None:
    own = {path.name for path in finished.iterdir()}
    assert own == {
        "recipe.yaml", "inputs.json", "manifest.json", "data", "checkpoints", "adapter", "scores",
        "log.jsonl", "result.json", "report.html", "report.md", "tracking", "SHA256SUMS",
    }  # fmt: skip
    assert {path.name for path in (finished / "data").iterdir()} == {
        "train.parquet", "dev.parquet", "test.parquet", "rejected.jsonl", "card.json",
    }  # fmt: skip
    assert {path.name for path in (finished / "scores").iterdir()} == {
        "skill-base.jsonl", "skill-tuned.jsonl", "retained-base.jsonl", "retained-tuned.jsonl", "drift-tuned.jsonl",
    }  # fmt: skip
    assert {path.name for path in (finished / "adapter").iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "keeptune.json", "chosen.json",
    }  # fmt: skip


def test_the_recipe_is_complete_and_can_be_run_from(finished: Path, recipe: Path) -> None:
    stored = yaml.safe_load((finished / "recipe.yaml").read_text(encoding="utf-8"))
    for section, model in recipes.Recipe.model_fields.items():
        if isinstance(stored[section], dict):
            assert set(stored[section]) == set(model.annotation.model_fields)  # type: ignore[union-attr]
    assert recipes.load(finished / "recipe.yaml") == recipes.load(recipe)


def test_every_row_of_the_corpus_is_accounted_for(finished: Path, corpus: Path) -> None:
    card, rejected = read(finished / "data" / "card.json"), records(finished / "data" / "rejected.jsonl")
    rows = corpus.read_text(encoding="utf-8").count("\n")
    assert card["rows_read"] == rows == card["rows_kept"] + card["rows_rejected"]
    assert card["rows_kept"] == card["unique"] + card["duplicates"]
    assert card["rows_rejected"] == len(rejected) == sum(card["rejected_by_reason"].values()) > 0
    lines = corpus.read_text(encoding="utf-8").split("\n")
    for row in rejected:
        assert set(row) == {"file", "line", "reason", "text", "length"}
        assert row["file"] == str(corpus)
        assert row["text"] in lines[row["line"] - 1] or row["text"].split("\n")[0] in lines[row["line"] - 1]
    assert card["kinds"]["area"]["chosen"] == 16
    assert {kind for kind, facts in card["kinds"].items() if facts["chosen"]} == set(KINDS)
    assert card["leaks"]["retained_overlap"] == 0


def test_no_problem_is_in_two_parts(finished: Path) -> None:
    card = read(finished / "data" / "card.json")
    seen: set[str] = set()
    for part in ("train", "dev", "test"):
        table = pq.read_table(finished / "data" / f"{part}.parquet")
        assert table.column_names == ROW.split()
        rows = table.to_pylist()
        assert card["splits"][part] == {
            "rows": len(rows), "tokens": sum(row["prompt_tokens"] + row["solution_tokens"] for row in rows)
        }  # fmt: skip
        assert all(grade(row["solution"], parse_truth(row["truth"])).correct for row in rows)
        assert seen.isdisjoint(row["id"] for row in rows)
        seen |= {row["id"] for row in rows}
    assert card["splits"]["dev"]["rows"] == 6 and card["splits"]["test"]["rows"] == 9


def test_checkpoints_are_whole_and_the_last_step_is_one(finished: Path) -> None:
    steps = [path.name for path in checkpoints.list_complete(finished / "checkpoints")]
    assert len(steps) == len(list((finished / "checkpoints").glob("step-*"))) > 3
    assert steps[-1] == f"step-{read(finished / 'checkpoints' / 'trained.json')['steps']}"


def test_the_manifest_names_what_the_result_depends_on(finished: Path, model_folder: Path) -> None:
    manifest = read(finished / "manifest.json")
    assert manifest["hashes"]["weights"] == models.weights_sha256(models.load_model(str(model_folder), "float32"))
    assert set(manifest) == {
        "keeptune", "python", "platform", "packages", "git", "hardware", "hashes", "seed", "started", "command",
        "parameters", "base",
    }  # fmt: skip
    files = [*(f"data/{part}.parquet" for part in ("train", "dev", "test")), "data/card.json", "data/rejected.jsonl"]
    files += ["inputs.json", *(f"adapter/{name}.json" for name in ("adapter_config", "keeptune", "chosen"))]
    scores = [f"scores/{what}-{who}.jsonl" for what in ("skill", "retained") for who in ("base", "tuned")]
    own = {"recipe", "data", "prompt", "weights", "adapter"}
    assert set(manifest["hashes"]) == {*own, *files, *scores, "scores/drift-tuned.jsonl"}
    assert all(len(value) == 64 for value in manifest["hashes"].values())
    assert manifest["hashes"]["recipe"] == file_sha256(finished / "recipe.yaml")
    assert manifest["hashes"]["data"] == read(finished / "data" / "card.json")["data_sha256"]
    assert set(manifest["hardware"]) == {"cpu", "cores", "memory_bytes", "accelerator"}


def test_the_log_has_every_step_and_score(finished: Path) -> None:
    events = records(finished / "log.jsonl")
    trained = [event for event in events if event["event"] == "train"]
    assert set(trained[0]) == {
        "event", "step", "tokens", "loss", "loss_by_kind", "learning_rate", "grad_norm", "tokens_per_second", "seconds"
    }  # fmt: skip
    total = read(finished / "checkpoints" / "trained.json")["steps"]
    assert [event["step"] for event in trained] == list(range(1, total + 1))
    assert {kind for event in trained for kind in event["loss_by_kind"]} == {*KINDS, "reading"}
    scores = [event for event in events if event["event"] == "score"]
    assert [event["step"] for event in scores] == list(range(6, total, 6))
    assert all(event["skill"]["n"] == event["retained"]["n"] == 6 for event in scores)


def test_the_training_can_be_looked_at_in_tensorboard(finished: Path) -> None:
    events = EventAccumulator(str(finished / "tracking" / recipes.load(finished / "recipe.yaml").name))
    events.Reload()
    logged = [event for event in records(finished / "log.jsonl") if event["event"] == "train"]
    assert [one.step for one in events.Scalars("train/loss")] == [event["step"] for event in logged]
    assert [one.value for one in events.Scalars("train/loss")] == pytest.approx([event["loss"] for event in logged])
    assert [one.step for one in events.Scalars("dev/skill/accuracy")] == list(range(6, len(logged), 6))


def test_result_json_has_every_key_of_the_contract(finished: Path) -> None:
    result = read(finished / "result.json")
    assert set(result) == {
        "schema_version", "name", "model", "finished", "skill", "retained", "suite", "abilities", "gate", "parameters",
        "contest", "cost", "chosen", "prompt",
    }  # fmt: skip
    assert result["suite"] is None and result["abilities"] == {}
    assert set(result["skill"]) == {"base", "tuned", "difference", "mcnemar_p"}
    assert set(result["skill"]["difference"]) == ESTIMATE
    for who in ("base", "tuned"):
        skill = result["skill"][who]
        assert set(skill) == ACCURACY | {"by_kind", "by_policy", "by_source", "unstopped"}
        assert set(skill["by_kind"]) == set(KINDS)
        assert all(set(kind) == ACCURACY for kind in skill["by_kind"].values())
        assert set(skill["by_policy"]) == set(POLICIES)
        assert sum(skill["by_source"].values()) == skill["n"] == 9
        assert set(result["retained"][who]) == READING | {"answer_nll"}
        assert set(result["retained"]["contest_metric"][who]) == READING
    assert set(result["retained"]) == {
        "set", "metric", "prompt", "base", "tuned", "ratio", "contest_metric", "other_prompt", "token_loss", "kl",
        "kl_on_answers",
    }  # fmt: skip
    assert result["retained"]["other_prompt"] is None
    assert set(result["retained"]["token_loss"]) == {"n", "tokens", "base", "tuned", "difference"}
    assert set(result["retained"]["token_loss"]["difference"]) == ESTIMATE
    assert set(result["retained"]["kl"]) == {"general", "skill"}
    assert all(set(own) == ESTIMATE | {"n", "tokens"} for own in result["retained"]["kl"].values())
    assert result["retained"]["metric"] == "squad-v1.1" and result["retained"]["prompt"] == "few-shot"
    assert all(set(result["retained"]["ratio"][measure]) == ESTIMATE for measure in ("f1", "em"))
    assert result["retained"]["base"]["n"] == 30 and result["retained"]["base"]["em"] == 50
    assert set(result["gate"]) == {"policy", "threshold", "verdict", "reason", "more_questions"}
    assert result["parameters"] == {"trainable": 1856, "total": 41120, "ratio": 1856 / 41120}
    accuracy, ratio = result["skill"]["tuned"]["accuracy"], 1856 / 41120
    assert result["contest"]["phase1"] == pytest.approx(0.3 * (1 - ratio) + 0.7 * accuracy)
    assert set(result["contest"]) == {"phase1", "phase2"}
    assert set(result["cost"]) == {
        "seconds", "seconds_by_stage", "tokens_useful", "tokens_per_second", "peak_memory_bytes",
    }  # fmt: skip
    assert set(result["cost"]["seconds_by_stage"]) == {"data", "train", "select", "score"}
    assert set(result["chosen"]) == {"checkpoint", "scale", "candidates"}
    assert (finished / "checkpoints" / result["chosen"]["checkpoint"]).is_dir()
    assert result["prompt"]["template"] == "Question: {problem}\nAnswer:\n"


def test_every_answer_is_graded_again_to_its_verdict(finished: Path) -> None:
    tested = {row["id"]: row for row in pq.read_table(finished / "data" / "test.parquet").to_pylist()}
    for who in ("base", "tuned"):
        answers = records(finished / "scores" / f"skill-{who}.jsonl")
        assert [answer["id"] for answer in answers] == list(tested)
        for answer in answers:
            row = tested[answer["id"]]
            assert set(answer) == {
                "id", "kind", "problem", "prompt", "output", "truth", "answer", "source", "verdicts", "stopped",
                "output_tokens",
            }  # fmt: skip
            assert (answer["problem"], answer["truth"]) == (row["problem"], row["truth"])
            assert answer["prompt"] == tiny.PROMPT.render(row["problem"])
            graded = grade(answer["output"], Fraction(answer["truth"]))
            assert (graded.answer, graded.source) == (answer["answer"], answer["source"])
            assert dict(graded.verdicts) == answer["verdicts"]


def test_every_reading_answer_is_scored_again_to_its_score(finished: Path) -> None:
    for who in ("base", "tuned"):
        answers = records(finished / "scores" / f"retained-{who}.jsonl")
        for answer in answers:
            assert answer["prediction"] == first_line(answer["output"])
            scores = score_squad_v11(answer["prediction"], answer["references"])
            assert answer["squad-v1.1"] == {"f1": 100 * scores.f1, "em": 100 * scores.em}
            if answer["contest"] is not None:
                scores = score_contest(answer["prediction"], answer["references"][0])
                assert answer["contest"] == {"f1": 100 * scores.f1, "em": 100 * scores.em}
        asked = [answer["paragraph"] for answer in answers if answer["contest"] is not None]
        assert asked == sorted({answer["paragraph"] for answer in answers})


def test_plain_transformers_and_peft_give_the_same_answers(finished: Path, model_folder: Path) -> None:
    words = AutoTokenizer.from_pretrained(model_folder)
    tuned: Any = PeftModel.from_pretrained(tiny.reference(model_folder), finished / "adapter")
    base, answers = (records(finished / "scores" / f"skill-{who}.jsonl") for who in ("base", "tuned"))
    assert [answer["output"] for answer in base] != [answer["output"] for answer in answers], "this would prove nothing"
    for answer in answers:
        asked = words(answer["prompt"], return_tensors="pt")
        with torch.inference_mode():
            tokens = tuned.generate(**asked, max_new_tokens=answer["output_tokens"] + 1, do_sample=False)[0]
        new = tokens[asked["input_ids"].shape[1] :][: answer["output_tokens"]]
        assert words.decode(new, skip_special_tokens=True) == answer["output"]


def test_again_is_quick_and_changes_the_report_alone(finished: Path, recipe: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run", copy_function=shutil.copy2))
    before, moments = files(run), {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    outcome = ok("run", recipe, "--run", run, "--json")
    assert outcome.err == ""
    after = files(run)
    made_anew = {"result.json", "report.html", "report.md", "SHA256SUMS"}
    assert {name for name in after if name not in made_anew} == {name for name in before if name not in made_anew}
    untouched = [path for path in moments if path.name not in {*made_anew, "recipe.yaml"}]
    assert all(path.stat().st_mtime_ns == moments[path] for path in untouched)
    assert after["recipe.yaml"] == before["recipe.yaml"]
    assert {**outcome.json, "finished": ""} == {**json.loads(before["result.json"]), "finished": ""}
    assert outcome.json == json.loads(after["result.json"])


@pytest.mark.slow
def test_a_process_prints_json_and_nothing_else(recipe: Path, finished: Path) -> None:
    with process("run", recipe, "--run", finished, "--json") as running:
        outcome = ended(running)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.json == read(finished / "result.json")


def test_report_finds_the_same_figures_in_the_stored_answers(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    for name in ("result.json", "report.html", "report.md"):
        (run / name).unlink()
    reported = ok("report", run, "--json").json
    assert {**reported, "finished": ""} == {**read(finished / "result.json"), "finished": ""}
    page, short = ((run / f"report.{kind}").read_text(encoding="utf-8") for kind in ("html", "md"))
    for text in (page, short):
        assert "50.0" in text and tiny.PROMPT.template.split("{")[0] in text
    assert "verdict" in ok("report", run).out


def test_an_answer_may_hold_any_character(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    path = run / "scores" / "skill-tuned.jsonl"
    answers = records(path)
    answers[0]["output"] = "a\u2028b\x85c\x1dd\ud7ff\ufffe<script>"
    lines = [json.dumps(answer, ensure_ascii=False) for answer in answers]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    manifest = read(run / "manifest.json")
    manifest["hashes"]["scores/skill-tuned.jsonl"] = file_sha256(path)
    (run / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert ok("report", run, "--json").json["skill"] == read(finished / "result.json")["skill"]


def test_stages_run_separately_give_the_same_result(finished: Path, recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert ok("data", recipe, "--run", run).out == f"{run / 'data' / 'card.json'}\n"
    assert not (run / "checkpoints").exists()
    for stage in ("train", "select", "report"):
        ok(stage, run)
    own, whole = files(run), files(finished)
    assert set(own) == set(whole)
    for name in own:
        if name.startswith(("data/", "scores/", "adapter/")) or name.endswith("safetensors"):
            assert own[name] == whole[name], name


def test_an_untrained_adapter_keeps_exactly_everything(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    outcome = ok("run", make_recipe(train={"learning_rate": 1e-30}), "--run", tmp_path / "run", "--json")
    for measure in ("f1", "em"):
        assert outcome.json["retained"]["ratio"][measure] == {"point": 1, "low95": 1, "high95": 1}
    assert outcome.json["gate"]["verdict"] == "pass"
    assert outcome.json["skill"]["difference"] == {"point": 0, "low95": 0, "high95": 0}
    for what in ("skill", "retained"):
        base, tuned = ((tmp_path / "run" / "scores" / f"{what}-{who}.jsonl").read_bytes() for who in ("base", "tuned"))
        assert base == tuned


def test_a_run_that_forgets_exits_with_4(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    changed = make_recipe(train={"learning_rate": 0.5, "score_every_steps": 0}, score={"retained_limit": 30})
    outcome = keeptune("run", changed, "--run", tmp_path / "run")
    assert outcome.code == 4
    assert "verdict  FAIL" in outcome.out
    assert (tmp_path / "run" / "report.html").is_file()


def test_part_of_an_adapter_that_forgets_may_pass(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    """Trained far too hard, and nothing replayed: the whole of it fails the gate, and a small part of it does not."""
    over_trained = {"learning_rate": 0.05, "score_every_steps": 0}
    changed = make_recipe(
        train=over_trained,
        retain={"replay_share": 0},
        select={"scales": [0.5, 0.001], "averages": ["last-2", "ema", "last-99"]},
        score={"dev_limit": 9},
    )
    outcome = keeptune("run", changed, "--run", tmp_path / "run", "--json")
    chosen = read(tmp_path / "run" / "result.json")["chosen"]
    kept = {candidate["scale"]: candidate["kept"] for candidate in chosen["candidates"]}
    assert set(kept) == {1.0, 0.5, 0.001}
    assert kept[1.0] < 0.9 <= kept[0.001]
    assert chosen["scale"] == 0.001
    assert read(tmp_path / "run" / "adapter" / "keeptune.json")["scale"] == 0.001
    # The final scores are of that part, too.
    assert outcome.json["retained"]["tuned"]["f1"] > 0
    assert "Checkpoint selection</h3>" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "reading retained" in (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    assert ok("verify", tmp_path / "run").out.endswith("all of it follows\n")


def test_training_stops_early_without_improvement(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    """So small a rate changes no answer: all scores are equal, and the second one after the first is enough."""
    train = {"learning_rate": 1e-12, "epochs": 40, "score_every_steps": 2, "patience": 2}
    changed = make_recipe(train=train, select={"retention_weight": 0.5}, score={"dev_limit": 3})
    outcome = ok("run", changed, "--run", tmp_path / "run")
    assert "step 6" in outcome.err
    assert read(tmp_path / "run" / "checkpoints" / "trained.json") == {"steps": 6}
    events = [event["event"] for event in records(tmp_path / "run" / "log.jsonl")]
    assert (events.count("train"), events.count("score"), events.count("base")) == (6, 3, 1)
    assert read(tmp_path / "run" / "result.json")["chosen"]["checkpoint"] == "step-6"
    assert "accuracy + 0.5 · reading" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_a_base_that_cannot_read_proves_nothing(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    """The embedded questions are too hard for random weights, and five of them decide nothing."""
    changed = make_recipe(score={"retained": "embedded", "retained_limit": 6, "reading_prompt": "contest"})
    outcome = ok("run", changed, "--run", tmp_path / "run", "--json")
    ratio, gate = outcome.json["retained"]["ratio"], outcome.json["gate"]
    assert ratio["em"] == {"point": None, "low95": 0, "high95": None}
    assert (gate["verdict"], gate["more_questions"]) == ("undecided", 25)
    assert "5 reading questions decide nothing" in gate["reason"]
    report = (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    assert "– (0.0% to ∞)" in report
    assert "reference answers" in report


def test_the_default_place_is_runs_and_set_changes_the_recipe(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ok("data", recipe, "--set", "name=other", "--set", "data.split.test=12")
    assert read(tmp_path / "runs" / "other" / "data" / "card.json")["splits"]["test"]["rows"] == 12
