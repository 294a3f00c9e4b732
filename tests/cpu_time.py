"""A bound on work that must not grow with the square of its input.

It counts this process's own processor seconds, because the wall clock also counts what a neighbour does. The bound is
far above what linear work takes (under a second) and far below what quadratic work takes (minutes), so it tells the
two apart on any machine. It says nothing about speed; bench/ measures speed.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

_CPU_SECONDS = 20


@contextmanager
def bounded_work() -> Iterator[None]:
    """Fail if the block takes more than 20 processor seconds."""
    started = time.process_time()
    yield
    seconds = time.process_time() - started
    assert seconds < _CPU_SECONDS, f"took {seconds:.0f} processor seconds: the work grows faster than its input"
