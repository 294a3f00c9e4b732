"""The same outputs under six graders: how much of an accuracy is the grader.

    python bench/graders.py adapters/smollm2-135m-arithmetic/scores/skill.jsonl [--first 200]

Five are the policies that every run reports. The sixth, any number of the output, is what some judges do; it is no
policy of keeptune's, because a long enough answer is right by it sooner or later.
"""

from __future__ import annotations

import argparse
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

from common import write_result

from keeptune.files import read_records
from keeptune.grading.number import POLICIES, grade, headline_tolerance, parse_number, parse_truth

ANY_NUMBER = "any_number"
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?:/[0-9]+)?")


def verdicts(record: dict[str, Any]) -> dict[str, bool]:
    """The verdict of each grader on one output."""
    exact = parse_truth(record["truth"])
    made: dict[str, bool] = dict(grade(record["output"], exact, record["kind"]).verdicts)
    values = [parse_number(text) for text in _NUMBER.findall(record["output"])]
    made[ANY_NUMBER] = isinstance(exact, Fraction) and any(
        abs(value - exact) <= headline_tolerance(exact) for value in values if value is not None
    )
    return made


def main() -> None:
    """Prints a line a grader, and a column a kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", type=Path, help="a file of graded skill records")
    parser.add_argument("--first", type=int, default=200)
    options = parser.parse_args()
    records = read_records(options.records)[: options.first]
    judged = [(record["kind"], verdicts(record)) for record in records]
    kinds = sorted({kind for kind, _ in judged})
    print(f"{len(records)} outputs        all  " + "  ".join(f"{kind:>8}" for kind in kinds))
    table = {}
    for grader in (*POLICIES, ANY_NUMBER):
        shares = {"all": sum(own[grader] for _, own in judged) / len(judged)}
        for kind in kinds:
            of_kind = [own[grader] for other, own in judged if other == kind]
            shares[kind] = sum(of_kind) / len(of_kind)
        table[grader] = shares
        print(f"{grader:18} " + "  ".join(f"{shares[name]:8.1%}" for name in ("all", *kinds)))
    write_result("graders", {"file": str(options.records), "outputs": len(records), "right": table})


if __name__ == "__main__":
    main()
