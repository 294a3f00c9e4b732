"""Filters, search, pages and summaries of answers, against figures that the run itself and the report computed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from report.conftest import HOSTILE, SAMPLES
from serving.studio.client import Client, client_of
from serving.studio.conftest import OTHER, RUN

from keeptune.report.finished_run import ability_records
from keeptune.report.items import compare
from keeptune.serving.studio import pairs as pairs_module


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def everything(client: Client, limit: int = 100, **query: Any) -> list[dict[str, Any]]:
    """The items of all pages."""
    items: list[dict[str, Any]] = []
    while True:
        page = client.get("/api/answers", run=RUN, offset=len(items), limit=limit, **query)
        items += page["items"]
        if len(items) == page["total"]:
            return items
        assert page["items"]


def test_summary_has_the_skill_of_the_result(studio: Client, written: Path) -> None:
    sources = {entry["source"]: entry for entry in studio.get("/api/answers/summary", run=RUN)["sources"]}
    skill = json.loads((written / RUN / "result.json").read_text(encoding="utf-8"))["skill"]
    assert sources["skill"]["score"]["before"] == pytest.approx(skill["base"]["accuracy"])
    assert sources["skill"]["score"]["after"] == pytest.approx(skill["tuned"]["accuracy"])
    assert sources["skill"]["kinds"] == {kind: share["n"] for kind, share in skill["tuned"]["by_kind"].items()}


@pytest.mark.parametrize("ability", ["grammar", "knowledge", "instructions", "chat", "reading-en"])
def test_lost_and_gained_are_those_of_the_report(studio: Client, written: Path, ability: str) -> None:
    records = ability_records(written / RUN, ability)
    assert records
    expected = next(comparison for comparison in compare(*records) if not comparison.is_loss)
    lost, gained = (len(everything(studio, source=ability, outcome=outcome)) for outcome in ("lost", "gained"))
    assert (lost, gained) == (expected.lost_count, expected.gained_count)


def test_pages_hold_each_item_once(studio: Client) -> None:
    keys = [(item["source"], item["id"]) for item in everything(studio, limit=7)]
    assert len(set(keys)) == len(keys)
    total = sum(entry["n"] for entry in studio.get("/api/answers/summary", run=RUN)["sources"])
    assert len(keys) == total


def test_kind_and_outcome_select_together(studio: Client) -> None:
    items = everything(studio, source="skill", kind="equation", outcome="wrong")
    wrong = {sample.problem for sample in SAMPLES if sample.kind == "equation"} - {"解方程 -39x + 20 = 0"}
    assert {item["turns"][0]["content"] for item in items} == wrong
    flipped = everything(studio, source="skill", outcome="lost")
    assert [item["turns"][0]["content"] for item in flipped] == ["解方程 3x + 3 = 0"]


def test_search_needs_all_words_in_any_case(studio: Client) -> None:
    found = everything(studio, text="MILL opened who")
    assert [item["turns"][0]["content"] for item in found] == ["Who opened the mill?"]
    assert everything(studio, text="mill nowhere-to-be-found") == []


def test_longest_answers_come_first(studio: Client) -> None:
    lengths = [
        max(len(item["before"]["output"]), len(item["after"]["output"])) for item in everything(studio, order="longest")
    ]
    assert lengths == sorted(lengths, reverse=True)


def test_control_characters_are_escaped(folder: Path) -> None:
    path = folder / RUN / "scores" / "skill-tuned.jsonl"
    records = lines(path)
    records[0]["output"] = "a\u202eb\x1b[31m\tc\n"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    with client_of(folder) as client:
        item = client.get("/api/answers", run=RUN, source="skill")["items"][0]
    assert item["after"]["output"] == "a\\u202eb\\x1b[31m\tc\n"


def test_markup_is_passed_on_as_text(studio: Client) -> None:
    outputs = {item["after"]["output"] for item in everything(studio, source="skill")}
    assert HOSTILE in outputs
    response = studio.http.get("/api/answers", params={"run": RUN})
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("query", "name"),
    [({"outcome": "flipped"}, "outcome"), ({"limit": 0}, "limit"), ({"offset": -1}, "offset"), ({"x": 1}, "x")],
)
def test_wrong_queries_are_named(studio: Client, query: dict[str, Any], name: str) -> None:
    assert studio.refused("/api/answers", 400, run=RUN, **query).startswith(f"{name}: ")


def test_comparison_pairs_the_tuned_models_of_two_runs(folder: Path) -> None:
    path = folder / OTHER / "scores" / "skill-tuned.jsonl"
    records = lines(path)
    changed = next(record for record in records if record["verdicts"]["2d4s"])
    changed["verdicts"]["2d4s"] = False
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    with client_of(folder) as client:
        lost = client.get("/api/comparison", first=RUN, second=OTHER, outcome="lost")
        assert [item["id"] for item in lost["items"]] == [changed["id"]]
        gained = client.get("/api/comparison", first=OTHER, second=RUN, outcome="gained")
        assert [item["id"] for item in gained["items"]] == [changed["id"]]
        skill = client.get("/api/comparison/summary", first=RUN, second=OTHER)["sources"][0]
        assert (skill["n"], skill["lost"], skill["gained"]) == (len(records), 1, 0)


def test_an_item_with_another_question_is_not_compared(folder: Path) -> None:
    path = folder / OTHER / "scores" / "skill-tuned.jsonl"
    records = lines(path)
    records[0]["problem"] = "another problem"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    with client_of(folder) as client:
        total = client.get("/api/comparison", first=RUN, second=OTHER, source="skill")["total"]
    assert total == len(records) - 1


def test_a_damaged_line_is_named(folder: Path) -> None:
    path = folder / RUN / "scores" / "skill-tuned.jsonl"
    path.write_text(path.read_text(encoding="utf-8") + "{}\n", encoding="utf-8")
    with client_of(folder) as client:
        assert f"skill-tuned.jsonl:{len(SAMPLES) + 1}" in client.refused("/api/answers", 422, run=RUN)


def test_many_records_are_read_once_until_they_change(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, count = folder / RUN / "scores", 10_000
    for variant in ("base", "tuned"):
        path = scores / f"skill-{variant}.jsonl"
        record = lines(path)[0]
        many = (json.dumps({**record, "id": str(number), "output": f"answer {number}"}) for number in range(count))
        path.write_text("".join(f"{line}\n" for line in many), encoding="utf-8")
    reads: list[Path] = []
    read = pairs_module.read_records
    monkeypatch.setattr(pairs_module, "read_records", lambda path, schema: reads.append(path) or read(path, schema))
    with client_of(folder) as client:
        assert client.get("/api/answers", run=RUN, source="skill")["total"] == count
        first = len(reads)
        found = client.get("/api/answers", run=RUN, text="answer 9999", offset=0)
        assert [item["id"] for item in found["items"]] == ["9999"]
        assert client.get("/api/answers", run=RUN, source="skill", offset=9_990)["items"][-1]["id"] == "9999"
        assert len(reads) == first
        with (scores / "skill-tuned.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({**record, "id": "new"}) + "\n")
        client.get("/api/answers", run=RUN)
        assert len(reads) > first
