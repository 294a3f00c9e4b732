"""The verdict of a gate.json record as plain text, Markdown and JUnit XML, with one remedy."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from keeptune.evaluation.gate import DECIDING
from keeptune.files import Record

COMPLETE_AT_STANDARD = frozenset({"instructions", "refusal", "code"})
"""Abilities with as many questions at size `standard` as at size `full`."""

VERDICT_WORDS = {"pass": "PASS", "fail": "FAIL", "undecided": "UNDECIDED"}
_NOT_IN_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_HEAD = ("ability", "n", "base", "tuned", "kept or change", "95 % interval", "status")


def format_text(record: Record) -> str:
    """The verdict for a terminal: one line per ability, the reason, and one remedy."""
    lines = ability_lines(record["abilities"])
    lines += [_one_line(f"{name}: not measured, {reason}") for name, reason in record.get("left_out", {}).items()]
    lines.append(f"verdict  {VERDICT_WORDS[record['gate']['verdict']]}: {_one_line(record['gate']['reason'])}")
    if record["remedy"]:
        lines.append(f"next     {_one_line(record['remedy'])}")
    return "\n".join(lines)


def format_artefact(record: Record) -> str:
    """The content of artefact.json for a terminal."""
    form = ", ".join(filter(None, (record["form"], record["gguf_type"])))
    program = f", answered by {record['program']}" if record["program"] else ""
    lines = [f"artefact  {_one_line(record['artefact'])}{f' ({form})' if form else ''}{program}"]
    if prompts := record["prompts"]:
        lines.append(f"tokens    {_prompts(prompts)}")
    if skill := record["skill"]:
        run, artefact, change = skill["run"], skill["artefact"], skill["difference"]
        expected = skill["expected_equal"]
        rule = f" (expected: at least {expected:.0%})" if expected else ""
        if skill["near_ties"] is not None and skill["equal"] < artefact["n"]:
            rule += f"; {skill['near_ties']} of the others part at a near tie"
        lines += [
            f"answers   {skill['equal']} of {artefact['n']} are equal to the run's{rule}",
            f"skill     {artefact['accuracy']:.1%} right, {run['accuracy']:.1%} in the run; difference "
            f"{change['point']:+.1%} ({change['low95']:+.1%} to {change['high95']:+.1%})",
        ]
    lines += ability_lines(record["abilities"])
    lines += [_one_line(f"{name}: {reason}") for name, reason in record["left_out"].items()]
    lines.append(f"verdict   {VERDICT_WORDS[record['verdict']]}: {_one_line(record['reason'])}")
    return "\n".join(lines)


def _prompts(prompts: Record) -> str:
    compared = f"{prompts['compared']:,} prompts compared by {prompts['by']}"
    if not prompts["differing"]:
        return f"{compared}: all equal those of the run"
    first = prompts["first"]
    return (
        f"{compared}: {prompts['differing']:,} differ; the first at token {first['place']} of "
        f"{first['prompt']!r:.120}: {first['expected'][:8]} in the run, {first['served'][:8]} here"
    )


def ability_lines(abilities: Record) -> list[str]:
    """A table of all abilities as lines with aligned columns; empty without abilities."""
    if not abilities:
        return []
    rows = [_HEAD, *_rows(abilities)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(_HEAD))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def format_markdown(record: Record) -> str:
    """The verdict as a Markdown section."""
    title = f"## Retention gate: {VERDICT_WORDS[record['gate']['verdict']].lower()}"
    lines = [title, "", _one_line(record["gate"]["reason"]), ""]
    lines += markdown_table(record["abilities"])
    left_out = record.get("left_out", {})
    lines += ["", *(f"{_cell(name)} was not measured: {_cell(reason)}." for name, reason in left_out.items())]
    if record["remedy"]:
        lines += ["", f"Next: {_one_line(record['remedy'])}"]
    lines += ["", f"Base: `{_code(record['base'])}`. Tuned: `{_code(record['tuned'])}`."]
    return "\n".join(lines) + "\n"


def markdown_table(abilities: Record) -> list[str]:
    """The lines of a Markdown table with a row per ability."""
    table = [_HEAD, ("---", *["---:"] * (len(_HEAD) - 2), "---"), *_rows(abilities)]
    return [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in table]


def format_junit(record: Record) -> str:
    """The verdict as JUnit XML with one test case per ability and one for the verdict.

    Counted abilities that are lost or undecided are failures. Abilities that are not counted are skipped.
    """
    gate, abilities = record["gate"], record["abilities"]
    suite = ElementTree.Element("testsuite", name="keeptune gate", tests=str(len(abilities) + 1))
    failures = skipped = 0
    for name, ability in abilities.items():
        case = ElementTree.SubElement(suite, "testcase", classname="keeptune.gate", name=_xml(name))
        message = _xml(f"{ability['status']}: {ability['reason']}")
        if not ability["counted"]:
            ElementTree.SubElement(case, "skipped", message=message)
            skipped += 1
        elif ability["status"] in ("lost", "undecided"):
            ElementTree.SubElement(case, "failure", type=ability["status"], message=message)
            failures += 1
    overall = ElementTree.SubElement(suite, "testcase", classname="keeptune.gate", name="verdict")
    if gate["verdict"] != "pass":
        ElementTree.SubElement(overall, "failure", type=gate["verdict"], message=_xml(gate["reason"]))
        failures += 1
    suite.set("failures", str(failures))
    suite.set("skipped", str(skipped))
    ElementTree.indent(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suite, encoding="unicode") + "\n"


def suggest_remedy(record: Record) -> str:
    """The one step that helps most after this verdict; empty after a pass."""
    gate, abilities = record["gate"], record["abilities"]
    counted = {name: ability["status"] for name, ability in abilities.items() if ability["counted"]}
    if gate["verdict"] == "pass":
        return ""
    if gate["verdict"] == "fail":
        lost = ", ".join(name for name, status in counted.items() if status == "lost")
        if record.get("scale") is not None:
            return f"evaluate the adapter at a smaller scale, such as --scale 0.5, or retrain with replay of {lost}"
        return f"train again with a lower learning rate and with replay data for {lost}"
    undecided = [name for name, status in counted.items() if status == "undecided"]
    if not undecided:
        return "evaluate more abilities (--abilities all), with a base model that has them"
    size = record["suite"]["size"] if record.get("suite") else "full"
    if size == "quick" or (size == "standard" and not COMPLETE_AT_STANDARD.intersection(undecided)):
        return f"evaluate on more questions: --suite {'standard' if size == 'quick' else 'full'}"
    return f"add your own questions on {', '.join(undecided)} with --questions FILE"


def _rows(abilities: Record) -> list[tuple[str, ...]]:
    return [_row(name, ability) for name, ability in abilities.items()]


def _row(name: str, ability: Record) -> tuple[str, ...]:
    """The table row of an ability: the figures of the measure that decides its status."""
    deciding = [part for part in ability["measures"].items() if part[1]["status"] == ability["status"]]
    measure, figures = deciding[0] if deciding else ("", ability)
    kind, is_counted = figures["kind"], ability["counted"] or ability["status"] not in DECIDING
    return (
        _one_line(f"{name} ({measure})" if measure and len(ability["measures"]) > 1 else name),
        f"{figures['n']:,}",
        _value(figures["base"], kind),
        _value(figures["tuned"], kind),
        _change(figures["point"], kind),
        f"{_change(figures['low95'], kind)} to {_change(figures['high95'], kind)}",
        ability["status"] + ("" if is_counted else ", not counted"),
    )


def _value(value: float | None, kind: str) -> str:
    if value is None:
        return "–"
    return f"{value:.1%}" if kind == "score" else f"{value:.3f} nats"


def _change(value: float | None, kind: str) -> str:
    if value is None:
        return "–"
    return f"{value:.1%}" if kind == "score" else f"{value:+.3f}"


def _one_line(text: str) -> str:
    return " ".join(text.splitlines())


def _cell(text: str) -> str:
    """The text as a cell of a Markdown table."""
    return _one_line(text).replace("\\", "\\\\").replace("|", "\\|")


def _code(text: str) -> str:
    """The text as Markdown code, without backticks."""
    return _one_line(text).replace("`", "'")


def _xml(text: str) -> str:
    """The text without characters that XML 1.0 does not allow, such as terminal color codes."""
    return _NOT_IN_XML.sub("\ufffd", text)
