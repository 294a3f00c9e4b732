"""Form of the decision records, of the experiment log and of the other documents: parts, order, links."""

from __future__ import annotations

import re
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DECISIONS = ROOT / "docs" / "decisions"
RECORDS = sorted(DECISIONS.glob("[0-9]*.md"))
LOG = ROOT / "results" / "LOG.md"
DOCUMENTS = [
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "EXTENDING.md",
    "SECURITY.md",
    "results/LOG.md",
    "docs/decisions/README.md",
]


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.stem)
def test_a_decision_record_has_its_parts(record: Path) -> None:
    page = text(record)
    assert page.startswith(f"# {record.name[:4]}. ")
    assert re.search(r"^- Status: (Accepted|Superseded)", page, re.MULTILINE)
    assert re.search(r"^- Date: \d{4}-\d{2}-\d{2}", page, re.MULTILINE)
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == ["Context", "Decision", "Consequences"]


def test_decision_records_are_numbered_by_date_and_indexed() -> None:
    assert [int(record.name[:4]) for record in RECORDS] == list(range(1, len(RECORDS) + 1))
    dates = [match[1] for record in RECORDS if (match := re.search(r"^- Date: ([\d-]+)", text(record), re.MULTILINE))]
    assert dates == sorted(dates)
    indexed = re.findall(r"\]\((\d{4}-[^)]+)\)", text(DECISIONS / "README.md"))
    assert sorted(indexed) == [record.name for record in RECORDS]


def test_log_entries_have_four_parts_and_are_newest_first() -> None:
    entries = re.split(r"^## ", text(LOG), flags=re.MULTILINE)[1:]
    dates = [entry[:10] for entry in entries]
    assert all(re.fullmatch(r"\d{4}-\d{2}-\d{2}", date) for date in dates)
    assert all(newer >= older for newer, older in pairwise(dates))
    for entry in entries:
        parts = re.findall(r"^\*\*(\w+)\.\*\*", entry, re.MULTILINE)
        assert parts[:4] == ["Hypothesis", "Setup", "Result", "Decision"], entry.splitlines()[0]


@pytest.mark.parametrize("document", [*DOCUMENTS, *(str(record.relative_to(ROOT)) for record in RECORDS)])
def test_linked_files_exist(document: str) -> None:
    page = ROOT / document
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text(page))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_all_documents_state_the_same_version() -> None:
    version = tomllib.loads(text(ROOT / "pyproject.toml"))["project"]["version"]
    assert f"\nversion: {version}\n" in text(ROOT / "CITATION.cff")
    assert f"\n## [{version}] - " in text(ROOT / "CHANGELOG.md")


def test_each_promise_of_security_has_a_test_that_exists() -> None:
    section = text(ROOT / "SECURITY.md").partition("## What keeptune promises")[2].partition("\n## ")[0]
    promises = re.findall(r"^\| \*\*.+$", section, re.MULTILINE)
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text(ROOT / "SECURITY.md"))
    assert len(promises) > 5 and all("::test_" in promise for promise in promises)
    for file, test in named:
        assert f"\ndef {test}(" in text(ROOT / file), f"{file}::{test}"
