"""The recipes for larger models: `keeptune plan` reads rows in the form of their data sets, with the tiny model."""

import json
from pathlib import Path
from typing import Any

import pytest
from end_to_end.command import ok

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
NAMES = ["Natalia", "Weng", "Betty", "Julie", "James", "Mark", "Albert", "Ken", "Alexis", "Tina"]


def gsm8k_rows(count: int) -> list[dict[str, Any]]:
    """Questions with worked answers, in the form of GSM8K."""
    return [
        {
            "question": f"{NAMES[n % 10]} sold {n + 2} clips in April, and {n % 7 + 2} times as many in May. How many?",
            "answer": f"In May there were {n + 2}*{n % 7 + 2} = <<{n + 2}*{n % 7 + 2}={(n + 2) * (n % 7 + 2)}>>"
            f"{(n + 2) * (n % 7 + 2)} clips.\n#### {(n + 2) * (n % 7 + 2):,}",
        }
        for n in range(count)
    ]


def metamath_rows(count: int) -> list[dict[str, Any]]:
    """Queries with responses, in the form of MetaMathQA; some answers are fractions."""
    kinds = [f"{source}_{kind}" for source in ("GSM", "MATH") for kind in ("AnsAug", "FOBAR", "Rephrased", "SV")]
    return [
        {
            "type": kinds[n % 8],
            "query": f"What is {n} plus one, divided by {n % 3 + 1}? ({NAMES[n % 10]} asks.)",
            "response": f"We add one and get {n + 1}.\nThe answer is: "
            + (f"\\frac{{{n + 1}}}{{{n % 3 + 1}}}" if (n + 1) % (n % 3 + 1) else f"{(n + 1) // (n % 3 + 1)}"),
            "original_question": "What is it?",
        }
        for n in range(count)
    ]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_gsm8k(model_folder: Path, tmp_path: Path) -> None:
    rows = gsm8k_rows(60)
    train, test = write(tmp_path / "train.jsonl", rows[:50]), write(tmp_path / "test.jsonl", rows[50:])
    changes = [f"model.name={model_folder}", f"data.files={[str(train)]}", f"data.test_files={[str(test)]}"]
    plan = ok(
        "plan", RECIPES / "gsm8k.yaml", "--json", *(part for one in changes for part in ("--set", one)),
        "--set", "data.split.dev=6",
    ).json  # fmt: skip
    assert (plan["rows_read"], plan["rows_rejected"]) == (50, 0)
    assert plan["splits"]["test"]["rows"] == 10 and plan["splits"]["train"]["rows"] == 44
    assert plan["parameters"]["trainable"] > 0


def test_metamath(model_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("math_verify")
    rows = write(tmp_path / "rows.jsonl", metamath_rows(96))
    changes = [f"model.name={model_folder}", f"data.files={[str(rows)]}", "data.split={dev: 8, test: 16}"]
    changes.append("data.quota={default: 12}")
    plan = ok("plan", RECIPES / "metamath.yaml", "--json", *(part for one in changes for part in ("--set", one))).json
    assert (plan["rows_read"], plan["rows_rejected"]) == (96, 0)
    assert sum(facts["rows"] == 12 for facts in plan["kinds"].values()) == 8 and plan["splits"]["test"]["rows"] == 16
