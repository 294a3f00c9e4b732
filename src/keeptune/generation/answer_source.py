"""What an evaluation asks: a model in this process, or one behind a server."""

from __future__ import annotations

from keeptune.generation.engine import Generator
from keeptune.generation.served_model import ServedModel

AnswerSource = Generator | ServedModel
"""Answers prompts greedily, and computes the log-likelihood of given continuations."""
