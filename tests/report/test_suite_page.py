"""The page and report.md of a run with the retention suite: figures, statuses, flipped items, and what is missing."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from report.page_parser import Page, words_of
from report.test_markdown import tables

from keeptune.errors import RunError
from keeptune.report.page import write_report
from keeptune.report.suite_plot import GROUPS

ABILITIES = [
    "knowledge",
    "grammar",
    "general-text",
    "chat",
    "instructions",
    "reading-zh",
    "refusal",
    "code",
    "long-context",
    "task own sums",
]


def edit(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    tree = json.loads((run / "result.json").read_text(encoding="utf-8"))
    change(tree)
    (run / "result.json").write_text(json.dumps(tree), encoding="utf-8")


def page_of(run: Path) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


@pytest.fixture
def run(make_run: Callable[..., Path]) -> Path:
    """A run that the suite judged, which the test may change."""
    return make_run(policy="suite", with_suite=True)


@pytest.fixture(scope="module")
def page(judged: Path) -> Page:
    """The page of a run that no test changes."""
    return Page((judged / "report.html").read_text(encoding="utf-8"))


def part(page: Page, anchor: str) -> list[tuple[str, dict[str, str], list[str]]]:
    """The elements between the heading with this id and the next heading of its level."""
    start = next(place for place, (_, attributes, _) in enumerate(page.elements) if attributes.get("id") == anchor)
    level = page.elements[start][0]
    later = range(start + 1, len(page.elements))
    end = next((place for place in later if page.elements[place][0] in (level, "section")), len(page.elements))
    return page.elements[start:end]


def test_first_table_has_one_row_per_ability(page: Page, hostile: str) -> None:
    head, *rows = page.tables()[0]
    assert len(head) == 7
    assert [row[0].split()[0] for row in rows] == [name.split()[0] for name in ABILITIES]
    _, grammar, _, chat, _, reading, _, code, *_ = rows
    assert grammar[1:6] == ["60", "90.0%", "33.3%", "37.0%", "23.1% to 51.9%"]
    assert grammar[6].startswith("✗ lost at most 51.9%")
    assert chat[0] == "chat loss"
    assert chat[4:6] == ["+0.400 nats", "+0.400 to +0.400"]
    assert reading[6].startswith("○ practised") and " ".join(hostile.split()) in reading[6]
    assert code[4:6] == ["–", "–"] and code[6].startswith("– nothing to lose")


def test_verdict_and_headline_name_abilities(page: Page) -> None:
    (verdict,) = page.texts("div", "verdict")
    assert "Failed" in verdict and "grammar, chat" in verdict
    assert "commonsense" in verdict and "long-context" not in verdict
    figures = [" ".join(text.split()) for text in page.texts("dd", "figure")]
    assert figures[1] == "4 of 8"
    assert re.fullmatch(r"0\.\d{4}", figures[-1])
    assert "3 lost, 1 undecided" in words_of(page)


def test_abilities_link_to_their_flipped_items(page: Page) -> None:
    ids = [attributes["id"] for _, attributes, _ in page.elements if "id" in attributes]
    links = [
        attributes["href"]
        for tag, attributes, _ in page.elements
        if tag == "a" and attributes["href"].startswith("#ability-")
    ]
    assert len(ids) == len(set(ids))
    assert set(links) <= {f"#{name}" for name in ids}
    assert list(dict.fromkeys(links)) == [f"#ability-{name.replace(' ', '-')}" for name in ABILITIES]


def test_status_is_readable_without_color(page: Page) -> None:
    shown = {"".join(text) for tag, _, text in page.elements if tag == "text"}
    assert {"✓ retained", "✗ lost", "? undecided", "– nothing to lose", "○ practised"} <= shown
    assert {GROUPS["loss"], "no interval"} <= shown


def test_flipped_items_are_counted(page: Page) -> None:
    grammar = part(page, "ability-grammar")
    headings = ["".join(text) for tag, _, text in grammar if tag == "h4"]
    assert headings == ["Lost, 6 of 36", "Gained, 2 of 2"]
    assert sum(tag == "article" for tag, _, _ in grammar) == 8
    (summary,) = (" ".join(text) for tag, attributes, text in grammar if tag == "p" and not attributes)
    assert {"38", "60", "36", "2"} <= set(re.findall(r"\d+", summary))
    outputs = ["".join(text).strip() for tag, _, text in grammar if tag == "pre"]
    assert len(set(outputs[:2])) == 2


def test_losses_show_the_largest_increases(page: Page) -> None:
    text = part(page, "ability-general-text")
    (heading,) = ("".join(words) for tag, _, words in text if tag == "h4")
    assert heading.endswith("6 of 40")
    sides = [" ".join(" ".join(words).split()) for tag, attributes, words in text if attributes.get("class") == "side"]
    assert set(sides) == {"base 3.000 nats per token", "tuned 3.040 nats per token"}


def test_chat_shows_loss_and_degenerate_answers(page: Page) -> None:
    chat = part(page, "ability-chat")
    assert [re.sub(r",.*", "", "".join(text)) for tag, _, text in chat if tag == "h4"] == ["Largest increases", "Lost"]
    assert any("degenerate: repeating" in "".join(text) for _, _, text in chat)
    roles = {"".join(text) for _, attributes, text in chat if attributes.get("class") == "role"}
    assert roles == {"system", "user"}


def test_hostile_items_are_escaped(page: Page, hostile: str) -> None:
    tags = {tag for tag, _, _ in page.elements}
    assert not tags & {"script", "img", "iframe", "link", "object", "base", "form"}
    assert not any(name.startswith("on") for _, attributes, _ in page.elements for name in attributes)
    questions = [
        "".join(text) for _, attributes, text in part(page, "ability-knowledge") if attributes.get("class") == "problem"
    ]
    assert any(hostile in question for question in questions)
    assert any(hostile in "".join(text) for tag, _, text in part(page, "ability-knowledge") if tag == "bdi")
    assert any(hostile in "".join(text) for tag, _, text in part(page, "ability-refusal") if tag == "pre")
    assert all("://" not in value for _, attributes, _ in page.elements for value in attributes.values())


def test_chinese_items_have_a_language(page: Page) -> None:
    grammar = [attributes for _, attributes, _ in part(page, "ability-grammar") if attributes.get("class") == "problem"]
    assert {attributes["lang"] for attributes in grammar} == {"en", "zh"}
    reading = [attributes for tag, attributes, _ in part(page, "ability-reading-zh") if tag == "pre"]
    assert {attributes.get("lang") for attributes in reading} == {"zh"}


def test_long_texts_are_truncated(page: Page) -> None:
    texts = [
        "".join(text)
        for _, attributes, text in part(page, "ability-general-text")
        if attributes.get("class") == "problem"
    ]
    assert texts and all(len(text) < 400 and text.rstrip().endswith("…") for text in texts)


def test_all_measures_and_divergences_are_listed(page: Page) -> None:
    measures = next(table for table in page.tables() if table[0][:2] == ["ability", "measure"])
    names = [tuple(row[:2]) for row in measures[1:]]
    of_refusal = [name for ability, name in names if ability == "refusal"]
    assert of_refusal == ["declines", "answers", "pair probability", "pair accuracy"]
    assert ("chat", "healthy") in names
    practised = [row[-1] for row in measures[1:] if row[0] == "reading-zh"]
    assert practised and all("practised" in status for status in practised)
    predicted = next(table for table in page.tables() if table[0][0] == "nats per token")
    answers = [row for row in predicted if "answers to" in row[0]]
    assert [row[2] for row in answers] == ["0.150"] * 3
    assert not any("sampled answers to chat" in row[0] for row in answers)


def test_markdown_has_the_same_table(judged: Path, page: Page) -> None:
    text = (judged / "report.md").read_text(encoding="utf-8")
    markdown_tables = tables(MarkdownIt("commonmark").enable("table").parse(text))
    assert all(len(row) == len(table[0]) for table in markdown_tables for row in table)
    short, full = markdown_tables[1], page.tables()[0]
    assert [row[1:6] for row in short] == [row[1:6] for row in full]
    words = [[row[6].split() for row in table] for table in (short, full)]
    assert words[0] == words[1]


def test_report_is_reproducible(judged: Path) -> None:
    before = [(judged / name).read_bytes() for name in ("report.html", "report.md")]
    write_report(judged)
    assert [(judged / name).read_bytes() for name in ("report.html", "report.md")] == before


def test_missing_records_are_accepted(run: Path) -> None:
    (run / "scores" / "ability-grammar-tuned.jsonl").unlink()
    page = page_of(run)
    for anchor in ("ability-grammar", "ability-task-own-sums"):
        assert not [tag for tag, _, _ in part(page, anchor) if tag == "article"]
        assert any("no records" in "".join(text) for _, _, text in part(page, anchor))


def test_invalid_record_is_named(run: Path) -> None:
    (run / "scores" / "ability-grammar-tuned.jsonl").write_text('{"id": 3}\n', encoding="utf-8")
    with pytest.raises(RunError, match=r"ability-grammar-tuned.jsonl:1"):
        write_report(run)


def test_null_figures_are_shown(run: Path) -> None:
    nothing = dict.fromkeys(("base", "tuned", "point", "low95", "high95"))

    def clear(tree: dict[str, Any]) -> None:
        ability = tree["abilities"]["grammar"]
        ability.update(nothing)
        ability["measures"]["probability"].update(nothing)

    edit(run, clear)
    row = page_of(run).tables()[0][2]
    assert row[:6] == ["grammar probability", "60", "–", "–", "–", "–"]


def test_missing_upper_bound_is_infinite(run: Path) -> None:
    edit(run, lambda tree: tree["abilities"]["knowledge"]["measures"]["probability"].update(high95=None))
    assert page_of(run).tables()[0][1][5] == "95.0% to ∞"


def test_deciding_measure_is_shown(run: Path) -> None:
    def lose_health(tree: dict[str, Any]) -> None:
        measures = tree["abilities"]["chat"]["measures"]
        measures["loss"]["status"], measures["healthy"]["status"] = "retained", "lost"

    edit(run, lose_health)
    row = page_of(run).tables()[0][4]
    assert row[0] == "chat healthy" and row[4] == "83.3%"


def test_reading_records_are_those_of_the_score(run: Path) -> None:
    def rename(tree: dict[str, Any]) -> None:
        tree["abilities"]["reading-en"] = tree["abilities"].pop("reading-zh")

    edit(run, rename)
    articles = [text for tag, _, text in part(page_of(run), "ability-reading-en") if tag == "article"]
    assert any("F1" in "".join(text) for text in articles)


def test_candidates_with_lost_abilities_are_marked(run: Path) -> None:
    scores = {"scale": 1.0, "accuracy": 0.5, "f1": 40.0, "em": 30.0, "kept": 0.95}
    candidates = [
        {"checkpoint": "step-20", **scores, "lost": ["grammar"]},
        {"checkpoint": "step-40", **scores, "lost": []},
    ]
    edit(run, lambda tree: tree["chosen"].update(candidates=candidates))
    choice = next(table for table in page_of(run).tables() if table[0][0] == "Checkpoint")
    assert [row[-1] for row in choice[1:]] == ["grammar", "–"]
    assert "| grammar |" in (run / "report.md").read_text(encoding="utf-8")


def test_contest_rule_is_stated(make_run: Callable[..., Path]) -> None:
    page = page_of(make_run(with_suite=True))
    (verdict,) = page.texts("div", "verdict")
    assert "reading alone (contest rule)" in verdict
    assert "grammar, chat" in verdict and "commonsense" in verdict
    (section,) = [text for tag, attributes, text in page.elements if attributes.get("id") == "abilities"]
    assert "not decide the verdict" in "".join(section)


def test_older_run_has_no_suite(finished: Path) -> None:
    page = Page((finished / "report.html").read_text(encoding="utf-8"))
    ids = {attributes["id"] for _, attributes, _ in page.elements if "id" in attributes}
    assert "retention" in ids and not ids & {"abilities", "flipped"}
    (verdict,) = page.texts("div", "verdict")
    assert "reading alone (contest rule)" in verdict
    assert "knowledge" in verdict and "reading-en" not in verdict


def test_result_of_schema_version_1_is_shown(make_run: Callable[..., Path]) -> None:
    run = make_run()

    def age(tree: dict[str, Any]) -> None:
        for key in ("schema_version", "suite", "abilities"):
            del tree[key]
        del tree["gate"]["policy"], tree["retained"]["kl_on_answers"]

    edit(run, age)
    assert "reading alone" in page_of(run).texts("div", "verdict")[0]
