"""The reference pages describe the code as it is: every key, default and option."""

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
