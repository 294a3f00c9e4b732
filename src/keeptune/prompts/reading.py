"""Reading comprehension prompts, equal for the base model and the tuned model.

The layout `few-shot` begins with two example passages, which show a small base model the form of an answer. Without
them, SmolLM2-135M answers in sentences, and its exact match is zero even before training. `contest` is the zero-shot
layout of the contest's evaluation.
"""

from __future__ import annotations

from typing import Literal

ReadingLayout = Literal["few-shot", "contest"]


def other_layout(layout: ReadingLayout) -> ReadingLayout:
    """Return the other reading layout, for comparison."""
    return "contest" if layout == "few-shot" else "few-shot"


MAX_NEW_TOKENS = 20
"""Token limit of a reading answer, as in the contest; sufficient for a short span."""

_EXAMPLES = (
    (
        "The Tarn Lane bakery opened in 1952, when Edith Moray bought an old coal oven from a convent. It sold only "
        "rye bread until 1960, because wheat flour was too dear. Today her grandson bakes forty loaves before dawn "
        "and delivers them by tricycle.",
        (("When did the bakery open?", "1952"), ("Why did it sell only rye bread?", "wheat flour was too dear")),
    ),
    (
        "Swifts spend almost their whole lives in the air. They eat insects caught on the wing, drink by skimming "
        "lakes, and even sleep while gliding. They land only to nest, most often in holes high up in walls.",
        (("What do swifts eat?", "insects"), ("Where do swifts most often nest?", "holes high up in walls")),
    ),
)


def question_text(passage: str, question: str, layout: ReadingLayout) -> str:
    """Return the prompt for a question; the model's answer is the next line."""
    if layout == "contest":
        return (
            "Read the passage and answer the question below.\n\n"
            f"### Instruction:\n{passage}\n\n### Input:\n{question}\n\n### Response:"
        )
    examples = "\n\n".join(practice_text(text, pairs) for text, pairs in _EXAMPLES)
    return f"{examples}\n\nPassage: {passage}\nQuestion: {question}\nAnswer:"


def practice_text(passage: str, pairs: tuple[tuple[str, str], ...]) -> str:
    """Return a passage with questions and their answers in the few-shot layout."""
    return f"Passage: {passage}" + "".join(f"\nQuestion: {question}\nAnswer: {answer}" for question, answer in pairs)


def is_answer_complete(text: str) -> bool:
    """Stop rule: whether the first nonblank line is complete."""
    return "\n" in text.lstrip()


def first_line(output: str) -> str:
    """Return the prediction of an output: its first nonblank line, or an empty string."""
    return output.strip().split("\n", 1)[0].strip()
