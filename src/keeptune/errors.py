"""The errors that keeptune raises deliberately, and their exit codes.

KeeptuneError                exit 2
├── RecipeError              exit 2   a recipe or another argument is invalid
├── ModelError               exit 2   a model, tokenizer or adapter is missing or does not fit
├── PromptError              exit 2   the prompt differs from the one that the model was trained with
├── RunError                 exit 2   a run directory is missing, incomplete or cannot be written
├── DataError                exit 3   rows cannot be read, are invalid, or are too few
├── WriterError              exit 2   the teacher model's server cannot be reached, or fails too often
├── TrainingError            exit 2   training cannot continue (loss not finite, no token with loss)
└── Interrupted              exit 5   stopped before the end; the same command resumes

A failed gate is a result, not an error: the command prints the verdict and exits with 4. If the verdict is undecided,
`keeptune gate` exits with 6. Each message states what happened, where, and what to do.
"""

EXIT_GATE_FAILED = 4
EXIT_UNDECIDED = 6


class KeeptuneError(Exception):
    """The base class of all errors that keeptune raises deliberately."""

    exit_code = 2


class RecipeError(KeeptuneError):
    """A recipe or another argument is invalid."""


class ModelError(KeeptuneError):
    """A model, tokenizer or adapter is missing or does not fit."""


class PromptError(KeeptuneError):
    """The prompt differs from the one that the model was trained with."""


class RunError(KeeptuneError):
    """A run directory is missing, incomplete or cannot be written."""


class DataError(KeeptuneError):
    """Rows cannot be read, are invalid, or are too few."""

    exit_code = 3


class WriterError(KeeptuneError):
    """The teacher model's server cannot be reached, refuses requests, or fails too often."""


class TrainingError(KeeptuneError):
    """Training cannot continue: the loss is not finite, or no token has loss."""


class Interrupted(KeeptuneError):  # noqa: N818  (a state, not an error)
    """The command was stopped before its end; the same command resumes."""

    exit_code = 5
