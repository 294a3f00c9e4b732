"""The verdict as plain text, Markdown and JUnit XML: whole, machine-readable, and unmoved by hostile names."""

import re
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeptune.evaluation import verdict_text
from keeptune.evaluation.gate import AbilityScores, Limits, Measurement, judge
from keeptune.evaluation.verdict_record import abilities_record, gate_record

Record = dict[str, Any]
HOSTILE = [
    "a|b",
    "a\nb",
    "a\r\nb",
    "a\\|b",
    "a\\",
    "|",
    "---|---",
    "# head\n\n- item",
    "`code`",
    "<b>&amp;</b>",
    "\"quoted\" 'too'",
    "\x1b[31mred\x1b[0m",
    "nul\x00",
    "\u2028line\u2029paragraph\x85",
    "能力|名\n字",
    "]]>",
    "\ud83d",
]


def ability(name: str, lost: int = 0, n: int = 400, right: int = 300, practised: str | None = None) -> AbilityScores:
    base = np.zeros(n)
    base[:right] = 1
    tuned = base.copy()
    tuned[:lost] = 0
    own = Measurement("accuracy", "score", base, tuned, list(range(n)), np.ones(n), 0.25, n)
    return AbilityScores(name, [own], practised)


def loss_ability(name: str, change: float) -> AbilityScores:
    base = np.random.default_rng(0).normal(3, 0.1, 60)
    own = Measurement("loss", "loss", base, base + change, list(range(60)), np.ones(60), 10.0, 60)
    return AbilityScores(name, [own])


def made(*abilities: AbilityScores, limits: Limits | None = None, **changes: Any) -> Record:
    """The record of gate.json, as far as texts are made from it."""
    limits = limits or Limits()
    judged = judge(abilities, limits, resamples=1000, seed=0)
    record: Record = {
        "base": "org/base",
        "tuned": "runs/mine",
        "scale": None,
        "suite": {"version": "1", "size": "quick"},
        "abilities": abilities_record(judged),
        "gate": gate_record(judged, limits),
        **changes,
    }
    return {**record, "remedy": verdict_text.suggest_remedy(record)}


KEPT = [ability("knowledge"), ability("grammar"), ability("commonsense")]
RECORDS: dict[str, Record] = {
    "pass": made(*KEPT),
    "pass with losses": made(*KEPT, loss_ability("general-text", 0.01), ability("chat", practised="replay")),
    "fail": made(*KEPT, ability("chat", lost=200)),
    "fail of an adapter": made(*KEPT, ability("chat", lost=200), scale=1.0),
    "fail of several": made(*KEPT, ability("chat", lost=200), loss_ability("general-text", 1.0)),
    "undecided": made(*KEPT, ability("chat", lost=25)),
    "undecided in the standard size": made(*KEPT, ability("chat", lost=25), suite={"version": "1", "size": "standard"}),
    "undecided where standard asks all": made(
        *KEPT, ability("code", lost=25), suite={"version": "1", "size": "standard"}
    ),
    "undecided in the full size": made(*KEPT, ability("chat", lost=25), suite={"version": "1", "size": "full"}),
    "undecided from result files": made(*KEPT, ability("chat", lost=25), suite=None),
    "too few abilities": made(*KEPT[:2]),
    "too few questions": made(*KEPT, ability("chat", n=20, right=15)),
    "nothing to lose": made(ability("knowledge", right=100), ability("code", right=90), loss_ability("chat", 0.0)),
    "not counted": made(
        *KEPT, ability("chat", lost=200), limits=Limits(counted=frozenset(["knowledge", "grammar", "commonsense"]))
    ),
    "left out": made(*KEPT, left_out={"chat": "base and tuned have different tokenizers"}),
}


def rows(text: str) -> list[list[str]]:
    """The cells of a Markdown table, as GitHub's parser cuts them: a backslash escapes what follows."""
    return [re.sub(r"\\.", "x", line)[1:-1].split("|") for line in text.split("\n") if line.startswith("|")]


@pytest.mark.parametrize("name", RECORDS)
def test_remedy_is_one_sentence(name: str) -> None:
    record = RECORDS[name]
    remedy = record["remedy"]
    assert (remedy == "") == (record["gate"]["verdict"] == "pass")
    assert name.split()[0] not in ("pass", "fail", "undecided") or record["gate"]["verdict"] == name.split()[0]
    assert "\n" not in remedy and not remedy.endswith(".")
    assert not re.search(r"[.!?]\s+[A-Z]", remedy)


@pytest.mark.parametrize("name", RECORDS)
def test_remedy_names_lost_or_undecided_abilities(name: str) -> None:
    record = RECORDS[name]
    lost = {own for own, facts in record["abilities"].items() if facts["counted"] and facts["status"] == "lost"}
    assert (record["gate"]["verdict"] == "fail") == bool(lost)
    assert all(own in record["remedy"] for own in lost)


def test_remedy_of_an_undecided_verdict_depends_on_the_remaining_questions() -> None:
    open_verdicts = [name for name in RECORDS if name.startswith("undecided")]
    remedies = [RECORDS[name]["remedy"] for name in open_verdicts]
    quick, standard, *others = remedies
    assert "--suite standard" in quick and "--suite full" in standard
    assert others and all("--questions" in remedy for remedy in others)
    assert "--scale" in RECORDS["fail of an adapter"]["remedy"]
    assert "--abilities" in RECORDS["too few abilities"]["remedy"]


@pytest.mark.parametrize("name", RECORDS)
def test_junit_is_xml_whose_counts_agree(name: str) -> None:
    record = RECORDS[name]
    suite = ElementTree.fromstring(verdict_text.format_junit(record).encode())
    cases = suite.findall("testcase")
    assert suite.tag == "testsuite"
    assert [case.get("name") for case in cases] == [*record["abilities"], "verdict"]
    assert suite.get("tests") == str(len(cases))
    assert suite.get("failures") == str(len(suite.findall("testcase/failure")))
    assert suite.get("skipped") == str(len(suite.findall("testcase/skipped")))
    for case, facts in zip(cases, record["abilities"].values(), strict=False):
        assert (case.find("skipped") is not None) == (not facts["counted"])
        assert (case.find("failure") is not None) == (facts["counted"] and facts["status"] != "retained")
    assert (cases[-1].find("failure") is not None) == (record["gate"]["verdict"] != "pass")


@pytest.mark.parametrize("name", RECORDS)
def test_markdown_has_a_row_for_each_ability(name: str) -> None:
    record = RECORDS[name]
    head, line, *body = rows(verdict_text.format_markdown(record))
    assert all(len(row) == len(head) for row in (line, *body))
    assert [row[0].strip() for row in body] == list(record["abilities"])
    for row, facts in zip(body, record["abilities"].values(), strict=True):
        assert row[-1].strip().startswith(facts["status"])
    assert record["gate"]["verdict"] in verdict_text.format_markdown(record).split("\n")[0]


@pytest.mark.parametrize("name", RECORDS)
def test_text_has_a_line_for_each_ability(name: str) -> None:
    record = RECORDS[name]
    lines = verdict_text.format_text(record).split("\n")
    count = len(record["abilities"])
    assert [line.split("  ")[0] for line in lines[1 : count + 1]] == list(record["abilities"])
    rest = lines[count + 1 :]
    assert [line.split(":")[0] for line in rest[: len(record.get("left_out", {}))]] == list(record.get("left_out", {}))
    assert sum(line.startswith("verdict") for line in rest) == 1
    assert sum(line.startswith("next") for line in rest) == bool(record["remedy"])


def test_without_abilities_there_is_no_table() -> None:
    assert verdict_text.ability_lines({}) == []


def test_uncounted_abilities_are_marked() -> None:
    body = rows(verdict_text.format_markdown(RECORDS["not counted"]))[2:]
    assert ["not counted" in row[-1] for row in body] == [False, False, False, True]
    practised = rows(verdict_text.format_markdown(RECORDS["pass with losses"]))[2:]
    assert practised[-1][-1].strip() == "practised"


def hostile(text: str) -> Record:
    names = [text, f"{text} second", "plain"]
    return made(
        *(ability(name, lost=200 * (number == 0)) for number, name in enumerate(names)),
        left_out={"chat": text},
        base=text,
        tuned=text,
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_in_its_cell(text: str) -> None:
    check_hostile(text)


@given(st.text(alphabet=st.sampled_from("ab|\\\n\r `<&\"'\x00\x1b\x85\u2028-#"), max_size=8))
def test_any_text_stays_in_its_cell(text: str) -> None:
    check_hostile(text)


def check_hostile(text: str) -> None:
    record = hostile(text)
    table = rows(verdict_text.format_markdown(record))
    assert len(table) == 2 + len(record["abilities"])
    assert {len(row) for row in table} == {7}
    written = verdict_text.format_markdown(record).split("\n")
    assert sum(line.startswith("#") for line in written) == 1
    lines = verdict_text.format_text(record).split("\n")
    assert sum(line.startswith("verdict ") for line in lines) == 1
    assert len(lines) == 1 + len(record["abilities"]) + 1 + 2
    xml = verdict_text.format_junit(record)
    cases = ElementTree.fromstring(xml.encode("utf-8", "strict")).findall("testcase")
    assert len(cases) == len(record["abilities"]) + 1
