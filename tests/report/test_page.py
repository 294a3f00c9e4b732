"""The page: its figures, its escaping of untrusted texts, and its errors for incomplete runs."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from report.page_parser import Page, words_of

from keeptune.errors import RunError
from keeptune.report.page import write_report
from keeptune.report.wording import POLICIES

ADDRESS = {"src", "href", "xlink:href", "srcset", "action", "data", "poster", "background"}


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    tree = json.loads(path.read_text(encoding="utf-8"))
    edit(tree)
    path.write_text(json.dumps(tree), encoding="utf-8")


def page_of(run: Path) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(finished: Path) -> Page:
    """The page of a run that no test changes."""
    return Page((finished / "report.html").read_text(encoding="utf-8"))


def test_page_starts_with_verdict_and_headline_figures(finished: Path, page: Page) -> None:
    result = json.loads((finished / "result.json").read_text(encoding="utf-8"))
    (verdict,) = page.texts("div", "verdict")
    assert "Undecided" in verdict and result["gate"]["reason"] in verdict
    skill, retained, parameters, contest = (" ".join(text.split()) for text in page.texts("dd", "figure"))
    assert skill == "16.7% → 66.7%"
    assert retained == f"{result['retained']['ratio']['f1']['point']:.1%}"
    assert parameters == "4,884,480"
    assert contest == f"{result['contest']['phase1']:.4f}"
    assert "3.0% to 56.4%, then 30.0% to 90.3%" in words_of(page)


@pytest.mark.parametrize(("verdict", "word"), [("pass", "Passed"), ("fail", "Failed"), ("undecided", "Undecided")])
def test_verdict_is_a_word_and_not_only_a_color(run: Path, verdict: str, word: str) -> None:
    change(run / "result.json", lambda result: result["gate"].update(verdict=verdict))
    page = page_of(run)
    assert page.texts("h2")[0] == word
    assert page.texts("div", verdict)
    assert page.texts("title")[0].startswith(f"{word}: ")


def test_tables_have_all_figures(page: Page) -> None:
    tables = page.tables()
    kinds, policies, sources, reading, predicted, dev, rows, parts, rejected, stages = tables
    assert kinds[1] == ["all", "6", "16.7%", "66.7%", "3.0% to 56.4%", "30.0% to 90.3%"]
    assert [row[0] for row in kinds[2:]] == ["add", "english", "equation"]
    assert kinds[4][1:4] == ["3", "33.3%", "33.3%"]
    assert [row[0] for row in policies[2:4]] == [
        f"exact {POLICIES['exact']}",
        f"rounded_as_given {POLICIES['rounded_as_given']}",
    ]
    assert policies[2][1:] == ["16.7%", "50.0%"]
    assert sources[1] == ["after the final-answer marker ####", "1", "3"]
    assert sources[-1] == ["did not stop within the token budget", "0", "1"]
    assert [row[0] for row in reading[1:]] == [
        f"{metric}, {prompt} prompt, {who}"
        for prompt in ("few-shot", "contest")
        for metric in ("squad-v1.1", "contest")
        for who in ("base", "tuned")
    ]
    assert reading[2][1:] == ["56.2", "50.0", "4", "1 (25.0%)", "0"]
    assert predicted[1] == ["loss on general text", "3.000", "3.100", "+0.100 (+0.100 to +0.100)", "10"]
    assert predicted[2] == ["KL from the base on general text", "0", "0.200", "0.200 to 0.200", "11"]
    assert dev[1] == ["10", "52.8%", "47.0", "34.8"]
    assert rows[1] == ["add", "4,000", "2", "0", "3,000", "900", "800", "60", "2", "24.5 / 31", "96 / 1,210", "5 / 28"]
    assert parts[1] == ["train", "2,400", "288,000"]
    assert rejected[1] == ["wrong answer", "5"]
    assert stages[2][:3] == ["train", "1 min 32 s", "58%"]


def test_page_names_all_inputs_of_the_run(finished: Path, page: Page) -> None:
    manifest = json.loads((finished / "manifest.json").read_text(encoding="utf-8"))
    words = words_of(page)
    for fact in (
        *manifest["hashes"].values(),
        manifest["git"]["commit"],
        "with changes",
        manifest["command"],
        manifest["platform"],
        "torch 2.13.0",
        "2025-01-02 02:04:05 UTC",
        "ab" * 32,
        "rows|1.jsonl",
        "learning_rate 0.001",
        "quota.add 90",
        "checkpoint_every_steps 50",
        "0.036311785",
        "step-40",
    ):
        assert fact in words


def test_hostile_texts_are_escaped(page: Page, hostile: str) -> None:
    tags = {tag for tag, _, _ in page.elements}
    assert not tags & {"script", "img", "iframe", "link", "object", "base", "form", "foreignobject"}
    assert not any(name.startswith("on") for _, attributes, _ in page.elements for name in attributes)
    assert page.texts("h1") == [f"runs {hostile}"]
    assert f"What is {hostile}?" in page.texts("p", "problem")


def test_outputs_keep_their_white_space(finished: Path, page: Page) -> None:
    # A browser drops the first line end inside <pre>.
    shown = [text.removeprefix("\n") for text in page.texts("pre")]
    outputs = [record["output"] for record in records(finished / "scores" / "skill-tuned.jsonl")]
    assert [output for output in outputs if output and output not in shown] == []
    assert "  1.10\n+ 2.20\n\n#### 3.30" in shown
    assert "Question: {problem}\nAnswer | `here`:\n" in shown
    reading = [record["prompt"] for record in records(finished / "scores" / "retained-tuned.jsonl")]
    assert set(reading) <= set(shown)


def test_page_has_no_external_references(page: Page) -> None:
    ids = [attributes["id"] for _, attributes, _ in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes, _ in page.elements:
        for name, value in attributes.items():
            assert "://" not in value and not value.startswith("//"), (name, value)
            if name in ADDRESS:
                assert value.startswith("#") and value[1:] in ids, (name, value)
            assert set(re.findall(r"url\(#([^)]*)\)", value)) <= set(ids)
            assert "url(" not in value.replace("url(#", "")
    for style in page.texts("style"):
        assert "url(" not in style and "@import" not in style


def test_plots_have_text_alternatives(page: Page) -> None:
    pictures = [attributes for tag, attributes, _ in page.elements if tag == "svg"]
    assert len(pictures) == 1 + 1 + 4 + 1
    assert all(picture["role"] == "img" and picture["aria-label"] for picture in pictures)


def test_report_is_reproducible(finished: Path) -> None:
    before = [(finished / name).read_bytes() for name in ("report.html", "report.md")]
    write_report(finished)
    assert [(finished / name).read_bytes() for name in ("report.html", "report.md")] == before


def test_chinese_texts_have_a_language(page: Page) -> None:
    problems = [attributes for _, attributes, _ in page.elements if attributes.get("class") == "problem"]
    assert sum(attributes.get("lang") == "zh" for attributes in problems) == 7


def test_missing_dev_scores_and_steps_are_stated(make_run: Callable[..., Path]) -> None:
    page = page_of(make_run(score_every=0, step_count=0))
    assert "train.score_every_steps" in words_of(page)
    assert "log.jsonl has no losses" in words_of(page)


def test_missing_ratio_and_bound_are_stated(run: Path) -> None:
    nothing = {"point": float("nan"), "low95": 0.0, "high95": float("inf")}
    change(run / "result.json", lambda result: result["retained"]["ratio"].update(em=nothing))
    assert "EM – (0.0% to ∞)" in words_of(page_of(run))


def test_no_commit_outside_a_checkout(run: Path) -> None:
    change(run / "manifest.json", lambda manifest: manifest.update(git=None))
    assert "commit" not in words_of(page_of(run))


@pytest.mark.parametrize(
    "name",
    [
        "result.json",
        "recipe.yaml",
        "manifest.json",
        "data/card.json",
        "scores/skill-base.jsonl",
        "scores/skill-tuned.jsonl",
        "scores/retained-base.jsonl",
        "scores/retained-tuned.jsonl",
    ],
)
def test_missing_file_is_named(run: Path, name: str) -> None:
    (run / name).unlink()
    with pytest.raises(RunError, match=re.escape(f"{run / name}: missing")):
        write_report(run)
    assert not (run / "report.html").exists()


def test_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="nowhere: no such run"):
        write_report(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "text", "where"),
    [
        ("result.json", "{", "result.json: cannot be used"),
        ("result.json", "{}", "result.json: cannot be used (name: Field required"),
        ("recipe.yaml", "a: [", "recipe.yaml: cannot be used"),
        ("recipe.yaml", "3", "recipe.yaml: cannot be used (it is not a mapping"),
        ("log.jsonl", '{"event": "stage"}\n', "log.jsonl:1: damaged (stage: Field"),
        ("log.jsonl", '{"event": "score", "step": 1}\n', "log.jsonl:1: damaged (skill: Field"),
        ("scores/skill-tuned.jsonl", '{"id": "a"}', "skill-tuned.jsonl:1: cannot be used (kind: Field required"),
    ],
)
def test_damaged_file_is_named_with_its_location(run: Path, name: str, text: str, where: str) -> None:
    (run / name).write_text(text, encoding="utf-8")
    with pytest.raises(RunError, match=re.escape(where)):
        write_report(run)


def _luminance(colour: str) -> float:
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * channel for weight, channel in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _contrast(one: str, other: str) -> float:
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_text_colors_have_enough_contrast(page: Page) -> None:
    """4.5 : 1, level AA of WCAG 2.2."""
    (style,) = page.texts("style")
    roots = re.findall(r":root \{(.*?)\n *\}", style, re.DOTALL)
    light = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", roots[0]))
    dark = {**light, **dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", roots[1]))}
    assert light["page"] != dark["page"]
    for colours in (light, dark):
        for name in ("ink", "muted", "base", "tuned", "third", "right", "wrong"):
            for ground in ("page", "card"):
                assert _contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
        for verdict in ("pass", "fail", "undecided"):
            assert _contrast(colours["on-verdict"], colours[verdict]) >= 4.5, verdict
