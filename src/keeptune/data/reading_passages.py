"""Reading passages as token sequences with the positions of the answers, for replay and answer likelihoods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from keeptune.grading.squad import ReadingItem
from keeptune.prompts.reading import practice_text
from keeptune.prompts.template import encode_prompt


class EncodedPassage(NamedTuple):
    """The tokens of a passage and its questions. A line end follows each answer.

    `answers` has the token positions of each answer, without the line end.
    """

    tokens: tuple[int, ...]
    answers: tuple[range, ...]


def encode_passage(items: Sequence[ReadingItem], tokenizer: Any) -> EncodedPassage:
    """Encode one passage with its questions in the given order, each with its first reference answer."""
    tokens = encode_prompt(tokenizer, practice_text(items[0].context, ()) + "\n")
    # Only the last token, because Llama 2's tokenizer puts a space before every text it encodes.
    line_end = tokenizer.encode("\n", add_special_tokens=False)[-1:]
    answers = []
    for item in items:
        tokens += tokenizer.encode(f"Question: {item.question}\nAnswer:", add_special_tokens=False)
        answer = tokenizer.encode(f" {item.answers[0]}", add_special_tokens=False)
        answers.append(range(len(tokens), len(tokens) + len(answer)))
        tokens += answer + line_end
    return EncodedPassage(tuple(tokens), tuple(answers))
