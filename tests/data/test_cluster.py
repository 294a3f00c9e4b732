"""A Ray cluster of two nodes writes the same bytes as one process. The tests need Ray."""

import random
from pathlib import Path

import pytest
import tiny
from corpus import SKILL, WRONG, recipe, rows, write

from keeptune.data.preparation import prepare
from keeptune.data.workers import RayExecutor, WorkerConfig, open_executor
from keeptune.errors import DataError, RecipeError
from keeptune.grading.graders.user_function import ALLOW_CODE
from keeptune.grading.registry import create_grader
from keeptune.prompts.token_count import TokenCounter
from keeptune.skills.graded_text import GradedText

pytest.importorskip("ray", reason="Ray is not installed (pip install 'keeptune[cluster]')")
COUNTER = TokenCounter.of(tiny.tokenizer(), tiny.PROMPT)
"""It is defined in the package, because the nodes cannot import functions from a test."""

pytestmark = pytest.mark.filterwarnings("ignore")


def test_two_nodes_write_the_same_bytes_as_one_process(ray_address: str, tmp_path: Path) -> None:
    pairs = [*rows(400), WRONG, ("What?", "Nothing.")]
    random.Random(1).shuffle(pairs)
    files = [write(tmp_path / f"{start}.jsonl", pairs[start : start + 60]) for start in range(0, 402, 60)]
    job = recipe(files=files, quota={"default": 30}, reject_limit=0.1)
    configs = {"one": WorkerConfig(1), "two": WorkerConfig(2), "cluster": WorkerConfig(cluster=ray_address)}
    for name, config in configs.items():
        prepare(job, SKILL, COUNTER, tmp_path / name, config)
    for name in ("card.json", "rejected.jsonl", "train.parquet", "dev.parquet", "test.parquet"):
        expected = (tmp_path / "one" / name).read_bytes()
        assert (tmp_path / "two" / name).read_bytes() == expected
        assert (tmp_path / "cluster" / name).read_bytes() == expected


def test_a_cluster_has_two_workers_and_preserves_errors(ray_address: str, tmp_path: Path) -> None:
    with open_executor(0, WorkerConfig(cluster=ray_address)) as executor:
        assert isinstance(executor, RayExecutor)
        assert executor.worker_count == 2
    with pytest.raises(DataError, match="wrong answer"):
        prepare(recipe(files=[write(tmp_path / "a", [*rows(50), WRONG])]), SKILL, COUNTER, tmp_path / "out",
                WorkerConfig(cluster=ray_address))  # fmt: skip


def test_a_function_of_the_user_runs_on_the_nodes_if_it_is_allowed(
    ray_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "mine.py"
    code.write_text("def score(output, truth):\n    return float(output == truth)\n", encoding="utf-8")
    grader = create_grader({"name": "function", "file": f"{code}:score"})
    file = write(tmp_path / "rows.jsonl", [(f"Who is {number}?", f"Number {number}.") for number in range(60)])
    job = recipe(files=[file], skill="text", grader=grader, styles={"default": "raw"})
    skill, cluster = GradedText(grader, {}), WorkerConfig(cluster=ray_address)
    monkeypatch.setenv(ALLOW_CODE, "1")
    assert prepare(job, skill, COUNTER, tmp_path / "allowed", cluster).rows_rejected == 0
    monkeypatch.setenv(ALLOW_CODE, "0")
    with pytest.raises(RecipeError, match="--allow-code"):
        prepare(job, skill, COUNTER, tmp_path / "refused", cluster)
