"""Audits the dependencies in constraints.txt: `audit.py PIP_AUDIT`, or `audit.py --store` to pin their hashes.

pip-audit asks PyPI for known vulnerabilities of each pinned version. Where PyPI cannot be reached, the installed
packages are compared with the hashes in package-hashes.txt: they are then the ones that were audited before.

Exit codes: 0 nothing found, 1 vulnerabilities or other packages, 2 not possible on this platform.
"""

import base64
import hashlib
import json
import re
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS, HASHES = ROOT / "constraints.txt", Path(__file__).with_name("package-hashes.txt")
PLATFORM = f"{sysconfig.get_platform()} Python {sys.version_info.major}.{sys.version_info.minor}"

WRITTEN_BY_PIP = re.compile(r"(^|/)(INSTALLER|REQUESTED|RECORD|direct_url\.json|.*\.pyc)$|^\.\./")
"""Files that differ between installations of the same wheel."""


def pinned() -> dict[str, str]:
    """The version of each package in constraints.txt, by normalized name."""
    lines = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", CONSTRAINTS.read_text(encoding="utf-8"), re.MULTILINE)
    return {normalized(name): version for name, version in lines}


def normalized(name: str) -> str:
    """The name in the form of PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def known_vulnerabilities(pip_audit: str) -> list[str] | None:
    """The vulnerabilities of the pinned versions; None where they cannot be asked for."""
    options = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json", "--timeout", "30"]
    command = [pip_audit, "--requirement", str(CONSTRAINTS), *options]
    finished = subprocess.run(command, capture_output=True, text=True)
    try:
        packages = json.loads(finished.stdout)["dependencies"]
    except (ValueError, KeyError):
        print(f"pip-audit did not answer: {finished.stderr.strip().splitlines()[-1:]}")
        return None
    return [
        f"{package['name']} {package['version']}: {fault['id']}, fixed in {', '.join(fault['fix_versions']) or 'none'}"
        for package in packages
        for fault in package.get("vulns", ())
    ]


def installed_hashes() -> dict[str, str]:
    """`NAME==VERSION` → hash of all installed files, for the packages in constraints.txt."""
    names, hashes = pinned(), {}
    for distribution in metadata.distributions():
        name = normalized(distribution.metadata["Name"])
        if name in names and distribution.files:
            hashes[f"{name}=={distribution.version}"] = content_hash(distribution)
    return hashes


def content_hash(distribution: metadata.Distribution) -> str:
    """The hash of a package's files: names, and contents as they are now and not as RECORD states them."""
    digest = hashlib.sha256()
    for file in sorted(distribution.files or (), key=str):
        if WRITTEN_BY_PIP.search(file.as_posix()):
            continue
        content = Path(str(file.locate())).read_bytes()
        digest.update(f"{file.as_posix()} {base64.b64encode(hashlib.sha256(content).digest()).decode()}\n".encode())
    return digest.hexdigest()


def store() -> None:
    """Writes package-hashes.txt."""
    lines = [f"{package} {sha256}" for package, sha256 in sorted(installed_hashes().items())]
    HASHES.write_text("\n".join([f"# {PLATFORM}", *lines]) + "\n", encoding="utf-8")


def compare() -> int:
    """Compares the installed packages with package-hashes.txt, and returns the exit code."""
    if not HASHES.is_file():
        print("there is no package-hashes.txt: audit the packages, then run audit.py --store")
        return 2
    first, *lines = HASHES.read_text(encoding="utf-8").splitlines()
    if first != f"# {PLATFORM}":
        print(f"package-hashes.txt is for {first.removeprefix('# ')}, and this is {PLATFORM}: nothing is compared")
        return 2
    expected = dict(line.split(" ") for line in lines)
    differing = [name for name, sha256 in installed_hashes().items() if expected.get(name) != sha256]
    print(f"{len(lines) - len(differing)} packages have their pinned hashes")
    for name in differing:
        print(f"{name}: not the pinned package; install it again, or audit it and run audit.py --store")
    return 1 if differing else 0


def main() -> int:
    """Audits, and returns the exit code."""
    if sys.argv[1:] == ["--store"]:
        store()
        return 0
    found = known_vulnerabilities(sys.argv[1])
    if found is None:
        return compare()
    print("\n".join(found) or f"no known vulnerability in {len(pinned())} packages")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
