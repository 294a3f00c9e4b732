"""The whole data stage: every row is counted, bad input is reported with its place, and a failed run leaves no card."""

import hashlib
import json
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from corpus import SKILL, WRONG, characters, recipe, rows, write

from keeptune.config.recipe import Recipe
from keeptune.data import card as data_card
from keeptune.data.preparation import load_prepared_rows, prepare
from keeptune.data.workers import WorkerConfig
from keeptune.errors import DataError, RecipeError, RunError

SHARED = Path(os.environ.get("KEEPTUNE_SHARED", Path(__file__).resolve().parents[2] / ".." / "shared" / "data"))
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="the public rows are not available")


def run(job: Recipe, directory: Path) -> dict[str, Any]:
    """Runs the data stage and returns the stored card."""
    card = prepare(job, SKILL, characters, directory)
    stored: dict[str, Any] = json.loads((directory / "card.json").read_text(encoding="utf-8"))
    assert stored["data_sha256"] == card.data_sha256
    return stored


def load_splits(directory: Path) -> dict[str, Any]:
    return {part: load_prepared_rows(directory / f"{part}.parquet") for part in ("train", "dev", "test")}


def test_every_row_is_counted(tmp_path: Path) -> None:
    good = rows(200)
    file = write(tmp_path / "a.jsonl", [*good, *good[:20], WRONG, ("What?", "Nothing.")])
    with (tmp_path / "a.jsonl").open("a", encoding="utf-8") as stream:
        stream.write("{broken\n")
    card = run(recipe(files=[file], reject_limit=0.1), tmp_path / "data")
    content = Path(file).read_bytes()
    assert card["files"] == [{"file": file, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}]
    assert (card["rows_read"], card["rows_kept"], card["rows_rejected"]) == (223, 220, 3)
    assert (card["unique"], card["duplicates"], card["conflicts"]) == (200, 20, 0)
    assert card["rejected_by_reason"] == {"malformed JSON": 1, "no known kind of problem": 1, "wrong answer": 1}
    assert sum(kind["rejected"] for kind in card["kinds"].values()) == 1
    assert list(card["kinds"]) == list(SKILL.kinds)
    parts = load_splits(tmp_path / "data")
    for part, examples in parts.items():
        assert card["splits"][part] == {"rows": len(examples), "tokens": sum(example.tokens for example in examples)}
        for kind, facts in card["kinds"].items():
            assert facts[part] == sum(example.kind == kind for example in examples)
    assert {part: len(examples) for part, examples in parts.items()} == {"train": 185, "dev": 5, "test": 10}
    assert {example.problem for examples in parts.values() for example in examples} == {problem for problem, _ in good}
    lines = (tmp_path / "data" / "rejected.jsonl").read_text(encoding="utf-8").splitlines()
    rejected = [json.loads(line) for line in lines]
    assert [(row["file"], row["line"]) for row in rejected] == [(file, 221), (file, 222), (file, 223)]
    assert rejected[0]["reason"].startswith("wrong answer: 4.00")
    assert rejected[0]["text"] == "\n".join(WRONG)
    assert rejected[2] == {"file": file, "line": 223, "reason": "malformed JSON", "text": "{broken", "length": 7}


def test_the_result_does_not_depend_on_the_order_of_files_and_rows(tmp_path: Path) -> None:
    pairs = rows(300)
    shuffled = random.Random(2).sample(pairs, k=300)
    one = recipe(files=[write(tmp_path / "a", pairs[:100]), write(tmp_path / "b", pairs[100:])], fraction=0.7)
    other = recipe(files=[write(tmp_path / "c", shuffled)], fraction=0.7)
    first, second = run(one, tmp_path / "1"), run(other, tmp_path / "2")
    assert first["data_sha256"] == second["data_sha256"]
    for part, examples in load_splits(tmp_path / "1").items():
        again = load_splits(tmp_path / "2")[part]
        assert [example.id for example in examples] == [example.id for example in again]
        assert [example.solution for example in examples] == [example.solution for example in again]
    third = run(one.model_copy(update={"seed": 1}), tmp_path / "3")
    assert third["data_sha256"] != first["data_sha256"]


def test_two_processes_write_the_same_bytes_as_one(tmp_path: Path) -> None:
    pairs = [*rows(300), WRONG, ("What?", "Nothing.")]
    files = [write(tmp_path / f"{start}.jsonl", pairs[start : start + 60]) for start in range(0, 302, 60)]
    job = recipe(files=files, quota={"default": 30}, reject_limit=0.1)
    cards = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        prepare(job, SKILL, characters, folder, WorkerConfig(processes))
        cards.append((folder / "card.json").read_text(encoding="utf-8"))
    assert cards[0] == cards[1]
    for name in ("rejected.jsonl", "train.parquet", "dev.parquet", "test.parquet"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "2").iterdir()) == [
        "card.json", "dev.parquet", "rejected.jsonl", "test.parquet", "train.parquet",
    ]  # fmt: skip


def test_a_slice_selects_copies_of_rows_outside_the_slice(tmp_path: Path) -> None:
    once = rows(50)
    slices = [{"rows": [1, 50], "take": 10}, {"rows": [51, 100], "take": 40}]
    job = recipe(files=[write(tmp_path / "a", [*once, *once])], slices=slices)
    card = run(job, tmp_path / "data")
    assert (card["rows_kept"], card["unique"]) == (100, 50)
    assert sum(kind["chosen"] for kind in card["kinds"].values()) == 50


def test_a_rare_kind_is_repeated_in_train_only(tmp_path: Path) -> None:
    rare = [SKILL.generate("mass", random.Random(seed)) for seed in range(12)]
    file = write(tmp_path / "a", [*rows(200), *rare])
    unique = len({problem for problem, _ in rare})
    job = recipe(files=[file], quota={"mass": 4 * unique, "default": 20}, max_repeats=5)
    card = run(job, tmp_path / "data")
    parts = load_splits(tmp_path / "data")
    counts = Counter(example.problem for example in parts["train"] if example.kind == "mass")
    assert card["kinds"]["mass"]["unique"] == unique
    assert counts.total() == card["kinds"]["mass"]["train"] == min(4 * unique, 5 * len(counts))
    assert max(counts.values()) <= 5
    for part in ("dev", "test"):
        assert max(Counter(example.problem for example in parts[part]).values()) == 1
    assert not counts.keys() & {example.problem for part in ("dev", "test") for example in parts[part]}


def test_excluded_problems_are_not_trained_on(tmp_path: Path) -> None:
    pairs = rows(200)
    excluded_file = write(tmp_path / "test.jsonl", pairs[:30])
    card = run(recipe(files=[write(tmp_path / "a", pairs)], exclude_files=[excluded_file]), tmp_path / "data")
    trained = {example.problem for examples in load_splits(tmp_path / "data").values() for example in examples}
    assert not trained & {problem for problem, _ in pairs[:30]}
    assert sum(kind["unseen"] for kind in card["kinds"].values()) == 200 - len(trained) >= 30


def test_excluded_problems_without_answers_are_not_trained_on(tmp_path: Path) -> None:
    problems = [f"What is the name of river number {number} on that old map?" for number in range(20)]
    answered = [(problem, "\\boxed{7}") for problem in problems]
    excluded_file = write(tmp_path / "test.jsonl", [*rows(1), *((problem, "unknown") for problem in problems[:5])])
    job = recipe(files=[write(tmp_path / "a", [*rows(100), *answered])], exclude_files=[excluded_file], exclude=[])
    assert run(job, tmp_path / "data")["kinds"]["english"]["unseen"] >= 5
    trained = {example.problem for examples in load_splits(tmp_path / "data").values() for example in examples}
    assert not trained & set(problems[:5])


def test_too_many_rejected_rows_in_an_excluded_file_are_an_error(tmp_path: Path) -> None:
    excluded_file = write(tmp_path / "test.jsonl", rows(9))
    with (tmp_path / "test.jsonl").open("a", encoding="utf-8") as stream:
        stream.write("{broken\n")
    job = recipe(files=[write(tmp_path / "a", rows(50))], exclude_files=[excluded_file])
    with pytest.raises(DataError, match=r"test\.jsonl:10: malformed JSON"):
        prepare(job, SKILL, characters, tmp_path / "data")


def test_an_excluded_file_without_a_known_problem_is_an_error(tmp_path: Path) -> None:
    excluded_file = write(tmp_path / "test.jsonl", [("计算 5 的阶乘？", "120")])
    job = recipe(files=[write(tmp_path / "a", rows(50))], exclude_files=[excluded_file])
    with pytest.raises(DataError, match=r"test.jsonl: no row"):
        prepare(job, SKILL, characters, tmp_path / "data")


def test_external_test_problems_are_all_in_test_and_none_is_trained_on(tmp_path: Path) -> None:
    pairs = rows(200)
    english = ("What is $1+1$?", "It is $\\boxed{2}$.")
    test_file = write(tmp_path / "test.jsonl", [*pairs[:30], english, pairs[0]])
    job = recipe(files=[write(tmp_path / "a", pairs)], test_files=[test_file], split={"dev": 5, "test": 100})
    card = run(job, tmp_path / "data")
    parts = load_splits(tmp_path / "data")
    assert [(e.problem, e.solution) for e in parts["test"]] == [*pairs[:30], english]
    assert [e.line for e in parts["test"]] == list(range(1, 32))
    assert len(parts["dev"]) == 5
    assert not {e.problem for e in (*parts["train"], *parts["dev"])} & {problem for problem, _ in pairs[:30]}
    assert card["test_files"] == [
        {"file": test_file, "sha256": hashlib.sha256(Path(test_file).read_bytes()).hexdigest(), "bytes": 1}
        | {"bytes": Path(test_file).stat().st_size}
    ]
    assert card["kinds"]["english"]["test"] == 1
    assert card["splits"]["test"]["rows"] == 31
    assert sum(kind["chosen"] for kind in card["kinds"].values()) == len(parts["train"]) + 5
    assert (card["test_rejected"], sum(card["leaks"]["held_twins_by_kind"].values())) == (0, 0)


def test_rejected_rows_of_an_external_test_set_are_reported(tmp_path: Path) -> None:
    pairs = rows(60)
    test_file = write(tmp_path / "test.jsonl", [*pairs[:9], ("What?", "Nothing.")])
    job = recipe(files=[write(tmp_path / "a", pairs)], test_files=[test_file], reject_limit=0.05)
    with pytest.raises(DataError, match=r"test\.jsonl:10: no known kind"):
        prepare(job, SKILL, characters, tmp_path / "data")
    job = recipe(files=job.data.files, test_files=[test_file], reject_limit=0.1)
    assert run(job, tmp_path / "data")["test_rejected"] == 1


STORY = "{name} has {number} red apples and buys {more} more at the old market. How many apples has {name} now?"


@pytest.mark.parametrize("keep", [True, False])
def test_near_duplicates_are_in_one_split_or_are_dropped(tmp_path: Path, keep: bool) -> None:
    pairs = []
    for number in range(2, 62):
        for ending in ("", " Please say so."):
            problem = STORY.format(name="Ada", number=number, more=number * 3) + ending
            pairs.append((problem, f"It is $\\boxed{{{number * 4}}}$."))
    job = recipe(files=[write(tmp_path / "a", pairs)], near_duplicates="keep" if keep else "drop", near_threshold=0.7)
    card = run(job, tmp_path / "data")
    assert card["kinds"]["english"]["near_duplicates"] == 60
    assert card["kinds"]["english"]["chosen"] == (120 if keep else 60)
    splits_of: dict[str, set[str]] = {}
    for part, examples in load_splits(tmp_path / "data").items():
        for example in examples:
            splits_of.setdefault(example.problem.removesuffix(" Please say so."), set()).add(part)
    assert len(splits_of) == 60
    assert all(len(parts) == 1 for parts in splits_of.values())


def test_answers_that_the_grader_rejects_are_counted_and_summarized(tmp_path: Path) -> None:
    job = recipe(files=[write(tmp_path / "a", [*rows(200), WRONG])], rounding={"decimals": {"default": 0}})
    lines = data_card.summarize(prepare(job, SKILL, characters, tmp_path / "data"))
    assert "201 rows read" in lines[0]
    assert "1 × wrong answer" in lines[1]
    card = json.loads((tmp_path / "data" / "card.json").read_text(encoding="utf-8"))
    assert len(lines) == 2 + sum(facts["too_coarse"] > 0 for facts in card["kinds"].values())
    coarse = {kind: facts["too_coarse"] for kind, facts in card["kinds"].items() if facts["too_coarse"]}
    assert coarse.keys() <= {"add", "sub", "mul", "div", "power", "sqrt"}
    assert 20 < sum(coarse.values()) < 200


@pytest.mark.parametrize("spelling", ["plain", "grouped"])
def test_the_card_has_the_spelling_of_numbers(tmp_path: Path, spelling: str) -> None:
    job = recipe(files=[write(tmp_path / "a", rows(100))], styles={"default": "rule"}, spelling=spelling)
    lines = data_card.summarize(prepare(job, SKILL, characters, tmp_path / "data"))
    assert json.loads((tmp_path / "data" / "card.json").read_text(encoding="utf-8"))["spelling"] == spelling
    assert "100 rows read" in lines[0]
    assert ["grouped" in line for line in lines[1:]] == ([True] if spelling == "grouped" else [])
    solutions = [example.solution for examples in load_splits(tmp_path / "data").values() for example in examples]
    assert any("," in solution for solution in solutions) == (spelling == "grouped")


def test_wrong_rows_are_corrected_on_request(tmp_path: Path) -> None:
    file = write(tmp_path / "a", [*rows(100), WRONG])
    card = run(recipe(files=[file], wrong="correct", reject_limit=0), tmp_path / "data")
    assert card["rows_rejected"] == 0
    assert {kind: facts["corrected"] for kind, facts in card["kinds"].items() if facts["corrected"]} == {"add": 1}
    solutions = {e.problem: e.solution for examples in load_splits(tmp_path / "data").values() for e in examples}
    assert solutions[WRONG[0]] == "#### 3"


def test_of_two_solutions_the_correct_one_is_used(tmp_path: Path) -> None:
    twice = [(WRONG[0], "1.00 + 2.00 = 3.00"), WRONG]
    card = run(recipe(files=[write(tmp_path / "a", [*rows(100), *twice])], wrong="correct"), tmp_path / "data")
    assert card["conflicts"] == 1
    assert card["duplicates"] == 1
    assert not any(facts["corrected"] for facts in card["kinds"].values())


def test_excluded_kinds_are_counted_but_not_verified(tmp_path: Path) -> None:
    file = write(tmp_path / "a", [*rows(200), WRONG])
    card = run(recipe(files=[file], exclude=["add"], reject_limit=0), tmp_path / "data")
    assert card["kinds"]["add"]["chosen"] == 0
    assert card["kinds"]["add"]["unique"] > 10
    assert card["kinds"]["add"]["solution_tokens"] == {"median": 0, "max": 0}
    assert not any(
        example.kind == "add" for examples in load_splits(tmp_path / "data").values() for example in examples
    )


def test_problems_with_the_same_canonical_form_are_in_one_split(tmp_path: Path) -> None:
    pairs = [
        (f"一个长方形的长为 {a} 厘米，宽为 {b} 厘米，请计算其面积。", f"面积为 {a * b} 平方厘米")
        for a in range(1, 15)
        for b in range(1, 15)
    ]
    card = run(recipe(files=[write(tmp_path / "a", pairs)], split={"dev": 40, "test": 60}), tmp_path / "data")
    assert card["kinds"]["area"]["near_duplicates"] == 14 * 14 - 105
    splits_of: dict[frozenset[str], set[str]] = {}
    for part, examples in load_splits(tmp_path / "data").items():
        for example in examples:
            numbers = frozenset(text for text in example.problem.split() if text.isdigit())
            splits_of.setdefault(numbers, set()).add(part)
    assert len(splits_of) == 105
    assert all(len(parts) == 1 for parts in splits_of.values())


def test_a_split_by_range_leaves_no_neighbor_in_train(tmp_path: Path) -> None:
    pairs = [(f"解方程 {a}x + {b} = 0", f"方程的解为：{-b / a}") for a in range(1, 11) for b in range(100)]
    job = recipe(files=[write(tmp_path / "a", pairs)], split={"dev": 10, "test": 30, "by": "range"})
    card = run(job, tmp_path / "data")
    assert {part: facts["rows"] for part, facts in card["splits"].items()} == {"train": 940, "dev": 10, "test": 30}
    values = {
        part: {example.problem.split()[-3] for example in examples}
        for part, examples in load_splits(tmp_path / "data").items()
    }
    assert (len(values["train"]), len(values["dev"]), len(values["test"])) == (94, 2, 4)
    assert values["train"].isdisjoint(values["dev"] | values["test"])


def test_too_many_rejected_rows_stop_the_run_with_a_summary(tmp_path: Path) -> None:
    file = write(tmp_path / "a", [WRONG, *rows(50), WRONG, ("?", "?")])
    with pytest.raises(DataError) as caught:
        run(recipe(files=[file]), tmp_path / "data")
    message = str(caught.value)
    assert "3 of 53 rows" in message
    assert "data.reject_limit = 0.01" in message
    assert f"2 × wrong answer, first at {file}:1" in message
    assert f"1 × no known kind of problem, first at {file}:53" in message
    assert len((tmp_path / "data" / "rejected.jsonl").read_text(encoding="utf-8").splitlines()) == 3
    assert not (tmp_path / "data" / "card.json").exists()


def test_long_examples_are_dropped_before_the_split(tmp_path: Path) -> None:
    file = write(tmp_path / "a", rows(100))
    card = run(recipe(files=[file], max_tokens=36, too_long="drop"), tmp_path / "data")
    assert 0 < card["too_long_dropped"] < 80
    assert sum(part["rows"] for part in card["splits"].values()) == 100 - card["too_long_dropped"]
    assert (card["splits"]["dev"]["rows"], card["splits"]["test"]["rows"]) == (5, 10)


def test_a_synthetic_corpus_of_every_kind(tmp_path: Path) -> None:
    job = recipe(synth={"rows": 2000, "seed": 3}, styles={}, max_tokens=4000)
    card = run(job, tmp_path / "data")
    assert card["files"] == []
    assert (card["rows_read"], card["rows_rejected"]) == (2000, 0)
    assert card["leaks"]["retained_overlap"] == 0
    examples = [example for part in load_splits(tmp_path / "data").values() for example in part]
    assert {example.file for example in examples} == {"synth"}
    assert {example.kind for example in examples} == set(SKILL.kinds)
    assert all(example.solution.rpartition("\n")[2].startswith("#### ") for example in examples)


def test_overlap_with_the_reading_set_is_counted(tmp_path: Path) -> None:
    passage = "The river Ostra rises in a wood of old beeches and runs past nine mills before it meets the sea at Holm."
    answers = [{"text": "nine", "answer_start": passage.index("nine")}]
    paragraph = {"context": passage, "qas": [{"id": "1", "question": "How many mills?", "answers": answers}]}
    squad = tmp_path / "squad.json"
    squad.write_text(json.dumps({"data": [{"title": "Ostra", "paragraphs": [paragraph]}]}), encoding="utf-8")
    leaky = (f"{passage} How many mills is that, doubled?", "It is $\\boxed{18}$.")
    job = recipe(files=[write(tmp_path / "a", [*rows(100), leaky])])
    with_file = job.model_copy(update={"score": job.score.model_copy(update={"retained": str(squad)})})
    assert run(with_file, tmp_path / "1")["leaks"]["retained_overlap"] == 1
    assert run(job, tmp_path / "2")["leaks"]["retained_overlap"] == 0


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ({"kinds": ["ad"]}, RecipeError, "did you mean add"),
        ({"quota": {"add": 10_000}}, DataError, "add: 10000 requested, "),
        ({"kinds": ["mass"]}, DataError, "no problem is selected"),
        ({"split": {"dev": 50, "test": 50}}, DataError, "lower data.split"),
        ({"max_tokens": 30}, DataError, "data.max_tokens = 30"),
        ({"files": ["/absent/rows.jsonl"]}, DataError, "/absent/rows.jsonl: cannot be"),
    ],
)
def test_recipes_that_cannot_be_met(tmp_path: Path, data: dict[str, Any], error: type[Exception], message: str) -> None:
    file = write(tmp_path / "a", rows(100))
    with pytest.raises(error, match=message):
        run(recipe(**{"files": [file], **data}), tmp_path / "data")


def test_a_failed_attempt_leaves_no_card(tmp_path: Path) -> None:
    file = write(tmp_path / "a", rows(100))
    run(recipe(files=[file]), tmp_path / "data")
    with pytest.raises(DataError):
        run(recipe(files=[file], max_tokens=30), tmp_path / "data")
    assert not (tmp_path / "data" / "card.json").exists()


def test_a_folder_that_cannot_be_created_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way", encoding="utf-8")
    job = recipe(files=[write(tmp_path / "a", rows(100))])
    with pytest.raises(RunError, match="cannot be written"):
        run(job, tmp_path / "data")
    with pytest.raises(RunError, match="cannot be written"):
        run(job, tmp_path / "data" / "below")


def test_a_full_disk_is_an_error_and_leaves_no_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    job = recipe(files=[write(tmp_path / "a", rows(100))])
    monkeypatch.setattr("keeptune.data.preparation.pq.write_table", full)
    with pytest.raises(RunError, match=r"train\.parquet: cannot be"):
        run(job, tmp_path / "data")
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["rejected.jsonl"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_rejected_rows_that_cannot_be_written_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rejected.jsonl").symlink_to("/dev/full")
    with pytest.raises(RunError, match=r"rejected\.jsonl: cannot be"):
        run(recipe(files=[write(tmp_path / "a", [*rows(200), WRONG])]), tmp_path / "data")


def test_missing_or_invalid_files_of_prepared_rows_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("PAR1 not really", encoding="utf-8")
    for name in ("absent", "text"):
        with pytest.raises(RunError, match="run the data stage again"):
            load_prepared_rows(tmp_path / name)


@needs_shared
def test_real_conversations(tmp_path: Path) -> None:
    card = run(recipe(files=[str(SHARED / "contest" / "conversations.json")], split={}), tmp_path / "data")
    assert (card["rows_read"], card["rows_kept"], card["rows_rejected"]) == (7500, 7479, 21)
    assert card["rejected_by_reason"] == {"wrong step": 21}
    assert card["kinds"]["sales"]["rejected"] == 21
    assert (card["splits"]["dev"]["rows"], card["splits"]["test"]["rows"]) == (100, 300)


@needs_shared
def test_real_raw_rows(tmp_path: Path) -> None:
    file = str(SHARED / "contest" / "raw_sample.jsonl")
    card = run(recipe(files=[file], styles={"default": "raw"}, max_tokens=4000), tmp_path / "data")
    assert (card["rows_read"], card["rows_rejected"]) == (294, 0)
    lines = Path(file).read_text(encoding="utf-8").splitlines()
    stored = {row["problem"]: row["solution"] for row in map(json.loads, lines)}
    for examples in load_splits(tmp_path / "data").values():
        for example in examples:
            assert example.solution == stored[example.problem]
