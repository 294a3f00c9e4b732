"""Answers of exported GGUF files in llama.cpp: each number format, and the adapter added to its base.

    make setup-llamacpp
    KEEPTUNE_LLAMACPP_PYTHON=$PWD/.venv-llamacpp/bin/python python bench/llamacpp.py ADAPTER --problems 200

ADAPTER is a published adapter with its answers in `scores/skill.jsonl`. Its first problems whose answers have at most
`--longest` tokens are answered again: by keeptune in each number format of `--dtypes`, then by llama.cpp. For each
file, the output has its size, the number of answers that equal keeptune's in each format, the score, and the difference
from the stored answers to the same problems.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, get_args

from common import write_result

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from oracle_llamacpp.llamacpp import run_llamacpp

from keeptune.evaluation.skill_score import grade_fields, scores_of, stop_rule, summarize
from keeptune.evaluation.statistics import mcnemar
from keeptune.export.exporter import export
from keeptune.export.gguf.model_file import GgufType
from keeptune.files import Record, read_records
from keeptune.generation.engine import Generator
from keeptune.grading.number import parse_truth
from keeptune.models import adapter_metadata, adapters
from keeptune.models import load as models

Answers = dict[str, list[str]]
"""Answers of keeptune to the problems, by number format. `stored` are those of the run."""


def keeptune_answers(adapter: Path, records: list[Record], dtype: str, longest: int) -> list[str]:
    """Greedy answers of keeptune with the base in a number format."""
    card = adapter_metadata.load(adapter)
    tuned = adapters.load_adapter(models.load_model(card.model, dtype), adapter)
    adapters.set_scale(tuned, card.scale)
    generator = Generator(tuned, models.load_tokenizer(card.model))
    prompts = [card.prompt.encode(generator.tokenizer, record["problem"]) for record in records]
    answers = generator.answer(prompts, [2 * longest] * len(prompts), stop_rule(card.grader))
    return [answer.text for answer in answers]


def count_equal(outputs: list[str], answers: Answers) -> dict[str, int]:
    """How many outputs equal keeptune's, by number format."""
    return {name: sum(map(str.__eq__, outputs, expected)) for name, expected in answers.items()}


def measure(files: list[Path], records: list[Record], answers_of_keeptune: Answers, longest: int) -> dict[str, Any]:
    """The figures of a model file, or of a base with an adapter."""
    started = time.monotonic()
    prompts = [record["prompt"] for record in records]
    answers = run_llamacpp(*files, prompts=prompts, budgets=[2 * longest] * len(records), context=3 * longest)
    seconds = time.monotonic() - started
    graded = [
        {
            **record,
            "output": answer["text"],
            **grade_fields(answer["text"], parse_truth(record["truth"]), record["kind"], record["problem"], None),
            "stopped": answer["stopped"],
        }
        for record, answer in zip(records, answers["answers"], strict=True)
    ]
    before, after = scores_of(records) == 1, scores_of(graded) == 1
    summary = summarize(graded)
    return {
        "bytes": [file.stat().st_size for file in files],
        "equal": count_equal([one["output"] for one in graded], answers_of_keeptune),
        **{key: summary[key] for key in ("accuracy", "n", "ci95", "by_kind", "unstopped")},
        "lost": int((before & ~after).sum()),
        "gained": int((after & ~before).sum()),
        "mcnemar_p": mcnemar(before, after).p_value,
        "tokens_per_second": sum(len(answer["tokens"]) for answer in answers["answers"]) / seconds,
    }


def main() -> None:
    """Prints a line for each file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("adapter", type=Path)
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument("--longest", type=int, default=400, help="tokens of an answer")
    parser.add_argument("--types", nargs="+", choices=get_args(GgufType), default=list(get_args(GgufType)))
    parser.add_argument("--dtypes", nargs="*", default=["bfloat16", "float32"], help="number formats of keeptune")
    options = parser.parse_args()
    records = read_records(options.adapter / "scores" / "skill.jsonl")
    records = [record for record in records if record["output_tokens"] <= options.longest][: options.problems]
    keeptune = summarize(records)
    figures: dict[str, Any] = {"keeptune": {key: keeptune[key] for key in ("accuracy", "n", "ci95", "by_kind")}}
    print(f"{'keeptune':9} {keeptune['accuracy']:.1%} of {keeptune['n']}", flush=True)
    answers: Answers = {"stored": [record["output"] for record in records]}
    for dtype in options.dtypes:
        answers[dtype] = keeptune_answers(options.adapter, records, dtype, options.longest)
    figures["keeptune"]["equal"] = {name: count_equal(outputs, answers) for name, outputs in answers.items()}
    print(f"equal answers of keeptune: {figures['keeptune']['equal']}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        base = scratch / "base"
        export(adapter_metadata.load(options.adapter).model, "gguf", base)
        export(options.adapter, "gguf-lora", scratch / "lora")
        sources = {"base+lora": [base / "model.gguf", scratch / "lora" / "adapter.gguf"]}
        for gguf_type in options.types:
            export(options.adapter, "gguf", scratch / gguf_type, gguf_type)
            sources[gguf_type] = [scratch / gguf_type / "model.gguf"]
        for name, files in sources.items():
            figures[name] = row = measure(files, records, answers, options.longest)
            print(
                f"{name:9} {row['accuracy']:.1%} of {row['n']}  equal {row['equal']}  lost {row['lost']}  gained "
                f"{row['gained']}  {sum(row['bytes']) / 1e6:.0f} MB  {row['tokens_per_second']:.0f} tokens/s",
                flush=True,
            )
    sizes = f"--problems {options.problems} --longest {options.longest} --types {' '.join(options.types)}"
    sizes += f" --dtypes {' '.join(options.dtypes)}"
    command = f"python bench/llamacpp.py {options.adapter} {sizes}"
    write_result("llamacpp", {"command": command, "files": figures})


if __name__ == "__main__":
    main()
