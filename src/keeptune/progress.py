"""What a running job tells whoever watches: stages, progress, remarks. Silent unless someone listens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Listener(Protocol):
    """Someone who watches a job."""

    def stage(self, name: str) -> None:
        """A stage begins."""

    def say(self, text: str) -> None:
        """A remark worth a line."""

    def counter(self, what: str, total: int) -> Callable[[int], None]:
        """A function that is called with every amount of progress towards `total`."""

    def step(self, step: int, total_steps: int, text: str) -> None:
        """A training step is done; `text` says how it went."""


class Silent:
    """A listener that does nothing: the default when keeptune is used from code."""

    def stage(self, name: str) -> None:
        """Ignored."""

    def say(self, text: str) -> None:
        """Ignored."""

    def counter(self, what: str, total: int) -> Callable[[int], None]:  # noqa: ARG002
        """A counter that counts nothing."""
        return lambda amount: None  # noqa: ARG005

    def step(self, step: int, total_steps: int, text: str) -> None:
        """Ignored."""
