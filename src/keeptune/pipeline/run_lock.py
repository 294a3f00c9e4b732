"""A folder that one process at a time works in: two would write into each other's log and checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from keeptune.errors import RunError
from keeptune.files import unwritable


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """While it lasts, no other process that asks gets into `folder`. It ends with its process, however that ends.

    errors: RunError when another one is in it, or nothing can be written there.
    """
    path = folder / ".lock"
    lock = FileLock(path, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise RunError(
            f"{folder}: another process is at work in this directory; wait until it has ended, or stop it (it can be "
            "resumed), then run the same command again"
        ) from None
    except OSError as error:
        raise unwritable(folder, error) from None
    try:
        yield
    finally:
        # While it is held: filelock never takes a file that is gone by then for the lock.
        path.unlink(missing_ok=True)
        lock.release()
