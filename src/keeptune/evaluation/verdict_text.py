"""The verdict for people and for other programs: plain text, Markdown and JUnit XML, from one gate record."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

from keeptune.evaluation.gate import DECIDING

Record = dict[str, Any]

WHOLE_AT_STANDARD = frozenset({"instructions", "refusal", "code"})
"""Abilities that have no more questions at `full`."""

WORDS = {"pass": "PASS", "fail": "FAIL", "undecided": "UNDECIDED"}
_NOT_IN_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_HEAD = ("ability", "n", "base", "tuned", "kept or change", "95 % interval", "status")


def text(made: Record) -> str:
    """The verdict as a terminal shows it: one line per ability, the reason, one remedy."""
    lines = ability_lines(made["abilities"])
    lines += [_line(f"{name}: not measured, {why}") for name, why in made.get("left_out", {}).items()]
    lines.append(f"verdict  {WORDS[made['gate']['verdict']]}: {_line(made['gate']['reason'])}")
    if made["remedy"]:
        lines.append(f"next     {_line(made['remedy'])}")
    return "\n".join(lines)


def ability_lines(abilities: Record) -> list[str]:
    """A table of all abilities, as lines of equal columns; none where there are no abilities."""
    if not abilities:
        return []
    rows = [_HEAD, *_rows(abilities)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(_HEAD))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def markdown(made: Record) -> str:
    """The same as a Markdown section."""
    table = [_HEAD, ("---", *["---:"] * (len(_HEAD) - 2), "---"), *_rows(made["abilities"])]
    lines = [f"## Retention gate: {WORDS[made['gate']['verdict']].lower()}", "", _line(made["gate"]["reason"]), ""]
    lines += [f"| {' | '.join(_plain(cell) for cell in row)} |" for row in table]
    lines += [
        "",
        *(f"{_plain(name)} was not measured: {_plain(why)}." for name, why in made.get("left_out", {}).items()),
    ]
    if made["remedy"]:
        lines += ["", f"Next: {_line(made['remedy'])}"]
    lines += ["", f"Base: `{_code(made['base'])}`. Tuned: `{_code(made['tuned'])}`."]
    return "\n".join(lines) + "\n"


def junit(made: Record) -> str:
    """The verdict as JUnit XML: a test case per ability; lost and undecided ones fail, uncounted ones are skipped."""
    abilities = made["abilities"]
    bad = [own for own in abilities.values() if own["counted"] and own["status"] in ("lost", "undecided")]
    skipped = [own for own in abilities.values() if not own["counted"]]
    suite = ElementTree.Element(
        "testsuite",
        name="keeptune gate",
        tests=str(len(abilities) + 1),
        failures=str(len(bad) + (made["gate"]["verdict"] != "pass")),
        skipped=str(len(skipped)),
    )
    for name, own in abilities.items():
        case = ElementTree.SubElement(suite, "testcase", classname="keeptune.gate", name=_xml(name))
        message = _xml(f"{own['status']}: {own['reason']}")
        if not own["counted"]:
            ElementTree.SubElement(case, "skipped", message=message)
        elif own["status"] in ("lost", "undecided"):
            ElementTree.SubElement(case, "failure", type=own["status"], message=message)
    overall = ElementTree.SubElement(suite, "testcase", classname="keeptune.gate", name="verdict")
    if made["gate"]["verdict"] != "pass":
        ElementTree.SubElement(overall, "failure", type=made["gate"]["verdict"], message=_xml(made["gate"]["reason"]))
    ElementTree.indent(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suite, encoding="unicode") + "\n"


def remedy(made: Record) -> str:
    """The one step that helps most after this verdict; empty after a pass."""
    gate, abilities = made["gate"], made["abilities"]
    if gate["verdict"] == "pass":
        return ""
    if gate["verdict"] == "fail":
        lost = ", ".join(name for name, own in abilities.items() if own["counted"] and own["status"] == "lost")
        if made.get("scale") is not None:
            return f"evaluate a smaller part of the adapter, such as --scale 0.5, and retrain with replay of {lost}"
        return f"lower the learning rate and mix in data that practises {lost}, then train again"
    undecided = [name for name, own in abilities.items() if own["counted"] and own["status"] == "undecided"]
    if not undecided:
        return "measure more abilities (--abilities all), with a base that has them"
    size = made["suite"]["size"] if made.get("suite") else "full"
    if size == "quick" or (size == "standard" and not WHOLE_AT_STANDARD.intersection(undecided)):
        return f"ask more questions: --suite {'standard' if size == 'quick' else 'full'}"
    return f"bring more questions on {', '.join(undecided)} with --questions FILE"


def _rows(abilities: Record) -> list[tuple[str, ...]]:
    return [_row(name, own) for name, own in abilities.items()]


def _row(name: str, own: Record) -> tuple[str, ...]:
    """The measure that decides the status, and its name where the ability has several."""
    measure, shown = next(
        ((key, part) for key, part in own["measures"].items() if part["status"] == own["status"]), ("", own)
    )
    kind, is_plain = shown["kind"], own["counted"] or own["status"] not in DECIDING
    return (
        _line(f"{name} ({measure})" if measure and len(own["measures"]) > 1 else name),
        f"{shown['n']:,}",
        _value(shown["base"], kind),
        _value(shown["tuned"], kind),
        _change(shown["point"], kind),
        f"{_change(shown['low95'], kind)} to {_change(shown['high95'], kind)}",
        own["status"] + ("" if is_plain else ", not counted"),
    )


def _value(value: float | None, kind: str) -> str:
    if value is None:
        return "–"
    return f"{value:.1%}" if kind == "score" else f"{value:.3f} nats"


def _change(value: float | None, kind: str) -> str:
    if value is None:
        return "–"
    return f"{value:.1%}" if kind == "score" else f"{value:+.3f}"


def _line(written: str) -> str:
    return " ".join(written.splitlines())


def _plain(written: str) -> str:
    return _line(written).replace("\\", "\\\\").replace("|", "\\|")


def _code(written: str) -> str:
    return _line(written).replace("`", "'")


def _xml(written: str) -> str:
    """The text without characters that XML 1.0 cannot hold, such as those of a terminal's colours."""
    return _NOT_IN_XML.sub("\ufffd", written)
