"""The lock of a folder of results: two processes must not write the same log, checkpoints or answers."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from keeptune.errors import RunError
from keeptune.files import LOCK, write_error


def is_locked(folder: Path) -> bool:
    """Whether a process works in `folder`. It needs no permission to write.

    A process removes its lock file at the end, so only a killed one leaves a file to try. On Windows any lock file
    counts.
    """
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        return sys.platform == "win32" or not _can_share(descriptor)
    finally:
        os.close(descriptor)


def _can_share(descriptor: int) -> bool:
    """Whether nobody holds an exclusive lock on an open file. The shared lock ends when the file is closed."""
    import fcntl  # not on Windows

    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Holds the lock of `folder`. The operating system releases it when the process ends or is killed.

    Raises:
        RunError: when another process holds it, or the folder cannot be written.
    """
    path = folder / LOCK
    lock = FileLock(path, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise RunError(
            f"{folder}: another process works in this directory; wait until it ends, or stop it (it can be "
            "resumed), then run the same command again"
        ) from None
    except OSError as error:
        raise write_error(folder, error) from None
    try:
        yield
    finally:
        # Unlinked while it is held: filelock does not acquire a lock file that was removed.
        path.unlink(missing_ok=True)
        lock.release()
