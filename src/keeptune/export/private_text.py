"""Finds what must not be published in the files of a folder: secrets, and absolute paths of a machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from keeptune.files import open_regular

SECRETS = {
    "a Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}",
    "an API key (sk-…)": r"\bsk-[A-Za-z0-9_-]{20,}",
    "a GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{40,})",
    "an AWS access key": r"\bAKIA[0-9A-Z]{16}\b",
    "a Google API key": r"\bAIza[0-9A-Za-z_-]{35}",
    "a Slack token": r"\bxox[abeprs]-[A-Za-z0-9-]{10,}",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
}
"""Patterns of secrets, by their name."""

_SECRETS = {name: re.compile(pattern) for name, pattern in SECRETS.items()}

_PATH = re.compile(r"(?<![\w./:~-])/[\w.@+-]+/[\w.@+-]+")
"""The first two parts of an absolute path; parts of URLs and fractions do not match."""

_HOME = re.compile(r"(?<![\w./:~-])/(?:home|Users|root)/[\w.@+-]+|\b[A-Za-z]:\\{1,2}Users\\{1,2}\w+")
"""A home directory of any machine."""

_SYSTEM_FOLDERS = frozenset({"bin", "dev", "etc", "lib", "lib64", "proc", "run", "sbin", "sys", "usr"})
"""Folders with the same content on many machines, such as /usr/bin/env."""

_HEAD_BYTES = 1 << 20
"""How much of a binary file is searched: its header, such as the metadata of a safetensors file."""


def find_private_text(folder: Path) -> list[str]:
    """What must not be published, as `FILE:LINE: REASON`, with at most one finding per line."""
    findings = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            findings += [
                f"{name}:{number}: {reason}" for number, line in _lines(path) if (reason := private_part(line))
            ]
    return findings


def private_part(line: str) -> str | None:
    """The first secret or path in a line, in words; the secret itself is not repeated."""
    for name, pattern in _SECRETS.items():
        if pattern.search(line):
            return name
    text = line.replace("file://", " ")
    if home := _HOME.search(text):
        return f"a home directory ({home[0]})"
    for match in _PATH.finditer(text):
        if match[0].split("/")[1] not in _SYSTEM_FOLDERS and _exists(match[0]):
            return f"a path of this machine ({match[0]}…)"
    return None


@cache
def _exists(path: str) -> bool:
    return Path(path).exists()


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The numbered lines of a text file; the beginning of a binary file as one line."""
    with open_regular(path) as file:
        head = file.read(_HEAD_BYTES)
        if b"\0" in head:
            yield 1, head.decode(errors="replace")
            return
        text = (head + file.read()).decode(errors="replace")
    yield from enumerate(text.split("\n"), start=1)
