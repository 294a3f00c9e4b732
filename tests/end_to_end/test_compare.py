"""`keeptune compare`: differences are taken question by question, and other questions are refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from end_to_end.command import ok, refused


@pytest.fixture
def other(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, its answers in another order."""
    copied = Path(shutil.copytree(finished, tmp_path / "other", ignore=shutil.ignore_patterns("checkpoints")))
    change(copied / "scores" / "skill-tuned.jsonl", lambda records: records.reverse())
    return copied


def change(path: Path, how: Callable[[list[dict[str, Any]]], None]) -> int:
    """Edits all records of a file; how many there are."""
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    how(records)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return len(records)


def flip_first(records: list[dict[str, Any]]) -> None:
    verdicts = records[0]["verdicts"]
    verdicts["2d4s"] = not verdicts["2d4s"]


def test_a_run_does_not_differ_from_its_copy(finished: Path, other: Path) -> None:
    made = ok("compare", finished, other, "--json").json
    nothing = {"point": 0.0, "low95": 0.0, "high95": 0.0}
    assert made["runs"][1]["difference"] == {"skill": nothing, "f1": nothing, "em": nothing, "mcnemar_p": 1.0}
    assert [row["run"] for row in made["runs"]] == [str(finished), str(other)]
    assert (
        made["runs"][0]["skill"]["accuracy"]
        == json.loads((finished / "result.json").read_text())["skill"]["tuned"]["accuracy"]
    )


def test_one_question_counts_as_one(finished: Path, other: Path) -> None:
    questions = change(other / "scores" / "skill-tuned.jsonl", flip_first)
    difference = ok("compare", finished, other, "--json").json["runs"][1]["difference"]
    assert abs(difference["skill"]["point"]) == pytest.approx(100 / questions)
    assert difference["skill"]["low95"] <= difference["skill"]["point"] <= difference["skill"]["high95"]
    assert difference["mcnemar_p"] == 1.0


def test_other_questions_are_refused_unless_only_listed(finished: Path, other: Path) -> None:
    change(other / "scores" / "retained-tuned.jsonl", lambda records: records[0].update(question="Who?"))
    message = refused(2, "compare", finished, other)
    assert "scored on different reading questions" in message
    assert "--other-questions" in message
    listed = ok("compare", finished, other, "--other-questions").out
    assert "other questions" in listed


def test_the_table_names_each_run(finished: Path, other: Path) -> None:
    lines = ok("compare", finished, other).out.split("\n")
    assert lines[1].startswith(str(finished)[-24:])
    assert lines[2].startswith(str(other)[-24:])
    assert "McNemar p = 1" in lines[5]


def test_an_unfinished_run_says_what_is_missing(finished: Path, other: Path) -> None:
    (other / "result.json").unlink()
    assert "result.json: cannot be read" in refused(2, "compare", finished, other)


def test_runs_stand_among_the_published_results(finished: Path) -> None:
    lines = ok("compare", finished, "--leaderboard").out.split("\n")
    teams = [line for line in lines if line[:2] == "0."]
    assert len(teams) == 21
    assert teams == sorted(teams, reverse=True)
    assert sum("→" in line for line in teams) == 1


def test_the_page_shows_every_run_and_every_kind(finished: Path, other: Path, tmp_path: Path) -> None:
    change(other / "scores" / "skill-tuned.jsonl", flip_first)
    made = ok("compare", finished, other, "--out", tmp_path / "page.html", "--json").json
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    for number, row in enumerate(made["runs"], start=1):
        assert page.count(f"{number} {row['run']}") == number  # the second stands among the differences, too
    for kind in made["runs"][0]["skill"]["by_kind"]:
        assert f'<th scope="row">{kind}</th>' in page
    assert f"{made['runs'][1]['difference']['skill']['point']:+.1f} (" in page
    assert page.count('"row">→ ') == len(made["runs"])
