"""Relative links and anchors of the documentation, and paths of the repository that it mentions."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("README*.md"), *ROOT.glob("adapters/*/README.md"), *DOCS.rglob("*.md")])

FENCE = re.compile(r"^\s*(```|~~~)")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`[^`]*`")
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$")
REPOSITORY_PATH = re.compile(r"`((?:src/keeptune|tests|bench|recipes|adapters|results)/[\w./-]*)`")
DECISIONS = DOCS / "decisions"
"""Decision records are in English only, and are not part of the site."""


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@cache
def prose(page: Path) -> tuple[str, ...]:
    """The lines outside code blocks."""
    lines, inside_code = [], False
    for line in page.read_text(encoding="utf-8").splitlines():
        if FENCE.match(line):
            inside_code = not inside_code
        elif not inside_code:
            lines.append(line)
    return tuple(lines)


@cache
def anchors(page: Path) -> frozenset[str]:
    """The anchors that GitHub gives to the page's headings: lower case, spaces as hyphens, no punctuation."""
    counts: Counter[str] = Counter()
    found = set()
    for line in prose(page):
        if match := HEADING.match(line):
            text = LINK.sub(lambda link: link[0].split("]")[0].lstrip("!["), match[1])
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            found.add(f"{slug}-{counts[slug]}" if counts[slug] else slug)
            counts[slug] += 1
    return frozenset(found)


def links(page: Path) -> list[str]:
    """Targets of the page's relative links."""
    targets = [target for line in prose(page) for target in LINK.findall(CODE.sub("", line))]
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_relative_links_and_anchors_exist(page: Path) -> None:
    broken = []
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_paths_of_the_repository_exist(page: Path) -> None:
    paths = {path for line in prose(page) for path in REPOSITORY_PATH.findall(line)}
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


SOURCE = ROOT / "src" / "keeptune"
ARCHITECTURE = [DOCS / "architecture.md", DOCS / "architecture.zh.md"]
SUMMARIZED = {"evaluation/abilities", "grading/graders", "skills/corpora", "skills/arithmetic/digits"}
"""Folders whose modules the source tree describes together."""


def modules_in_source_tree(page: Path) -> set[str]:
    """The modules that the source tree of the page names, as paths below src/keeptune."""
    folders: list[str] = []
    modules = set()
    for line in page.read_text(encoding="utf-8").partition("```text")[2].partition("```")[0].splitlines():
        if entry := re.match(r"((?:│   |    )*)[├└]── (?:(\w+)/)?", line):
            folders = [*folders[: len(entry[1]) // 4], *filter(None, [entry[2]])]
        modules |= {"/".join([*folders, name]) for name in re.findall(r"\w+\.py\b", line)}
    return modules


@pytest.mark.parametrize("page", ARCHITECTURE, ids=name)
def test_the_source_tree_names_modules_in_their_folders(page: Path) -> None:
    # A module that had moved to another package was still listed in the old one.
    assert [module for module in sorted(modules_in_source_tree(page)) if not (SOURCE / module).is_file()] == []


@pytest.mark.parametrize("page", ARCHITECTURE, ids=name)
def test_the_source_tree_names_every_module(page: Path) -> None:
    modules = {path.relative_to(SOURCE) for path in SOURCE.rglob("*.py") if path.name != "__init__.py"}
    expected = {module.as_posix() for module in modules if module.parent.as_posix() not in SUMMARIZED}
    assert expected - modules_in_source_tree(page) == set()


def is_translated(page: Path) -> bool:
    """Whether a page is for users. Adapter cards and decision records are in English only."""
    return page.parent.parent.name != "adapters" and page.parent != DECISIONS


ENGLISH_PAGES = [page for page in PAGES if not page.name.endswith(".zh.md") and is_translated(page)]


@pytest.mark.parametrize("page", ENGLISH_PAGES, ids=name)
def test_each_page_has_a_chinese_version(page: Path) -> None:
    assert page.with_suffix(".zh.md").is_file()


@pytest.mark.parametrize("page", ["recipe", "cli"])
def test_the_chinese_reference_has_the_keys_and_defaults_of_the_generated_one(page: str) -> None:
    english, chinese = (table_rows(DOCS / "reference" / f"{page}{suffix}") for suffix in (".md", ".zh.md"))
    assert chinese == english


def table_rows(page: Path) -> list[tuple[str, str]]:
    """First and third cell of each table row, or the second where there are two; without the words of a language."""
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in prose(page) if line.startswith("| `")]
    return [(cells[0].strip(), "".join(CODE.findall(cells[2 if len(cells) > 2 else 1]))) for cells in rows]


def test_pages_of_the_site_link_only_to_pages_of_the_site() -> None:
    outside = [
        f"{name(page)}: {target}"
        for page in PAGES
        if DOCS in page.parents and page.parent != DECISIONS
        for target in links(page)
        if not (page.parent / target.partition("#")[0]).resolve().is_relative_to(DOCS)
    ]
    assert outside == []


def test_the_readmes_are_short() -> None:
    for page in ROOT.glob("README*.md"):
        assert len(page.read_text(encoding="utf-8").splitlines()) <= 180, page.name
