"""Exported MindRecord rows of a run: nothing is truncated, and each skipped row is listed."""

import json
from pathlib import Path

import pytest
import tiny
import yaml
from end_to_end.command import keeptune, ok, refused

from keeptune.data.preparation import load_prepared_rows
from keeptune.grading.contest_reading import select_contest_items
from keeptune.grading.squad import load_reading_items
from keeptune.mindspore.record_reader import read_rows
from keeptune.mindspore.record_set import FIELDS, Layout, Row, SkippedRow, batches
from keeptune.mindspore.run_rows import IGNORED, padding_token, training_row
from keeptune.pipeline.run import Run
from keeptune.training.batches import TokenizedExample

PADDING = 9


def example(tokens: list[int], prompt: int) -> TokenizedExample:
    return TokenizedExample("rows.jsonl:1", "add", tuple(tokens), (False,) * prompt + (True,) * (len(tokens) - prompt))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Path:
    """A run after the data stage, with rows of 60 to about 500 tokens."""
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


def test_row_has_prompt_solution_and_padding() -> None:
    row = training_row(example([1, 2, 3, 4, 5], 3), 6, PADDING)
    assert isinstance(row, Row)
    [batch] = batches([row], Layout(7, (PADDING, IGNORED), "qa"))
    assert batch.tolist() == [[[1, 2, 3, 4, 5, 9, 9], [-100, -100, -100, 4, 5, -100, -100]]]


def test_many_rows_make_several_batches() -> None:
    rows = [Row("", [number, 1], [1]) for number in range(2, 700)]
    arrays = list(batches(rows, Layout(1024, (0, 0), "qa")))
    assert [len(batch) for batch in arrays] == [512, 186]
    assert [row[0][0] for batch in arrays for row in batch.tolist()] == list(range(2, 700))


@pytest.mark.parametrize(
    ("tokens", "prompt", "reason"),
    [
        (list(range(10, 18)), 3, "longer than seq_length 6 + 1"),
        ([1, 9, 2, 3], 3, "contains the padding token 9"),
        ([1, 2, 3], 3, "no token with loss"),
        ([1], 0, "no token with loss"),
        (list(range(10, 17)), 3, None),
        ([1, 2, 3], 0, None),
        ([1, 2, 9], 1, None),
    ],
)
def test_skipped_rows_have_a_reason(tokens: list[int], prompt: int, reason: str | None) -> None:
    row = training_row(example(tokens, prompt), 6, PADDING)
    assert isinstance(row, Row) if reason is None else row == SkippedRow("rows.jsonl:1", reason, len(tokens))


def test_padding_token() -> None:
    tokenizer = tiny.tokenizer()
    assert padding_token(tokenizer) == tokenizer.eos_token_id
    tokenizer.pad_token = None
    tokenizer.add_tokens(["<|reserved_special_token_0|>"])
    assert padding_token(tokenizer) == len(tokenizer) - 1


def test_export_lists_rows_that_are_too_long(run: Path, tmp_path: Path) -> None:
    rows = load_prepared_rows(run / "data" / "train.parquet")
    length = sorted(row.tokens for row in rows)[len(rows) // 2] - 1
    outcome = ok("export", run, "--to", "mindrecord", "--seq-length", length, "--out", tmp_path / "out")
    files = [f"train-{length}.mindrecord", f"train-{length}.mindrecord.db", "left_out.jsonl", "about.json"]
    assert outcome.out.split() == [str(tmp_path / "out" / name) for name in sorted(files)]
    long = [row for row in rows if row.tokens > length + 1]
    skipped = [json.loads(line) for line in (tmp_path / "out" / "left_out.jsonl").read_text().splitlines()]
    assert 0 < len(long) < len(rows)
    assert skipped == [
        {"row": f"{row.file}:{row.line}", "reason": f"longer than seq_length {length} + 1", "tokens": row.tokens}
        for row in long
    ]
    assert f"{len(rows) - len(long)} rows; {len(long)} skipped" in outcome.err
    assert f"the first is {skipped[0]['row']}" in outcome.err

    tokenizer, written = Run.open(run).context.models.tokenizer, [row for row in rows if row.tokens <= length + 1]
    exported = list(read_rows(tmp_path / "out" / files[0], FIELDS))
    assert len(exported) == len(written)
    for (tokens, labels), row in zip(exported, written, strict=True):
        assert len(tokens) == len(labels) == length + 1
        assert tokenizer.decode(labels[labels != IGNORED]) == row.solution + tiny.END
        text = Run.open(run).context.prompt.render(row.problem) + row.solution + tiny.END
        assert tokenizer.decode(tokens).startswith(text)
        assert set(tokens[row.tokens :].tolist()) <= {tokenizer.pad_token_id}
    about = json.loads((tmp_path / "out" / "about.json").read_text())
    assert (about["rows"], about["seq_length"], about["pad_token_id"]) == (len(written), length, tokenizer.pad_token_id)
    assert about["left_out"] == {f"longer than seq_length {length} + 1": len(long)}


def test_shards_hold_the_same_rows(run: Path, tmp_path: Path) -> None:
    arguments = ("export", run, "--to", "mindrecord", "--seq-length", 1000)
    ok(*arguments, "--out", tmp_path / "one")
    outcome = ok(*arguments, "--out", tmp_path / "three", "--shards", 3)
    assert "none skipped" in outcome.err
    one = [[values.tolist() for values in row] for row in read_rows(tmp_path / "one" / "train-1000.mindrecord", FIELDS)]
    three = [
        [values.tolist() for values in row] for row in read_rows(tmp_path / "three" / "train-1000.mindrecord0", FIELDS)
    ]
    assert three == one


def test_nothing_is_written_when_no_row_fits(run: Path, tmp_path: Path) -> None:
    arguments = ("export", run, "--to", "mindrecord", "--seq-length", 5, "--out", tmp_path / "out")
    assert "(longer than seq_length 5 + 1)" in refused(3, *arguments)
    assert not list(tmp_path.iterdir())
    assert "recipe.yaml" in refused(2, "export", tmp_path, "--to", "mindrecord", "--out", tmp_path / "out")
    assert keeptune(*arguments[:5], 0, *arguments[6:]).code == 2


def test_reading_questions_have_the_contest_layout(run: Path, tmp_path: Path) -> None:
    items, tokenizer = select_contest_items(load_reading_items("embedded")), Run.open(run).context.models.tokenizer
    lengths = sorted(len(tokenizer.encode(item.context + item.question)) for item in items)
    length = lengths[len(lengths) // 2] + 60
    arguments = ("export", run, "--to", "mindrecord-reading", "--seq-length", length)
    outcome = ok(*arguments, "--out", tmp_path / "out")
    skipped = [json.loads(line)["row"] for line in (tmp_path / "out" / "left_out.jsonl").read_text().splitlines()]
    assert 0 < len(skipped) < len(items)
    assert f"{len(skipped)} skipped" in outcome.err
    included = [item for item in items if item.question_id not in skipped]
    exported = list(read_rows(tmp_path / "out" / f"reading-{length}.mindrecord", FIELDS))
    assert len(exported) == len(included) == json.loads((tmp_path / "out" / "about.json").read_text())["rows"]
    for (tokens, labels), item in zip(exported, included, strict=True):
        assert len(tokens) == len(labels) == length
        texts = [tokenizer.decode(values[values != tokenizer.pad_token_id]) for values in (tokens, labels)]
        assert texts == [
            f"Read the passage and answer the question below.\n\n### Instruction:\n{item.context}\n\n### Input:\n"
            f"{item.question}\n\n### Response:",
            item.answers[0],
        ]
