"""Total and free memory of the accelerator, or of the machine within the limits of its container."""

from __future__ import annotations

from pathlib import Path

import psutil
import torch

SHARED_MEMORY_DEVICES = ("cpu", "mps")
"""Devices that use the machine's memory."""

CARD_RESERVE_BYTES = 2 << 30
"""Memory of an accelerator that is left for its context, for the workspaces of matrix products and for NCCL."""

_CGROUP = Path("/sys/fs/cgroup")


def is_card(device: torch.device) -> bool:
    """Whether the device has its own memory, beside that of the machine."""
    return device.type not in SHARED_MEMORY_DEVICES


def total_bytes(device: torch.device) -> int:
    """The memory of the accelerator, or of the machine or its container, whichever is smaller."""
    if is_card(device):
        return int(torch.accelerator.get_memory_info(device)[1])
    total: int = psutil.virtual_memory().total
    try:
        return min(total, int(_container_memory("max")))
    except (OSError, ValueError):  # no container, or one without a limit (`max`)
        return total


def free_bytes(device: torch.device) -> int:
    """The memory that can still be allocated on the accelerator, or in the machine or its container."""
    if is_card(device):
        return int(torch.accelerator.get_memory_info(device)[0])
    free: int = psutil.virtual_memory().available
    try:
        limit, used, stat = map(_container_memory, ("max", "current", "stat"))
        # Cached files count as used, but the kernel reclaims those that are inactive: model weights, for instance.
        reclaimable = dict(line.split() for line in stat.splitlines()).get("inactive_file", "0")
        return min(free, int(limit) - int(used) + int(reclaimable))
    except (OSError, ValueError):  # no container, or one without a limit (`max`)
        return free


def _container_memory(name: str) -> str:
    """The kernel's file `memory.NAME` about this container (cgroup v2)."""
    return (_CGROUP / f"memory.{name}").read_text(encoding="ascii")
