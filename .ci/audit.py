"""Audits the dependencies in constraints.txt: `audit.py PIP_AUDIT`, or `audit.py --store` to pin their hashes.

pip-audit asks PyPI for known vulnerabilities of each pinned version. Packages for which PyPI gives no answer are
compared with the hashes in package-hashes.txt: with the same hash they are the ones that were audited before.

Exit codes: 0 all packages are audited, 1 vulnerabilities or changed packages, 2 some packages could not be audited.
"""

import base64
import hashlib
import json
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS, HASHES = ROOT / "constraints.txt", Path(__file__).with_name("package-hashes.txt")
PLATFORM = f"{sysconfig.get_platform()} Python {sys.version_info.major}.{sys.version_info.minor}"

WRITTEN_WHEN_INSTALLED = re.compile(
    r"(^|/)(INSTALLER|REQUESTED|RECORD|WHEEL|METADATA|direct_url\.json|.*\.pyc)$|^\.\./"
)
"""Files that differ between installations of the same package: pip writes them, or the tool that built the wheel."""


@dataclass(frozen=True)
class Installed:
    """An installed package: its version, and the hash of its files."""

    version: str
    sha256: str


@dataclass
class Comparison:
    """Package names by the result of the comparison with the stored hashes."""

    same: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    """The same version has other files."""
    unpinned: list[str] = field(default_factory=list)
    """The installed version is not the one in constraints.txt."""
    unknown: list[str] = field(default_factory=list)
    """No hash is stored for this version and platform."""
    absent: list[str] = field(default_factory=list)
    """Not installed. Most of these are optional."""


def pinned() -> dict[str, str]:
    """The version of each package in constraints.txt, by normalized name."""
    lines = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", CONSTRAINTS.read_text(encoding="utf-8"), re.MULTILINE)
    return {normalized(name): version for name, version in lines}


def normalized(name: str) -> str:
    """The name in the form of PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def ask_pip_audit(pip_audit: str) -> list[dict[str, Any]]:
    """What pip-audit says about each pinned package; nothing where it fails."""
    options = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json", "--timeout", "30"]
    command = [pip_audit, "--requirement", str(CONSTRAINTS), *options]
    try:
        finished = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        print(f"pip-audit cannot be run: {error}")
        return []
    try:
        return list(json.loads(finished.stdout)["dependencies"])
    except (ValueError, KeyError):
        print(f"pip-audit did not answer: {finished.stderr.strip().splitlines()[-1:]}")
        return []


def vulnerabilities(answers: Iterable[dict[str, Any]]) -> list[str]:
    """One line per known vulnerability."""
    return [
        f"{package['name']} {package['version']}: {fault['id']}, fixed in {', '.join(fault['fix_versions']) or 'none'}"
        for package in answers
        for fault in package.get("vulns", ())
    ]


def answered(answers: Iterable[dict[str, Any]]) -> set[str]:
    """The packages that PyPI knows. pip-audit skips others, and still reports no vulnerability and exit code 0."""
    return {normalized(package["name"]) for package in answers if "vulns" in package}


def installed_packages(names: Iterable[str]) -> dict[str, Installed]:
    """The installed ones of these packages, by name. Of two with one name, the one that Python imports."""
    wanted = set(names)
    first: dict[str, metadata.Distribution] = {}
    for distribution in metadata.distributions():
        first.setdefault(normalized(distribution.metadata["Name"]), distribution)
    return {name: Installed(one.version, content_hash(one)) for name, one in first.items() if name in wanted}


def content_hash(distribution: metadata.Distribution) -> str:
    """The hash of a package's files: names, and contents as they are now and not as RECORD states them."""
    digest = hashlib.sha256()
    for file in sorted(distribution.files or (), key=str):
        if not WRITTEN_WHEN_INSTALLED.search(file.as_posix()):
            digest.update(f"{file.as_posix()} {file_hash(file)}\n".encode())
    return digest.hexdigest()


def file_hash(file: metadata.PackagePath) -> str:
    """The hash of a file as RECORD writes it, or `missing`."""
    path = Path(str(file.locate()))
    if not path.is_file():
        return "missing"
    return base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()


def changed_files(distribution: metadata.Distribution) -> list[str]:
    """The files that are no longer as they were installed, by the hashes of RECORD."""
    files = [file for file in distribution.files or () if file.hash and file.hash.mode == "sha256"]
    return [file.as_posix() for file in files if file_hash(file) != file.hash.value]


def read_hashes() -> dict[str, dict[str, str]]:
    """By platform, the hash of each `NAME==VERSION` in package-hashes.txt."""
    sections: dict[str, dict[str, str]] = {}
    for line in HASHES.read_text(encoding="utf-8").splitlines() if HASHES.is_file() else ():
        if line.startswith("# "):
            section = sections.setdefault(line.removeprefix("# "), {})
        else:
            package, sha256 = line.split(" ")
            section[package] = sha256
    return sections


def public(version: str) -> str:
    """The version without a build's label, such as `+cpu`."""
    return version.partition("+")[0]


def classify(pins: dict[str, str], installed: dict[str, Installed], stored: dict[str, str]) -> Comparison:
    """Compares installed packages with their pinned versions and stored hashes."""
    result = Comparison()
    for name, version in pins.items():
        package = installed.get(name)
        if package is None:
            result.absent.append(name)
        elif public(package.version) != public(version):
            result.unpinned.append(name)
        elif (sha256 := stored.get(f"{name}=={package.version}")) is None:
            result.unknown.append(name)
        else:
            (result.same if sha256 == package.sha256 else result.changed).append(name)
    return result


def store() -> int:
    """Writes this platform's section of package-hashes.txt, and returns the exit code."""
    pins = pinned()
    installed = installed_packages(pins)
    result = classify(pins, installed, {})
    sections = read_hashes()
    sections[PLATFORM] = {
        f"{name}=={installed[name].version}": installed[name].sha256 for name in sorted(result.unknown)
    }
    lines = [
        line
        for platform, hashes in sorted(sections.items())
        for line in (f"# {platform}", *(f"{package} {sha256}" for package, sha256 in hashes.items()))
    ]
    HASHES.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(result.unknown)} hashes stored for {PLATFORM}")
    report("not installed, so no hash is stored", result.absent)
    report("not stored, because the installed version is not the one in constraints.txt", result.unpinned)
    return 2 if result.unpinned else 0


def report(message: str, names: list[str]) -> None:
    """Prints the message with the number of packages and their names, if there are any."""
    if names:
        print(f"{len(names)} {message}: {', '.join(sorted(names))}")


def compare(pins: dict[str, str]) -> int:
    """Compares the installed ones of these packages with package-hashes.txt, and returns the exit code."""
    sections = read_hashes()
    if PLATFORM not in sections:
        print(f"package-hashes.txt has hashes for {', '.join(sections) or 'no platform'}. This is {PLATFORM}.")
        print("audit the packages, and run audit.py --store")
        return 2
    result = classify(pins, installed_packages(pins), sections[PLATFORM])
    print(f"{len(result.same)} packages have their stored hashes")
    report("not installed, so not compared", result.absent)
    report("with another version than constraints.txt; install that one", result.unpinned)
    report("without a stored hash; audit them, and run audit.py --store", result.unknown)
    for name in result.changed:
        files = ", ".join(changed_files(metadata.distribution(name))[:5])
        print(f"{name}: differs from the audited package ({files or 'another build, or RECORD changed'})")
    if result.changed:
        print("install them again; if they still differ, audit them and run audit.py --store")
    return 1 if result.changed else 2 if result.unknown or result.unpinned else 0


def main() -> int:
    """Audits, and returns the exit code."""
    if sys.argv[1:] == ["--store"]:
        return store()
    answers, pins = ask_pip_audit(sys.argv[1]), pinned()
    found, known = vulnerabilities(answers), answered(answers)
    print("\n".join(found) or f"no known vulnerability in the {len(known)} packages that PyPI answered for")
    rest = {name: version for name, version in pins.items() if name not in known}
    if rest:
        print(f"PyPI did not answer for {len(rest)} of {len(pins)} packages; these are compared with stored hashes")
    code = compare(rest) if rest else 0
    return 1 if found else code


if __name__ == "__main__":
    sys.exit(main())
