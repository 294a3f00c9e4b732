"""The interface through which a running job reports stages, progress and information, and text that is safe to show."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """The text with visible escapes such as `\\x1b` for control characters other than tab and line feed.

    Texts of rows and models may contain sequences that move the cursor, set the title, or hide what follows. Unicode's
    bidirectional overrides reorder what follows.
    """
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


class Reporter(Protocol):
    """Receives the progress of a job."""

    def stage(self, name: str) -> None:
        """Reports that a stage begins."""

    def info(self, text: str) -> None:
        """Reports one line of information."""

    def counter(self, what: str, total: int) -> Callable[[int], None]:
        """Returns a function to call with each amount of progress towards `total`."""

    def step(self, step: int, total_steps: int, text: str) -> None:
        """Reports that a training step is done; `text` has its figures."""


class SilentReporter:
    """A reporter that shows nothing: the default when keeptune is used as a library."""

    def stage(self, name: str) -> None:
        """Does nothing."""

    def info(self, text: str) -> None:
        """Does nothing."""

    def counter(self, what: str, total: int) -> Callable[[int], None]:  # noqa: ARG002
        """Returns a function that does nothing."""
        return lambda amount: None  # noqa: ARG005

    def step(self, step: int, total_steps: int, text: str) -> None:
        """Does nothing."""
