"""How long the retention suite takes, by ability, for a base and its tuned model, and the memory that it needs.

    python bench/retention_time.py --suite quick

No answer is taken from the cache, and the divergence on the tuned model's own answers is a part of the time. Figures go
into results/retention_time_SUITE.json.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from common import write_result

from keeptune.evaluation.abilities.base import Record
from keeptune.evaluation.abilities.registry import abilities_named
from keeptune.evaluation.answer_divergence import PROMPTS, chat_prompts, measure_answer_divergence
from keeptune.evaluation.model_pair import VARIANTS, AdapterPair, open_pair
from keeptune.evaluation.suite.loader import Size
from keeptune.event_log import peak_memory_bytes
from keeptune.models.prepacked_linear import packed_weights

BASE = "smollm2-135m"


def seconds_by_ability(adapter: str, size: Size, only: list[str]) -> dict[str, dict[str, float]]:
    """The seconds that each model takes on each ability, and the peak of the process after it."""
    started = time.perf_counter()
    pair = open_pair(BASE, adapter)
    assert isinstance(pair, AdapterPair)
    found = {"load": {"both": time.perf_counter() - started}}
    base: dict[str, list[Record]] = {}
    for who in VARIANTS:
        with pair.using(who) as subject, packed_weights(subject.generator.model):
            for ability in abilities_named(only or ["all"], size):
                items, started = ability.items("final", size), time.perf_counter()
                records = ability.collect_records(subject, items, base.get(ability.name))
                own = found.setdefault(ability.name, {"n": len(items)})
                own |= {who: time.perf_counter() - started, f"peak_after_{who}": peak_memory_bytes()}
                base.setdefault(ability.name, records)
                print(f"{who:<6} {ability.name:<14} {len(items):>5} {own[who]:6.1f} s", flush=True)
    if not only:
        started = time.perf_counter()
        measure_answer_divergence(pair, chat_prompts(pair.layout, PROMPTS[size]), seed=0)
        found["divergence"] = {"tuned": time.perf_counter() - started}
    return found


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", choices=("quick", "standard"), default="quick")
    parser.add_argument("--adapter", default="adapters/smollm2-135m-arithmetic")
    parser.add_argument("--abilities", nargs="*", default=[], help="these alone; nothing is written then")
    arguments = parser.parse_args()
    found = seconds_by_ability(arguments.adapter, arguments.suite, arguments.abilities)
    total = sum(own.get(who, 0.0) for own in found.values() for who in (*VARIANTS, "both"))
    print(f"{total:.0f} s, {peak_memory_bytes() / 2**30:.2f} GiB")
    if not arguments.abilities:
        figures = {"seconds": total, "peak_memory_bytes": peak_memory_bytes(), "by_ability": found}
        write_result(f"retention_time_{arguments.suite}", {"adapter": Path(arguments.adapter).name, **figures})


if __name__ == "__main__":
    main()
