"""A Ray cluster of two nodes chooses, byte for byte, what one process chooses. Runs where Ray is installed."""

import random
from pathlib import Path

import pytest
import tiny
from corpus import SKILL, WRONG, recipe, rows, write

from keeptune.data.preparation import prepare
from keeptune.data.workers import Cluster, Staffing, workers
from keeptune.errors import DataError
from keeptune.prompts.token_count import TokenCounter

pytest.importorskip("ray", reason="Ray is not installed (pip install 'keeptune[cluster]')")
COUNTER = TokenCounter.of(tiny.tokenizer(), tiny.PROMPT)
"""It is sent to the nodes, which cannot import what stands in a test."""

pytestmark = pytest.mark.filterwarnings("ignore")


def test_two_nodes_choose_what_one_process_does(ray_address: str, tmp_path: Path) -> None:
    pairs = [*rows(400), WRONG, ("What?", "Nothing.")]
    random.Random(1).shuffle(pairs)
    files = [write(tmp_path / f"{start}.jsonl", pairs[start : start + 60]) for start in range(0, 402, 60)]
    job = recipe(files=files, quota={"default": 30}, reject_limit=0.1)
    for name, staffing in (("one", Staffing(1)), ("two", Staffing(2)), ("cluster", Staffing(cluster=ray_address))):
        prepare(job, SKILL, COUNTER, tmp_path / name, staffing)
    for name in ("card.json", "rejected.jsonl", "train.parquet", "dev.parquet", "test.parquet"):
        expected = (tmp_path / "one" / name).read_bytes()
        assert (tmp_path / "two" / name).read_bytes() == expected
        assert (tmp_path / "cluster" / name).read_bytes() == expected


def test_the_cluster_has_two_workers_and_keeps_the_errors(ray_address: str, tmp_path: Path) -> None:
    with workers(0, Staffing(cluster=ray_address)) as staff:
        assert isinstance(staff, Cluster)
        assert staff.count == 2
    with pytest.raises(DataError, match="wrong answer"):
        prepare(recipe(files=[write(tmp_path / "a", [*rows(50), WRONG])]), SKILL, COUNTER, tmp_path / "out",
                Staffing(cluster=ray_address))  # fmt: skip
