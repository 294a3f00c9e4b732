"""What was asked before is not asked again, unless anything that it depends on has changed."""

from pathlib import Path

from end_to_end.command import files, ok
from end_to_end.conftest import MakeRecipe

BRIEF = {"epochs": 1, "learning_rate": 0.0004, "score_every_steps": 0}
"""Training that leaves the base almost as it was, so that no gate fails."""


def entries(cache: Path) -> int:
    return len(files(cache / "scores"))


def test_the_same_questions_are_answered_from_the_cache(
    model_folder: Path, corpus: Path, squad: Path, own_cache: Path
) -> None:
    command = ("score", model_folder, "--skill", corpus, "--retained", squad, "--limit", 6, "--json")
    first = ok(*command)
    assert (entries(own_cache), "from the cache" in first.err) == (2, False)
    again = ok(*command)
    assert (entries(own_cache), again.err.count("from the cache")) == (2, 2)
    assert again.json == first.json
    ok(*command, "--prompt", "Q: {problem}\n")
    assert entries(own_cache) == 3  # the problems are asked anew, the reading questions not
    squad_text = squad.read_text(encoding="utf-8")
    other = own_cache.parent / "other.json"
    other.write_text(squad_text.replace("masons", "farmers"), encoding="utf-8")
    ok("score", model_folder, "--retained", other, "--limit", 6)
    assert entries(own_cache) == 4


def test_base_records_are_cached_across_recipes(make_recipe: MakeRecipe, own_cache: Path, tmp_path: Path) -> None:
    ok("run", make_recipe(train=BRIEF), "--run", tmp_path / "one")
    assert entries(own_cache) == 5
    ok("run", make_recipe(train={**BRIEF, "learning_rate": 0.0005}), "--run", tmp_path / "two")
    assert entries(own_cache) == 8
    for what in ("skill", "retained"):
        first, second = (tmp_path / run / "scores" / f"{what}-base.jsonl" for run in ("one", "two"))
        assert first.read_bytes() == second.read_bytes()
    assert ok("verify", tmp_path / "two").out.rstrip().endswith("all of it follows")


def test_a_run_computes_measures_that_cached_scores_lack(
    make_recipe: MakeRecipe, model_folder: Path, squad: Path, tmp_path: Path
) -> None:
    ok("score", model_folder, "--retained", squad)
    made = ok("run", make_recipe(train=BRIEF), "--run", tmp_path / "run", "--json").json
    assert made["retained"]["ratio"]["likelihood"] is not None


def test_both_prompts_and_user_texts_are_measured_and_verified(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("The mill is old.\n\nThe ferry is new.\n\nThe inn is full.\n", encoding="utf-8")
    recipe = make_recipe(train=BRIEF, score={"both_prompts": True, "general": str(texts), "general_limit": 2})
    made = ok("run", recipe, "--run", tmp_path / "run", "--json").json["retained"]
    assert made["token_loss"]["n"] == made["kl"]["general"]["n"] == 2
    assert made["kl"]["skill"]["n"] == 9
    assert made["kl"]["skill"]["point"] > 0
    assert (made["prompt"], made["other_prompt"]["prompt"]) == ("few-shot", "contest")
    assert made["other_prompt"]["base"]["n"] == made["base"]["n"] == 36
    assert made["other_prompt"]["contest_metric"]["tuned"]["n"] == 12
    report = (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    assert "squad-v1.1, contest prompt, tuned" in report and "KL from the base on general text" in report
    assert ok("verify", tmp_path / "run").out.rstrip().endswith("all of it follows")
