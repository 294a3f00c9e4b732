"""The training rows of a run as MindFormers wants them: nothing cut, nothing lost without a name."""

import json
from pathlib import Path

import pytest
import tiny
import yaml
from end_to_end.command import keeptune, ok, refused

from keeptune.data.preparation import load_examples
from keeptune.grading.contest_reading import select_contest_items
from keeptune.grading.squad import load_reading_items
from keeptune.mindspore.record_reader import read
from keeptune.mindspore.record_set import FIELDS, Layout, LeftOut, Row, batches
from keeptune.mindspore.run_rows import IGNORED, padding_token, training_row
from keeptune.pipeline.run import Run
from keeptune.training.batches import Example

PADDING = 9


def example(tokens: list[int], prompt: int) -> Example:
    return Example("rows.jsonl:1", "add", tuple(tokens), (False,) * prompt + (True,) * (len(tokens) - prompt))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Path:
    """A run whose data stage alone is done, with rows from 60 to about 500 tokens."""
    folder = tmp_path_factory.mktemp("runs")
    recipe = {
        "name": "tiny",
        "model": {"name": str(model_folder), "dtype": "float32"},
        "data": {
            "synth": {"rows": 300},
            "kinds": ["add", "area", "mul"],
            "quota": {"default": 12},
            "max_tokens": 1000,
            "split": {"dev": 3, "test": 3},
        },
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    ok("data", folder / "recipe.yaml", "--run", folder / "run")
    return folder / "run"


def test_a_row_is_prompt_solution_and_padding() -> None:
    row = training_row(example([1, 2, 3, 4, 5], 3), 6, PADDING)
    assert isinstance(row, Row)
    [batch] = batches([row], Layout(7, (PADDING, IGNORED), "qa"))
    assert batch.tolist() == [[[1, 2, 3, 4, 5, 9, 9], [-100, -100, -100, 4, 5, -100, -100]]]


def test_many_rows_come_in_several_batches() -> None:
    rows = [Row("", [number, 1], [1]) for number in range(2, 700)]
    found = list(batches(rows, Layout(1024, (0, 0), "qa")))
    assert [len(batch) for batch in found] == [512, 186]
    assert [row[0][0] for batch in found for row in batch.tolist()] == list(range(2, 700))


@pytest.mark.parametrize(
    ("tokens", "prompt", "reason"),
    [
        (list(range(10, 18)), 3, "longer than seq_length 6 + 1"),
        ([1, 9, 2, 3], 3, "holds the padding token 9"),
        ([1, 2, 3], 3, "no token to learn"),
        ([1], 0, "no token to learn"),
        (list(range(10, 17)), 3, None),
        ([1, 2, 3], 0, None),
        ([1, 2, 9], 1, None),
    ],
)
def test_what_no_row_can_hold_is_named(tokens: list[int], prompt: int, reason: str | None) -> None:
    row = training_row(example(tokens, prompt), 6, PADDING)
    assert isinstance(row, Row) if reason is None else row == LeftOut("rows.jsonl:1", reason, len(tokens))


def test_the_padding_token_is_the_tokenizers_or_the_contests() -> None:
    words = tiny.tokenizer()
    assert padding_token(words) == words.eos_token_id
    words.pad_token = None
    words.add_tokens(["<|reserved_special_token_0|>"])
    assert padding_token(words) == len(words) - 1


def test_a_run_is_written_with_its_long_rows_named(run: Path, tmp_path: Path) -> None:
    rows = load_examples(run / "data" / "train.parquet")
    length = sorted(row.tokens for row in rows)[len(rows) // 2] - 1
    outcome = ok("export", run, "--to", "mindrecord", "--seq-length", length, "--out", tmp_path / "out")
    files = [f"train-{length}.mindrecord", f"train-{length}.mindrecord.db", "left_out.jsonl", "about.json"]
    assert outcome.out.split() == [str(tmp_path / "out" / name) for name in sorted(files)]
    long = [row for row in rows if row.tokens > length + 1]
    named = [json.loads(line) for line in (tmp_path / "out" / "left_out.jsonl").read_text().splitlines()]
    assert 0 < len(long) < len(rows)
    assert named == [
        {"row": f"{row.file}:{row.line}", "reason": f"longer than seq_length {length} + 1", "tokens": row.tokens}
        for row in long
    ]
    assert f"{len(rows) - len(long)} rows; {len(long)} left out, each named in left_out.jsonl:" in outcome.err
    assert f"the first is {named[0]['row']}" in outcome.err

    words, taught = Run.open(run).context.models.tokenizer, [row for row in rows if row.tokens <= length + 1]
    found = list(read(tmp_path / "out" / files[0], FIELDS))
    assert len(found) == len(taught)
    for (tokens, labels), row in zip(found, taught, strict=True):
        assert len(tokens) == len(labels) == length + 1
        assert words.decode(labels[labels != IGNORED]) == row.solution + tiny.END
        text = Run.open(run).context.prompt.render(row.problem) + row.solution + tiny.END
        assert words.decode(tokens).startswith(text)
        assert set(tokens[row.tokens :].tolist()) <= {words.pad_token_id}
    about = json.loads((tmp_path / "out" / "about.json").read_text())
    assert (about["rows"], about["seq_length"], about["pad_token_id"]) == (len(taught), length, words.pad_token_id)
    assert about["left_out"] == {f"longer than seq_length {length} + 1": len(long)}


def test_several_shards_hold_the_same_rows(run: Path, tmp_path: Path) -> None:
    arguments = ("export", run, "--to", "mindrecord", "--seq-length", 1000)
    ok(*arguments, "--out", tmp_path / "one")
    outcome = ok(*arguments, "--out", tmp_path / "three", "--shards", 3)
    assert "none left out" in outcome.err
    one = [[values.tolist() for values in row] for row in read(tmp_path / "one" / "train-1000.mindrecord", FIELDS)]
    three = [[values.tolist() for values in row] for row in read(tmp_path / "three" / "train-1000.mindrecord0", FIELDS)]
    assert three == one


def test_nothing_is_left_behind_when_no_row_fits(run: Path, tmp_path: Path) -> None:
    arguments = ("export", run, "--to", "mindrecord", "--seq-length", 5, "--out", tmp_path / "out")
    assert "rows can be written (longer than seq_length 5 + 1); raise --seq-length" in refused(3, *arguments)
    assert not list(tmp_path.iterdir())
    assert "no recipe.yaml there" in refused(2, "export", tmp_path, "--to", "mindrecord", "--out", tmp_path / "out")
    assert keeptune(*arguments[:5], 0, *arguments[6:]).code == 2


def test_reading_questions_are_asked_as_in_the_contest(run: Path, tmp_path: Path) -> None:
    items, words = select_contest_items(load_reading_items("embedded")), Run.open(run).context.models.tokenizer
    lengths = sorted(len(words.encode(item.context + item.question)) for item in items)
    length = lengths[len(lengths) // 2] + 60
    arguments = ("export", run, "--to", "mindrecord-reading", "--seq-length", length)
    outcome = ok(*arguments, "--out", tmp_path / "out")
    named = [json.loads(line)["row"] for line in (tmp_path / "out" / "left_out.jsonl").read_text().splitlines()]
    assert 0 < len(named) < len(items)
    assert f"{len(named)} left out" in outcome.err
    asked = [item for item in items if item.question_id not in named]
    found = list(read(tmp_path / "out" / f"reading-{length}.mindrecord", FIELDS))
    assert len(found) == len(asked) == json.loads((tmp_path / "out" / "about.json").read_text())["rows"]
    for (tokens, labels), item in zip(found, asked, strict=True):
        assert len(tokens) == len(labels) == length
        kept = [words.decode(values[values != words.pad_token_id]) for values in (tokens, labels)]
        assert kept == [
            f"Read the passage and answer the question below.\n\n### Instruction:\n{item.context}\n\n### Input:\n"
            f"{item.question}\n\n### Response:",
            item.answers[0],
        ]
