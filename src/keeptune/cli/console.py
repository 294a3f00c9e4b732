"""A listener for people: stages, bars with the time left, and one line for what matters."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

STEP_LINES = 10
"""How many training steps leave a line behind where there is no live bar."""


class ConsoleListener:
    """Writes to standard error, so that standard output stays free for results."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.started = time.monotonic()
        self.progress: Progress | None = None
        self.task: TaskID | None = None

    def stage(self, name: str) -> None:
        """A heading with the time since the start."""
        self.close()
        self.console.print(f"[bold]{name}[/bold] [dim]{time.monotonic() - self.started:.0f} s[/dim]")

    def say(self, text: str) -> None:
        """One line."""
        self.console.print(f"  {text}", markup=False)

    def counter(self, what: str, total: int) -> Callable[[int], None]:
        """A bar that ends with its last piece."""
        self._open(what, total)
        return self._advance

    def step(self, step: int, total_steps: int, text: str) -> None:
        """Moves the training bar; where the output is no terminal, prints a line now and then."""
        if self.progress is None:
            self._open("training", total_steps, done=step - 1)
        if self.progress and self.task is not None:
            self.progress.update(self.task, completed=step, text=text)
        if step == total_steps or (not self.console.is_terminal and step % max(1, total_steps // STEP_LINES) == 0):
            self.say(f"step {step}/{total_steps}  {text}")
        if step == total_steps:
            self.close()

    def close(self) -> None:
        """Takes the bar away."""
        if self.progress:
            self.progress.stop()
        self.progress = self.task = None

    def _advance(self, amount: int) -> None:
        if self.progress and self.task is not None:
            self.progress.advance(self.task, amount)
            if self.progress.finished:
                self.close()

    def _open(self, what: str, total: int, done: int = 0) -> None:
        self.close()
        columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.progress = Progress(
            *columns,
            TextColumn("{task.fields[text]}"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.task = self.progress.add_task(what, total=total, completed=done, text="")
        self.progress.start()
