"""The audit of the dependencies, without PyPI: what counts as audited, and which change of a file it finds."""

import importlib.util
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / ".ci" / "audit.py"


@pytest.fixture(scope="module")
def audit() -> Any:
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["audit"] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def package(tmp_path: Path, audit: Any) -> metadata.Distribution:
    """An installed package of one module, with a RECORD as pip writes it."""
    information = tmp_path / "one-1.0.dist-info"
    information.mkdir()
    (tmp_path / "one.py").write_text("print(1)\n", encoding="utf-8")
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: one\nVersion: 1.0\n", encoding="utf-8")
    (information / "WHEEL").write_text("Generator: setuptools (84.2.1)\n", encoding="utf-8")
    names = ["one.py", "one-1.0.dist-info/METADATA", "one-1.0.dist-info/WHEEL"]
    record = information / "RECORD"
    record.write_text("".join(f"{name},,\n" for name in names), encoding="utf-8")
    hashes = {str(file): audit.file_hash(file) for file in metadata.Distribution.at(information).files or ()}
    record.write_text("".join(f"{name},sha256={hashes[name]},1\n" for name in names), encoding="utf-8")
    return metadata.Distribution.at(information)


def test_a_changed_byte_is_found_and_named(audit: Any, package: metadata.Distribution, tmp_path: Path) -> None:
    before = audit.content_hash(package)
    assert audit.changed_files(package) == []
    (tmp_path / "one.py").write_text("print(2)\n", encoding="utf-8")
    assert audit.content_hash(package) != before
    assert audit.changed_files(package) == ["one.py"]


def test_a_removed_file_is_found_and_named(audit: Any, package: metadata.Distribution, tmp_path: Path) -> None:
    """It ended in a traceback."""
    before = audit.content_hash(package)
    (tmp_path / "one.py").unlink()
    assert audit.content_hash(package) != before
    assert audit.changed_files(package) == ["one.py"]


def test_the_tool_that_built_a_wheel_is_no_change(audit: Any, package: metadata.Distribution, tmp_path: Path) -> None:
    """pip builds packages without wheels with the setuptools of the day, which writes its version into WHEEL."""
    before = audit.content_hash(package)
    (tmp_path / "one-1.0.dist-info" / "WHEEL").write_text("Generator: setuptools (85.0.0)\n", encoding="utf-8")
    assert audit.content_hash(package) == before


def test_packages_are_classified(audit: Any) -> None:
    pins = dict.fromkeys(("same", "changed", "local", "newer", "unknown", "absent"), "1.0")
    installed = {name: audit.Installed("1.0", "aa") for name in pins if name != "absent"}
    installed |= {"newer": audit.Installed("1.1", "aa"), "local": audit.Installed("1.0+cpu", "aa")}
    stored = {"same==1.0": "aa", "changed==1.0": "bb", "local==1.0+cpu": "aa", "newer==1.0": "aa", "absent==1.0": "aa"}
    result = audit.classify(pins, installed, stored)
    assert result.same == ["same", "local"]
    assert result.changed == ["changed"]
    assert (result.unpinned, result.unknown, result.absent) == (["newer"], ["unknown"], ["absent"])


def test_skipped_packages_are_not_audited(audit: Any) -> None:
    """Where PyPI's answers are out of reach, pip-audit skips every package and reports no known vulnerability."""
    fault = {"id": "PYSEC-1", "fix_versions": ["2.0"]}
    answers = [
        {"name": "a_b", "version": "1.0", "vulns": []},
        {"name": "c", "version": "1.0", "vulns": [fault]},
        {"name": "d", "skip_reason": "Dependency not found on PyPI and could not be audited: d (1.0)"},
    ]
    assert audit.answered(answers) == {"a-b", "c"}
    assert audit.vulnerabilities(answers) == ["c 1.0: PYSEC-1, fixed in 2.0"]


@pytest.fixture
def elsewhere(audit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Hashes in a file of the test, and constraints with one package that is installed and one that is not."""
    constraints = tmp_path / "constraints.txt"
    constraints.write_text(f"pytest=={metadata.version('pytest')}\nno.such_package==1.0\n", encoding="utf-8")
    monkeypatch.setattr(audit, "CONSTRAINTS", constraints)
    monkeypatch.setattr(audit, "HASHES", tmp_path / "hashes.txt")
    return tmp_path / "hashes.txt"


def test_stored_hashes_are_found_again(audit: Any, elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere.write_text("# macosx-14.0-arm64 Python 3.11\npytest==1.0 aa\n", encoding="utf-8")
    assert audit.compare(audit.pinned()) == 2
    assert "macosx-14.0-arm64" in capsys.readouterr().out
    assert audit.store() == 0
    assert "no-such-package" in capsys.readouterr().out
    assert set(audit.read_hashes()) == {"macosx-14.0-arm64 Python 3.11", audit.PLATFORM}
    assert audit.compare(audit.pinned()) == 0
    text = elsewhere.read_text(encoding="utf-8")
    elsewhere.write_text(text.replace(audit.read_hashes()[audit.PLATFORM].popitem()[1], "bb"), encoding="utf-8")
    assert audit.compare(audit.pinned()) == 1
    assert "pytest: differs" in capsys.readouterr().out


def test_the_stored_hashes_are_of_pinned_versions(audit: Any) -> None:
    """`make audit` would otherwise say of each changed version that no hash is stored."""
    pins = audit.pinned()
    for hashes in audit.read_hashes().values():
        for package in hashes:
            name, _, version = package.partition("==")
            assert pins.get(name) == audit.public(version), f"{package} is not in constraints.txt"


def test_of_two_copies_the_imported_one_counts(
    audit: Any, package: metadata.Distribution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy in a folder of PYTHONPATH is imported, and the intact one in site-packages was compared."""
    original = audit.content_hash(package)
    (tmp_path / "copy").mkdir()
    for name in ("one.py", "one-1.0.dist-info"):
        (tmp_path / name).rename(tmp_path / "copy" / name)
    for folder, text in (("site", "print(1)\n"), ("changed", "print(2)\n")):
        shutil.copytree(tmp_path / "copy", tmp_path / folder)
        (tmp_path / folder / "one.py").write_text(text, encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path / folder)
    assert audit.installed_packages(["one"])["one"].sha256 != original


def test_without_pip_audit_the_hashes_decide(audit: Any, tmp_path: Path) -> None:
    assert audit.ask_pip_audit(str(tmp_path / "pip-audit")) == []
