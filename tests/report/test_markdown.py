"""report.md as GitHub renders it: tables stay intact with any cell text."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from keeptune.report.markdown import fenced, plain, table
from keeptune.report.wording import POLICIES

GITHUB = MarkdownIt("commonmark").enable("table")
NEAR_MARKUP = st.text(st.sampled_from("ab|\\`*_[]()<>&#~!\n-0 $末"))


def tables(tokens: Sequence[Token]) -> list[list[list[str]]]:
    """The rendered cells of each table."""
    cells: list[list[list[str]]] = []
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        if token.type == "table_open":
            cells.append([])
        elif token.type == "tr_open":
            cells[-1].append([])
        elif token.type in ("td_open", "th_open") and following is not None:
            cells[-1][-1].append(seen(following))
    return cells


def seen(inline: Token) -> str:
    """The text of a line, with line breaks; any other markup is an error."""
    children = inline.children or []
    assert {child.type for child in children} <= {"text", "text_special", "html_inline", "code_inline"}, inline.content
    html = [child.content for child in children if child.type == "html_inline"]
    assert set(html) <= {"<br>"}
    return "".join("\n" if child.type == "html_inline" else child.content for child in children)


def test_markdown_has_the_figures_of_the_page(finished: Path, hostile: str) -> None:
    tokens = GITHUB.parse((finished / "report.md").read_text(encoding="utf-8"))
    headline, kinds, policies, sources, reading, predicted, rows, rejected, stages, facts = tables(tokens)
    assert headline[2] == ["Skill after", "66.7%", "30.0% to 90.3%"]
    assert kinds[3] == ["equation", "3", "33.3%", "6.1% to 79.2%", "33.3%", "6.1% to 79.2%"]
    assert policies[2] == [f"exact: {POLICIES['exact']}", "16.7%", "50.0%"]
    assert sources[-1] == ["did not stop within the token budget", "0", "1"]
    assert reading[2] == ["squad-v1.1, few-shot prompt, tuned", "56.2", "50.0", "4", "1 (25.0%)", "0"]
    assert reading[6][0] == "squad-v1.1, contest prompt, tuned"
    assert reading[6][3:] == ["2", "1 (50.0%)", "0"]
    assert [row[0] for row in predicted[1:]] == [
        "loss on general text",
        "KL from the base on general text",
        "KL from the base on the skill’s prompts",
    ]
    assert predicted[1][1:] == ["3.000", "3.100", "+0.100 (+0.100 to +0.100)", "10"]
    assert predicted[3][1:] == ["0", "2.000", "2.000 to 2.000", "11"]
    assert rows[1] == ["add", "4,000", "3,000", "900", "800", "60", "2"]
    assert rejected[2] == [f"unknown {hostile}".replace("\u2028", "\n"), "2"]
    assert stages[-1] == ["all", "2 min 38 s"]
    assert ["seed", "0"] in facts
    assert all(len(row) == len(one[0]) for one in tables(tokens) for row in one)
    titles = [after.content for token, after in pairwise(tokens) if token.type == "heading_open"]
    assert titles[1:] == ["Skill", "Retention", "Data", "Training and environment"]
    (prompt,) = [token.content for token in tokens if token.type == "fence"]
    assert prompt == "Question: {problem}\nAnswer | `here`:\n\n"
    assert not [token for token in tokens if token.type == "html_block"]


@given(st.lists(NEAR_MARKUP, min_size=2, max_size=2))
def test_table_cells_accept_any_text(texts: list[str]) -> None:
    (one,) = tables(GITHUB.parse(table(["a", "b"], [[plain(text) for text in texts]])))
    assert [" ".join(cell.split()) for cell in one[1]] == [" ".join(text.split()) for text in texts]


@given(NEAR_MARKUP)
def test_code_blocks_accept_any_text(text: str) -> None:
    (token,) = GITHUB.parse(fenced(text))
    assert (token.type, token.content) == ("fence", f"{text}\n")
