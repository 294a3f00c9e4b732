"""The names that `import keeptune` offers."""

import importlib
import inspect
import pkgutil
import re
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


def test_export_stays_callable_after_its_package_was_imported() -> None:
    # Python replaces the attribute by the package `keeptune.export`, so the second call failed: 'module' object is not
    # callable. The other names must not share the name of a package either.
    importlib.import_module("keeptune.export.exporter")
    assert all(callable(getattr(keeptune, name)) for name in keeptune.__all__ if name != "__version__")
    packages = {module.name for module in pkgutil.iter_modules(keeptune.__path__)}
    assert packages & set(keeptune.__all__) == {"export"}


def test_export_calls_the_exporter(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = importlib.import_module("keeptune.export.exporter")
    monkeypatch.setattr(exporter, "export", lambda *arguments: list(map(str, arguments)))
    assert keeptune.export("run", "gguf", Path("out"), "q8_0") == ["run", "gguf", "out", "q8_0"]
    assert inspect.signature(keeptune.export).parameters.keys() == {"target", "form", "out", "gguf_type"}


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


@pytest.mark.parametrize("page", ["python.md", "python.zh.md"])
def test_the_reference_page_lists_every_name_with_its_parameters(page: str) -> None:
    # The interface was tested and exported, and no page mentioned it.
    text = (RECIPE.parents[1] / "docs" / "reference" / page).read_text(encoding="utf-8")
    rows = {line.split("`")[1].partition("(")[0]: line for line in text.splitlines() if line.startswith("| `keeptune.")}
    assert set(rows) == {f"keeptune.{name}" for name in keeptune.__all__}
    for name in ("load_recipe", "run", "gate", "evaluate", "export"):
        parameters = set(inspect.signature(getattr(keeptune, name)).parameters) - {"reporter"}
        assert {one for one in parameters if not re.search(rf"\b{one}\b", rows[f"keeptune.{name}"])} == set()
