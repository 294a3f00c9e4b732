"""Passages as token sequences, each with its questions and reference answers: for replay and for answer likelihoods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from keeptune.grading.squad import ReadingItem
from keeptune.prompts.reading import practice_text
from keeptune.prompts.template import encode_prompt


class Passage(NamedTuple):
    """The tokens of a passage with its questions, each followed by its answer and a line end, and where the answers
    stand, without the line ends."""

    tokens: tuple[int, ...]
    answers: tuple[range, ...]


def laid_out(items: Sequence[ReadingItem], tokenizer: Any) -> Passage:
    """Questions on one passage, each with its first reference answer, in this order."""
    tokens = encode_prompt(tokenizer, practice_text(items[0].context, ()) + "\n")
    # The last token, because Llama 2's tokenizer puts a space before whatever it encodes.
    line_end = tokenizer.encode("\n", add_special_tokens=False)[-1:]
    answers = []
    for item in items:
        tokens += tokenizer.encode(f"Question: {item.question}\nAnswer:", add_special_tokens=False)
        answer = tokenizer.encode(f" {item.answers[0]}", add_special_tokens=False)
        answers.append(range(len(tokens), len(tokens) + len(answer)))
        tokens += answer + line_end
    return Passage(tuple(tokens), tuple(answers))
