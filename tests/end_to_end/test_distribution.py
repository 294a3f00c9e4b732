"""The sdist, the wheel built from it, and a run with the installed wheel outside the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import time
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
DATA_SUFFIXES = {".json", ".jsonl", ".html", ".txt", ".css", ".js", ".svg", ".typed"}
DOCUMENTS = ["LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "EXTENDING.md", "SECURITY.md", "CITATION.cff"]


def _run(command: list[str | Path], folder: Path) -> str:
    """The standard output of a command that must succeed. It runs in `folder`, and cannot import from the checkout."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    finished = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True, timeout=1800
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, built from a copy, because setuptools writes its build folders beside the source."""
    folder = tmp_path_factory.mktemp("sdist")
    checkout = folder / "checkout"
    checkout.mkdir()
    for name in ("pyproject.toml", "MANIFEST.in", *DOCUMENTS):
        shutil.copy(ROOT / name, checkout)
    shutil.copytree(ROOT / "src", checkout / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copytree(ROOT / "recipes", checkout / "recipes")
    build = f"from setuptools import build_meta; print(build_meta.build_sdist({str(folder)!r}))"
    return folder / _run([sys.executable, "-c", build], checkout).splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that pip builds from the sdist."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    _run([*pip, "--wheel-dir", folder, sdist], folder)
    (path,) = folder.glob("keeptune-*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts folder of a new environment that holds the wheel, and finds its dependencies in this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--no-deps"]
    _run([*pip, wheel], folder)
    purelib = Path(_run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], folder).strip())
    # The path of another environment's packages: its own .pth files, such as an editable install's, are not read.
    dependencies = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    (purelib / "dependencies.pth").write_text("\n".join(dependencies) + "\n", encoding="utf-8")
    return folder / "bin"


def _package_files() -> set[str]:
    """The package's modules and data files, as paths inside a wheel."""
    source = ROOT / "src"
    paths = [path for path in (source / "keeptune").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {str(path.relative_to(source)) for path in paths}


def test_the_wheel_holds_every_module_and_data_file(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        stored = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert stored == _package_files()
    assert {Path(name).suffix for name in stored} == DATA_SUFFIXES | {".py"}


def test_the_sdist_holds_the_package_and_its_documents(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        stored = {name.partition("/")[2] for name in archive.getnames()}
    assert {f"src/{name}" for name in _package_files()} <= stored
    assert set(DOCUMENTS) <= stored
    assert "recipes/quickstart.yaml" in stored


def test_the_installed_wheel_knows_its_version(installed: Path, tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    program = "import keeptune; print(keeptune.__version__); print(keeptune.__file__)"
    version, file = _run([installed / "python", "-c", program], tmp_path).splitlines()
    assert version == project["version"]
    assert Path(file).is_relative_to(installed.parent)
    assert project["version"] in _run([installed / "keeptune", "--version"], tmp_path)


def test_the_installed_wheel_runs_a_recipe(installed: Path, recipe: Path, tmp_path: Path) -> None:
    assert "tokens" in _run([installed / "keeptune", "plan", recipe], tmp_path)
    run = tmp_path / "run"
    _run([installed / "keeptune", "run", recipe, "--run", run], tmp_path)
    assert (run / "report.html").is_file()
    assert (run / "adapter" / "adapter_config.json").is_file()


def test_two_builds_of_a_commit_are_equal(tmp_path: Path) -> None:
    """Built one second apart, with another umask, and from another folder."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout")
    wheels = []
    for umask in ("022", "077"):
        folder = tmp_path / umask
        build = f"umask {umask} && {ROOT / '.ci' / 'wheel.sh'} {folder} {sys.executable}"
        _run(["bash", "-c", build], tmp_path)
        wheels.append(next(folder.glob("*.whl")).read_bytes())
        time.sleep(1)
    assert wheels[0] == wheels[1]
