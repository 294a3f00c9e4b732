"""The names that `import keeptune` offers."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import keeptune
from keeptune.config.recipe import Recipe
from keeptune.errors import RecipeError

RECIPE = Path(__file__).parents[1] / "recipes" / "quickstart.yaml"


def test_importing_loads_no_torch() -> None:
    code = "import sys, keeptune; keeptune.__version__; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def test_every_public_name_exists() -> None:
    assert {name: hasattr(keeptune, name) for name in keeptune.__all__} == dict.fromkeys(keeptune.__all__, True)
    assert dir(keeptune) == sorted(keeptune.__all__)


def test_version_is_that_of_the_package() -> None:
    assert keeptune.__version__ == metadata.version("keeptune")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError):
        keeptune.nothing  # noqa: B018


def test_load_recipe_takes_a_path_as_text_and_overrides() -> None:
    recipe = keeptune.load_recipe(str(RECIPE), "train.epochs=2")
    assert isinstance(recipe, Recipe)
    assert recipe.train.epochs == 2


def test_load_recipe_refuses_an_unknown_key() -> None:
    with pytest.raises(RecipeError):
        keeptune.load_recipe(RECIPE, "train.epoch=2")
