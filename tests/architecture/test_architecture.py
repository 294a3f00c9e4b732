"""The architecture rules of CONTRIBUTING.md: sizes of files and functions, direction of imports, no torch on import."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "keeptune"

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_TOP_LEVEL_MODULES = 8
MAX_BACK_ARROWS = 4


@cache
def sources() -> dict[Path, str]:
    """The text of each module, by its path below the package."""
    return {path.relative_to(PACKAGE): path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def trees() -> dict[Path, ast.Module]:
    """The syntax tree of each module, by its path below the package."""
    return {path: ast.parse(text) for path, text in sources().items()}


def layer_levels() -> dict[str, int]:
    """The level of each top-level package in the import-linter contract; the command line has the highest one."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = {contract["id"]: contract for contract in settings["tool"]["importlinter"]["contracts"]}
    layers = contracts["layers"]["layers"]
    return {
        name.strip(): len(layers) - place
        for place, layer in enumerate(layers)
        for name in layer.replace("|", ":").split(":")
    }


def top_level_name(module: str) -> str | None:
    """The top-level package of a dotted name inside keeptune; None for any other module and for keeptune itself."""
    parts = module.split(".")
    return parts[1] if parts[0] == "keeptune" and len(parts) > 1 else None


def imported_modules(path: Path, tree: ast.Module) -> set[str]:
    """The absolute names that a module imports anywhere, inside functions included."""
    package = ["keeptune", *path.parent.parts]
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            # `from keeptune import x` names a top-level package only in its second half.
            names |= {f"{origin}.{alias.name}" if origin == "keeptune" else origin for alias in node.names}
    return names


def import_arrows() -> set[tuple[str, str]]:
    """The pairs (importing, imported) of different top-level packages; keeptune's own two root files are left out."""
    arrows = set()
    for path, tree in trees().items():
        importing = path.parts[0].removesuffix(".py")
        if importing.startswith("__"):
            continue
        for module in imported_modules(path, tree):
            imported = top_level_name(module)
            if imported is not None and imported != importing and not imported.startswith("__"):
                arrows.add((importing, imported))
    return arrows


def package_cycle(arrows: set[tuple[str, str]]) -> list[str]:
    """The packages that take part in a cycle of imports; empty where there is none (Kahn's algorithm)."""
    remaining = set(arrows)
    while True:
        importing = {source for source, _ in remaining}
        reduced = {(source, target) for source, target in remaining if target in importing}
        if reduced == remaining:
            return sorted(importing)
        remaining = reduced


def test_files_have_at_most_400_lines() -> None:
    lengths = {str(path): len(text.splitlines()) for path, text in sources().items()}
    assert {path: lines for path, lines in lengths.items() if lines > MAX_FILE_LINES} == {}


def test_functions_have_at_most_60_lines() -> None:
    lengths = {
        f"{path}:{node.lineno} {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for path, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: lines for name, lines in lengths.items() if lines > MAX_FUNCTION_LINES} == {}


def test_the_package_root_holds_at_most_8_modules() -> None:
    modules = [path for path in sources() if len(path.parts) == 1 and not path.name.startswith("__")]
    assert len(modules) <= MAX_TOP_LEVEL_MODULES, sorted(map(str, modules))


def test_each_folder_of_modules_is_a_package() -> None:
    folders = {path.parent for path in sources()}
    assert [str(folder) for folder in folders if folder / "__init__.py" not in sources()] == []


def test_each_top_level_package_has_a_layer() -> None:
    names = {path.parts[0].removesuffix(".py") for path in sources()} - {"__init__", "__main__"}
    assert names == set(layer_levels())


def test_packages_import_in_one_direction() -> None:
    levels, arrows = layer_levels(), import_arrows()
    back = sorted(arrow for arrow in arrows if levels[arrow[0]] <= levels[arrow[1]])
    two_way = sorted(arrow for arrow in arrows if arrow[::-1] in arrows and arrow[0] < arrow[1])
    print(
        f"{len(levels)} top-level packages and modules, {len(arrows)} import arrows, "
        f"{len(back)} back arrows, {len(two_way)} two-way pairs"
    )
    assert two_way == []
    assert len(back) <= MAX_BACK_ARROWS, back
    assert package_cycle(arrows) == []


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("import keeptune.errors", {"keeptune.errors"}),
        ("from keeptune import files", {"keeptune.files"}),
        ("from keeptune.data.row import RawRow", {"keeptune.data.row"}),
        ("from .row import RawRow", {"keeptune.data.row"}),
        ("from ..errors import DataError", {"keeptune.errors"}),
        ("def f():\n    import keeptune.models.load", {"keeptune.models.load"}),
    ],
)
def test_imports_of_every_form_are_found(statement: str, expected: set[str]) -> None:
    assert imported_modules(Path("data/reader.py"), ast.parse(statement)) == expected


def test_a_cycle_of_three_packages_is_found() -> None:
    assert package_cycle({("a", "b"), ("b", "c"), ("c", "d")}) == []
    assert package_cycle({("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")}) == ["a", "b", "c"]


def test_import_keeptune_loads_no_torch() -> None:
    program = "import json, sys, keeptune; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    loaded = {name.split(".")[0] for name in json.loads(run.stdout)}
    assert "keeptune" in loaded
    assert loaded & {"torch", "transformers", "peft", "accelerate", "numpy"} == set()


def test_import_linter_contracts_hold() -> None:
    pytest.importorskip("importlinter")
    program = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr


def auto_class_calls() -> list[tuple[str, ast.Call]]:
    """Each call of `from_pretrained` or `from_config` on one of transformers' Auto classes, with its place."""
    return [
        (f"{path}:{node.lineno}", node)
        for path, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("from_pretrained", "from_config")
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id.startswith("Auto")
    ]


def test_no_model_runs_its_own_code() -> None:
    """F1: without the argument, transformers asks on a terminal, and runs the code of the model folder after a `y`."""
    calls = auto_class_calls()
    assert calls
    refused = {"trust_remote_code": False}
    for place, call in calls:
        values = {word.arg: word.value.value for word in call.keywords if isinstance(word.value, ast.Constant)}
        assert values | refused == values, place
