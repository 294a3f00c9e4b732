"""Every error that keeptune raises on purpose, and the exit code that it ends the command with.

KeeptuneError                exit 2
├── RecipeError              exit 2   the recipe, or another argument, cannot be used as it stands
├── ModelError               exit 2   a model, tokenizer or adapter is missing or does not fit
├── PromptError              exit 2   a model is about to be asked with another prompt than it was trained with
├── RunError                 exit 2   a run directory is missing, incomplete or cannot be written
├── DataError                exit 3   rows cannot be read, are wrong, or are too few
├── WriterError              exit 2   the server that writes texts cannot be reached, or fails too often
├── TrainingError            exit 2   training cannot go on (loss is not finite, no supervised token)
└── Interrupted              exit 5   stopped half-way; the same command resumes

A failed gate is a result, not an error: the command prints the verdict and exits with 4; `keeptune gate` exits with 6
where the verdict is undecided.
Each message says what happened, where, and what to do about it.
"""

EXIT_GATE_FAILED = 4
EXIT_UNDECIDED = 6


class KeeptuneError(Exception):
    """The base: `except KeeptuneError` catches all that keeptune raises on purpose."""

    exit_code = 2


class RecipeError(KeeptuneError):
    """The recipe, or another argument, cannot be used as it stands."""


class ModelError(KeeptuneError):
    """A model, tokenizer or adapter is missing or does not fit."""


class PromptError(KeeptuneError):
    """A model is about to be asked with another prompt than it was trained with."""


class RunError(KeeptuneError):
    """A run directory is missing, incomplete or cannot be written."""


class DataError(KeeptuneError):
    """Rows cannot be read, are wrong, or are too few."""

    exit_code = 3


class WriterError(KeeptuneError):
    """The server that writes texts cannot be reached, refuses, or fails too often."""


class TrainingError(KeeptuneError):
    """Training cannot go on: the loss is not finite, or a batch has no supervised token."""


class Interrupted(KeeptuneError):  # noqa: N818  (a state, not a fault)
    """Stopped half-way; the same command resumes."""

    exit_code = 5
