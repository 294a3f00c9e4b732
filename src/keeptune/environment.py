"""Collects what a result depends on besides the recipe: versions, commit, machine, and hashes of the inputs."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "peft", "accelerate", "safetensors", "tokenizers", "numpy", "pyarrow")


def manifest(hashes: Mapping[str, str], seed: int) -> dict[str, Any]:
    """The content of manifest.json: this process, this machine, and the given hashes of the inputs."""
    return {
        "keeptune": metadata.version("keeptune"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "git": git_state(Path(__file__).parent),
        "hardware": hardware(),
        "hashes": dict(hashes),
        "seed": seed,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["keeptune", *sys.argv[1:]]),
    }


def hardware() -> dict[str, Any]:
    """The CPU, its usable cores, the memory in bytes, and the accelerator or None."""
    import torch

    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else accelerator and str(accelerator),
    }


def git_state(folder: Path) -> dict[str, Any] | None:
    """The commit of keeptune's source and whether tracked files differ from it, or None outside a checkout."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
