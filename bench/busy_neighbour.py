"""Training speed beside a busy process, by the time that OpenMP threads spin at a barrier before they sleep.

    python bench/busy_neighbour.py [--spins 300 3000 30000]

PyTorch's threads meet at a barrier several times per layer. GNU OpenMP lets a thread that waits there spin for about a
millisecond by default, and a thread whose partner has lost its core spins in vain. With `OMP_WAIT_POLICY=passive`, it
sleeps at once, and waking it takes time on a quiet machine too. GOMP_SPINCOUNT sets what is between. The same training
steps run in turns with each setting, alone and beside one process that computes without end. Figures go into
results/busy_neighbour.json.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common import write_result
from training import Figures, keeptune_side, prepare, run, tell

from keeptune.config.adapter import AdapterSection
from keeptune.models import load as models

BUSY = "while True: pass"


@contextmanager
def neighbour(is_busy: bool) -> Iterator[None]:
    """A process that takes all of one core, if there is to be one."""
    process = subprocess.Popen([sys.executable, "-c", BUSY]) if is_busy else None
    try:
        yield
    finally:
        if process:
            process.kill()
            process.wait()


def environments(spins: list[int]) -> dict[str, dict[str, str]]:
    """The environment of each setting, by its name."""
    own = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    return {
        "default": own,
        "passive": {**own, "OMP_WAIT_POLICY": "passive"},
        **{f"spin {count}": {**own, "GOMP_SPINCOUNT": str(count)} for count in spins},
    }


def main() -> None:
    """Runs all settings in turns and prints their medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spins", type=int, nargs="+", default=[300, 1000, 3000, 10_000, 30_000])
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--side", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        tell(keeptune_side)
        return
    speeds: dict[str, dict[str, list[float | None]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        section = AdapterSection(rank=16, alpha=32, targets="all-linear")
        job = prepare(folder, 20 * (options.steps + 4), models.resolve(models.EMBEDDED), section)
        job |= {"steps": options.steps, "warm_up_steps": 1}
        for _ in range(options.rounds):
            for name, environment in environments(options.spins).items():
                for place, is_busy in (("alone", False), ("beside", True)):
                    with neighbour(is_busy):
                        told: Figures = run(sys.executable, [__file__, "--side"], folder, job, environment)
                    speed = told["useful_tokens_per_second"]
                    speeds.setdefault(name, {}).setdefault(place, []).append(speed)
                    print(f"{name:12} {place:8} {speed or 0:6.0f} useful tokens/s", flush=True)
    medians = {
        name: {place: statistics.median(speed for speed in own if speed) for place, own in places.items()}
        for name, places in speeds.items()
    }
    for name, own in medians.items():
        print(f"{name:12} alone {own['alone']:6.0f}   beside a busy process {own['beside']:6.0f}")
    write_result("busy_neighbour", {"medians": medians, "rounds": speeds, "settings": job | {"neighbour": BUSY}})


if __name__ == "__main__":
    main()
