"""The data stage on the contest's corpus: seconds and memory, compared with the way the contest's teams did it.

    python bench/data.py [--json] [--times 10]

keeptune reads 809,993 rows, drops duplicates, recognizes every row and verifies it against its exact value. It selects
40,000 rows of 14 kinds, writes and verifies their long-hand solutions, counts tokens and writes Parquet. The plain way
reads the rows into lists, drops duplicates, recognizes, samples, tokenizes row by row and writes JSON. It verifies
nothing and writes no solutions. `--times 10` repeats the measurement of keeptune with a tenfold corpus.

Each way runs in separate processes. Memory is the largest sum of their proportional set sizes, sampled four times per
second.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

# What brings torch is imported where it is used: the processes of the data stage import this file.
ROWS = 809_993
RECIPE = {
    "exclude": ["english"],
    "quota": {"default": 3_316},  # 12 kinds of 3,316, mass (100) and fraction (45) whole: about 40,000
    "max_tokens": 4096,
    "split": {"dev": 200, "test": 1000},
}

OPENINGS = {
    "equation": r"解方程",
    "mean": r"求以下数据",
    "function": r"当 x",
    "area": r"一个长方形",
    "mass": r"某物体",
    "discount": r"商品原价",
    "sales": r"去年销售额",
    "fraction": r"将分数",
    "sqrt": r"计算.*平方根",
    "power": r"计算.*次方",
    "add": r"计算 \S+ \+ ",
    "sub": r"计算 \S+ - ",
    "mul": r"计算 \S+ \* ",
    "div": r"计算 \S+ / ",
}


def keeptune_way(corpus: Path, out: Path) -> dict[str, Any]:
    """The whole data stage, into `out`."""
    from transformers import AutoTokenizer

    from keeptune.config.recipe import parse
    from keeptune.data.preparation import prepare
    from keeptune.models.load import resolve
    from keeptune.prompts.template import Prompt
    from keeptune.prompts.token_count import TokenCounter
    from keeptune.skills.registry import skill_for_section

    recipe = parse({"data": {"files": [str(corpus)], **RECIPE}}, "bench/data.py")
    tokenizer = AutoTokenizer.from_pretrained(resolve(recipe.model.name))
    counter = TokenCounter.of(tokenizer, Prompt(recipe.prompt.template))
    started = time.perf_counter()
    card = prepare(recipe, skill_for_section(recipe.data), counter, out)
    seconds = time.perf_counter() - started
    chosen = sum(kind.chosen for kind in card.kinds.values())
    return {"rows": card.rows_read, "unique": card.unique, "chosen": chosen, "seconds": seconds}


def plain_way(corpus: Path, out: Path) -> dict[str, Any]:
    """Lists, sets and a loop, as in the notebooks."""
    from transformers import AutoTokenizer

    from keeptune.models.load import resolve

    tokenizer = AutoTokenizer.from_pretrained(resolve("smollm2-135m"))
    started = time.perf_counter()
    rows = [json.loads(line) for line in corpus.read_text(encoding="utf-8").splitlines()]
    unique = list({(row["problem"], row["solution"]): row for row in rows}.values())
    by_kind: dict[str, list[dict[str, str]]] = {kind: [] for kind in OPENINGS}
    for row in unique:
        for kind, opening in OPENINGS.items():
            if re.match(opening, row["problem"]):
                by_kind[kind].append(row)
                break
    generator, chosen = random.Random(0), []
    for found in by_kind.values():
        chosen += generator.sample(found, min(RECIPE["quota"]["default"], len(found)))  # type: ignore[index]
    for row in chosen:
        row["tokens"] = len(tokenizer(f"{row['problem']}\n{row['solution']}").input_ids)  # type: ignore[assignment]
    out.mkdir()
    (out / "train.json").write_text(json.dumps(chosen, ensure_ascii=False), encoding="utf-8")
    seconds = time.perf_counter() - started
    return {"rows": len(rows), "unique": len(unique), "chosen": len(chosen), "seconds": seconds}


def measured(way: str, corpus: Path, out: Path) -> dict[str, Any]:
    """The figures that a way reports from a separate process, and the memory of that process and its children."""
    import psutil

    command = [sys.executable, __file__, "--way", way, "--corpus", str(corpus), "--out", str(out)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    peak = 0

    def watch() -> None:
        nonlocal peak
        while child.poll() is None:
            with suppress(psutil.NoSuchProcess):
                peak = max(peak, _memory(psutil.Process(child.pid)))
            time.sleep(0.25)

    watcher = threading.Thread(target=watch)
    watcher.start()
    printed, _ = child.communicate()
    watcher.join()
    if child.returncode:
        raise SystemExit(f"{way} failed; run: {' '.join(command)}")
    return {**json.loads(printed), "peak_memory_bytes": peak}


def _memory(process: Any) -> int:
    """The proportional set size of a process and its children, as the kernel adds it up: cheaper than each page."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            rollup = Path(f"/proc/{one.pid}/smaps_rollup").read_text(encoding="ascii")
        except OSError:  # it has just ended
            continue
        total += int(rollup.partition("Pss:")[2].split()[0]) * 1024 if "Pss:" in rollup else 0
    return total


def main() -> None:
    """Measures both ways side by side; with --times also the larger corpus."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--times", type=int, default=1, help="also a corpus so many times as large")
    parser.add_argument("--way", choices=["keeptune", "plain"], help=argparse.SUPPRESS)
    parser.add_argument("--corpus", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps({"keeptune": keeptune_way, "plain": plain_way}[options.way](options.corpus, options.out)))
        return
    from common import write_result

    with tempfile.TemporaryDirectory() as folder:
        figures = compare(Path(folder), options.times)
    write_result("data", figures)
    print(json.dumps(figures, indent=1) if options.json else text(figures))


def compare(folder: Path, times: int) -> dict[str, Any]:
    """The figures of both ways, and of keeptune on the larger corpus."""
    corpus = _corpus(folder / "corpus.jsonl", ROWS)
    own, plain = measured("keeptune", corpus, folder / "own"), measured("plain", corpus, folder / "plain")
    figures = {**own, "plain": plain, "ratio": plain["seconds"] / own["seconds"]}
    if times > 1:
        large = measured("keeptune", _corpus(folder / "large.jsonl", ROWS * times), folder / "own-large")
        figures["large"] = {
            **large,
            "seconds_ratio": large["seconds"] / own["seconds"],
            "memory_ratio": large["peak_memory_bytes"] / own["peak_memory_bytes"],
        }
    return figures


def _corpus(path: Path, rows: int) -> Path:
    subprocess.run(
        [sys.executable, "-m", "keeptune", "synth", "--rows", str(rows), "--out", str(path)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return path


def text(figures: dict[str, Any]) -> str:
    """The figures for people to read."""
    shown = [("keeptune", figures), ("plain", figures["plain"])]
    if "large" in figures:
        shown.append(("larger corpus", figures["large"]))
    return "\n".join(
        f"{name:14} {own['rows']:>10,} rows  {own['unique']:>10,} unique  {own['chosen']:>7,} chosen  "
        f"{own['seconds']:6.1f} s  {own['peak_memory_bytes'] / 1e6:6,.0f} MB"
        for name, own in shown
    )


if __name__ == "__main__":
    main()
