"""MindRecord: 90,000 rows of 257 token ids and 257 labels, written and read, on two cores.

    python bench/mindrecord.py [--json] [--mindspore PYTHON]

Goals: at most 6 s to write and 10 s to read. `--mindspore` names a Python that has mindspore (`make setup-mindspore`).
Its FileWriter and MindDataset then write and read the same rows, and the output says whether both files are equal. The
processor time is measured beside the wall time, because the machine may have other load.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROWS, LENGTH, CORES = 90_000, 257, 2
FIELDS = ("input_ids", "labels")
GOALS_SECONDS = {"write": 6, "read": 10}
_ROWS_AT_ONCE = 1_000
_PADDING, _PROMPT_TOKENS, _LONGEST = 128_002, 55, 220


def batches() -> Iterator[np.ndarray[Any, np.dtype[np.int32]]]:
    """Rows like the contest's: a prompt that is not learned, an answer that is, and padding."""
    draw = np.random.default_rng(0)
    places = np.arange(LENGTH)
    for _ in range(0, ROWS, _ROWS_AT_ONCE):
        batch = np.empty((_ROWS_AT_ONCE, len(FIELDS), LENGTH), np.int32)
        ends = draw.integers(_PROMPT_TOKENS + 5, _LONGEST, (_ROWS_AT_ONCE, 1))
        tokens = draw.integers(0, 128_000, (_ROWS_AT_ONCE, LENGTH))
        batch[:, 0] = np.where(places < ends, tokens, _PADDING)
        batch[:, 1] = np.where((places >= _PROMPT_TOKENS) & (places < ends), tokens, -100)
        yield batch


def keeptune_way(folder: Path) -> dict[str, Any]:
    """Writes the rows and reads them all."""
    from keeptune.mindspore import record
    from keeptune.mindspore.record_reader import read_rows

    rows, path = list(batches()), folder / "x.mindrecord"
    written = timed(lambda: record.write(path, FIELDS, rows, "qa"))
    return {"write": written, "read": timed(lambda: exhausted(read_rows(path, FIELDS)))}


def mindspore_way(folder: Path) -> dict[str, Any]:
    """The same with mindspore, in batches, which is its fastest way."""
    import mindspore
    from mindspore.dataset import MindDataset
    from mindspore.mindrecord import FileWriter

    rows, path = list(batches()), str(folder / "x.mindrecord")

    def write() -> None:
        writer = FileWriter(file_name=path, shard_num=1)
        writer.add_schema({name: {"type": "int32", "shape": [-1]} for name in FIELDS}, "qa")
        for batch in rows:
            writer.write_raw_data([dict(zip(FIELDS, row, strict=True)) for row in batch])
        writer.commit()

    def read() -> None:
        data = MindDataset(path, columns_list=list(FIELDS), shuffle=False, num_parallel_workers=CORES)
        exhausted(data.create_tuple_iterator(num_epochs=1, output_numpy=True))

    return {"write": timed(write), "read": timed(read), "mindspore": mindspore.__version__}


def exhausted(rows: Iterable[Any]) -> None:
    """Takes every row. errors: AssertionError unless there are as many as were written."""
    assert sum(1 for _ in rows) == ROWS


def timed(work: Callable[[], Any]) -> dict[str, float]:
    """The seconds on the clock and of the processor that something takes."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return {
        "seconds": round(time.perf_counter() - clock, 2),
        "processor_seconds": round(time.process_time() - processor, 2),
    }


def measured(way: str, python: str, folder: Path) -> dict[str, Any]:
    """The figures that a way reports from a separate process."""
    folder.mkdir()
    command = [python, __file__, "--way", way, "--out", str(folder)]
    environment = {**os.environ, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def text(figures: dict[str, Any]) -> str:
    """The figures for people to read."""
    own = figures["provenance"]
    lines = [
        f"{figures['rows']:,} rows of 2 × {figures['values_a_row']} integers, {figures['bytes'] / 1e6:.1f} MB; "
        f"keeptune {own['keeptune']}, Python {own['python']}, numpy {own['packages']['numpy']}, "
        f"mindspore {figures.get('mindspore', {}).get('mindspore', 'not measured')}; load {figures['load']:.1f}",
        f"{'':18} {'on the clock':>13} {'processor':>11} {'goal':>6}",
    ]
    for way in ("keeptune", "mindspore"):
        for what, goal in GOALS_SECONDS.items():
            if way in figures:
                took = figures[way][what]
                lines.append(
                    f"{way:10} {what:7} {took['seconds']:11.2f} s {took['processor_seconds']:9.2f} s {goal:4} s"
                )
    if "same_bytes" in figures:
        lines.append(f"the files are {'the same' if figures['same_bytes'] else 'different'}, byte for byte")
    return "\n".join(lines)


def main() -> None:
    """Measures keeptune's way, and mindspore's where it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--mindspore", metavar="PYTHON", help="a Python that has mindspore")
    parser.add_argument("--way", choices=["keeptune", "mindspore"], help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
        print(json.dumps({"keeptune": keeptune_way, "mindspore": mindspore_way}[options.way](options.out)))
        return
    from common import RESULTS, write_result

    figures: dict[str, Any] = {"rows": ROWS, "values_a_row": LENGTH, "cores": CORES, "load": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as folder:
        own, other = Path(folder) / "keeptune", Path(folder) / "mindspore"
        figures["keeptune"] = measured("keeptune", sys.executable, own)
        figures["bytes"] = (own / "x.mindrecord").stat().st_size
        if options.mindspore:
            figures["mindspore"] = measured("mindspore", options.mindspore, other)
            figures["same_bytes"] = filecmp.cmp(own / "x.mindrecord", other / "x.mindrecord", shallow=False)
    write_result("mindrecord", figures)
    stored = json.loads((RESULTS / "mindrecord.json").read_text(encoding="utf-8"))
    print(json.dumps(stored, indent=1) if options.json else text(stored))


if __name__ == "__main__":
    main()
