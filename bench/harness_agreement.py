"""Whether our likelihood scoring chooses what lm-evaluation-harness chooses, on BLiMP and HellaSwag samples.

    python bench/harness_agreement.py --data FOLDER [--every 2]

Both score the same weights, with an adapter off and on. The harness computes log-likelihoods through its own HFLM, one
option at a time; keeptune computes all options of an item in one row. Compared are the choices (BLiMP by the sum,
HellaSwag by the sum per character, as `acc_norm`) and the accuracies; in float32, where both are to agree, and in the
model's own bfloat16, where two orders of summation round differently and near ties fall to either side.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from common import write_result
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from keeptune.evaluation.abilities.multiple_choice import most_likely
from keeptune.evaluation.continuation_likelihood import encode_options, log_likelihoods
from keeptune.evaluation.model_pair import VARIANTS, open_pair
from keeptune.generation.engine import Generator

Item = tuple[str, list[str], int]
"""Context, options with what separates them from it, and the index of the right one."""


def blimp(folder: Path) -> list[Item]:
    """Minimal pairs; the good sentence is the first option."""
    rows = map(json.loads, (folder / "blimp_sample.jsonl").read_text(encoding="utf-8").splitlines())
    return [("", [row["good"], row["bad"]], 0) for row in rows]


def hellaswag(folder: Path) -> list[Item]:
    """Contexts with four endings."""
    rows = map(json.loads, (folder / "hellaswag_sample.jsonl").read_text(encoding="utf-8").splitlines())
    return [(row["context"], [f" {ending}" for ending in row["endings"]], row["label"]) for row in rows]


def chosen(items: list[Item], values: list[list[float | None]], by_character: bool) -> list[int | None]:
    """The option that each item's values choose."""
    lengths = [[len(option.lstrip()) if by_character else 1 for option in options] for _, options, _ in items]
    return [most_likely(own, size) for own, size in zip(values, lengths, strict=True)]


def ours(generator: Generator, items: list[Item]) -> list[list[float | None]]:
    """keeptune's log-likelihoods."""
    return log_likelihoods(
        generator, [encode_options(generator.tokenizer, context, options, False) for context, options, _ in items]
    )


def theirs(harness: Any, items: list[Item]) -> list[list[float | None]]:
    """The harness's."""
    pairs = [(context, option) for context, options, _ in items for option in options]
    asked = [Instance("loglikelihood", {}, pair, place) for place, pair in enumerate(pairs)]
    values = iter([value for value, _ in harness.loglikelihood(asked, disable_tqdm=True)])
    return [[next(values) for _ in options] for _, options, _ in items]


def compared(generator: Generator, items: list[Item], by_character: bool) -> dict[str, float]:
    """Choices, accuracies and seconds of both."""
    started = time.perf_counter()
    own = chosen(items, ours(generator, items), by_character)
    seconds = time.perf_counter() - started
    harness = HFLM(
        pretrained=generator.model.get_base_model(),
        tokenizer=generator.tokenizer,
        batch_size=8,
        softmax_dtype="float32",
    )
    started = time.perf_counter()
    other = chosen(items, theirs(harness, items), by_character)
    right = [label for *_, label in items]
    return {
        "n": len(items),
        "same_choice": sum(a == b for a, b in zip(own, other, strict=True)) / len(items),
        "accuracy": sum(a == b for a, b in zip(own, right, strict=True)) / len(items),
        "accuracy_of_the_harness": sum(a == b for a, b in zip(other, right, strict=True)) / len(items),
        "seconds": seconds,
        "seconds_of_the_harness": time.perf_counter() - started,
    }


def main() -> None:
    """Compares, prints and writes results/harness_agreement.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--adapter", default="adapters/smollm2-135m-arithmetic")
    parser.add_argument("--every", type=int, default=1, help="only every N-th item of the samples")
    arguments = parser.parse_args()
    figures = {}
    for dtype in (torch.float32, torch.bfloat16):
        pair = open_pair("smollm2-135m", arguments.adapter)
        for who in VARIANTS:
            with pair.using(who) as subject:
                subject.generator.model.to(dtype)
                for name, items, by_character in (
                    ("blimp", blimp(arguments.data), False),
                    ("hellaswag", hellaswag(arguments.data), True),
                ):
                    made = compared(subject.generator, items[:: arguments.every], by_character)
                    title = f"{name}, {who}, {str(dtype).removeprefix('torch.')}"
                    figures[title] = made
                    print(
                        f"{title:30} same choice {made['same_choice']:.1%}, accuracy {made['accuracy']:.1%}", flush=True
                    )
    command = f"python bench/harness_agreement.py --data FOLDER --every {arguments.every}"
    write_result("harness_agreement", {"command": command, **figures})


if __name__ == "__main__":
    main()
