"""The reference pages describe the code as it is: every key, default and option."""

import re
from pathlib import Path

import pytest

from keeptune.cli import VERBS
from keeptune.cli.reference import PLACE, cli_page, pages, recipe_page
from keeptune.config.aliases import ALIASES
from keeptune.config.recipe import Recipe
from keeptune.config.section import Section

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", sorted(pages()))
def test_the_committed_page_is_fresh(name: str) -> None:
    committed = (ROOT / PLACE / name).read_text(encoding="utf-8")
    assert committed == pages()[name], "run `make reference` and commit the pages"


def test_every_key_has_a_description_and_a_row() -> None:
    page, sections = recipe_page(), [Recipe]
    for section in Section.__subclasses__():
        sections += [section] if section is not Recipe else []
    for section in sections:
        assert (section.__doc__ or "").splitlines()[0] in page
        for key, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{key} has no description"
            assert f"| `{key}` |" in page
    assert all(f"| `{old}` | `{new}` |" in page for old, new in ALIASES.items())


def test_every_command_has_its_options() -> None:
    page = cli_page()
    assert all(f"## `keeptune {verb}`" in page for verb in VERBS)
    for option in ("--run", "--set", "--json", "--vary", "--retained", "--to"):
        assert f"| `{option}` |" in page


def table_cells(page: str) -> list[list[str]]:
    return [re.split(r"(?<!\\)\|", line)[1:-1] for line in page.splitlines() if line.startswith("| `")]


def test_a_default_of_zero_is_shown() -> None:
    # 0 equals False, so the column was empty for --seed and --bad-share.
    defaults = {cells[0].strip(): cells[2].strip() for cells in table_cells(cli_page()) if len(cells) == 4}
    assert (defaults["`--seed`"], defaults["`--bad-share`"], defaults["`--json`"]) == ("`0`", "`0.0`", "")


@pytest.mark.parametrize("name", sorted(pages()))
def test_no_cell_is_cut_by_a_bar_and_no_code_is_empty(name: str) -> None:
    # A metavar with bars made a row of six cells, and an empty default an empty code span.
    assert {len(cells) for cells in table_cells(pages()[name])} <= {2, 4}
    assert "| `` |" not in pages()[name]
