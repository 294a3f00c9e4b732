"""Shows progress in the terminal: stages, progress bars with the remaining time, and single lines of information."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from keeptune.progress import printable

STEP_LINES = 10
"""The number of training steps that print a line if the output is not a terminal."""

LINE_SECONDS = 30
"""The time between two lines of a counter if the output is not a terminal."""


class ConsoleReporter:
    """Implements progress.Reporter. Writes to standard error, because standard output is for results."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.started = self.last_line = time.monotonic()
        self.progress: Progress | None = None
        self.task: TaskID | None = None

    def stage(self, name: str) -> None:
        """Prints a heading with the seconds since the start."""
        self.close()
        self.console.print(f"[bold]{escape(printable(name))}[/bold] [dim]{time.monotonic() - self.started:.0f} s[/dim]")

    def info(self, text: str) -> None:
        """Prints one line."""
        self.console.print(f"  {printable(text)}", markup=False)

    def counter(self, what: str, total: int) -> Callable[[int], None]:
        """Opens a progress bar and returns the function that advances it. The bar closes at `total`."""
        self._open(what, total)
        return self._advance

    def step(self, step: int, total_steps: int, text: str) -> None:
        """Advances the training bar. If the output is not a terminal, prints a line for every tenth of the steps."""
        if self.progress is None:
            self._open("training", total_steps, done=step - 1)
        if self.progress and self.task is not None:
            self.progress.update(self.task, completed=step, text=printable(text))
        if step == total_steps or (not self.console.is_terminal and step % max(1, total_steps // STEP_LINES) == 0):
            self.info(f"step {step}/{total_steps}  {text}")
        if step == total_steps:
            self.close()

    def close(self) -> None:
        """Removes the bar."""
        if self.progress:
            self.progress.stop()
        self.progress = self.task = None

    def _advance(self, amount: int) -> None:
        if self.progress is None or self.task is None:
            return
        self.progress.advance(self.task, amount)
        task = self.progress.tasks[0]
        now = time.monotonic()
        if not self.console.is_terminal and now - self.last_line >= LINE_SECONDS:
            self.last_line = now
            self.info(f"{task.description} {task.completed:,.0f}/{task.total:,.0f}")
        if self.progress.finished:
            self.close()

    def _open(self, what: str, total: int, done: int = 0) -> None:
        self.close()
        columns = (
            TextColumn("  {task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        self.progress = Progress(
            *columns,
            TextColumn("{task.fields[text]}", markup=False),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.task = self.progress.add_task(printable(what), total=total, completed=done, text="")
        self.progress.start()
