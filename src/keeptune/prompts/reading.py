"""How a passage and a question are put to a model: the same text for base and tuned.

`few-shot` shows two worked passages first, so that a small base model knows the form of an answer: without them
SmolLM2-135M answers in sentences, and its exact match is zero before anything was trained. `contest` is the
zero-shot layout of the contest's own evaluation.
"""

from __future__ import annotations

from typing import Literal

ReadingLayout = Literal["few-shot", "contest"]


def other_layout(layout: ReadingLayout) -> ReadingLayout:
    """The reading prompt that a layout can be compared with."""
    return "contest" if layout == "few-shot" else "few-shot"


MAX_NEW_TOKENS = 20
"""The contest's budget for a reading answer, and ample for a short span."""

_WORKED = (
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
    """The whole text put to the model; its answer is the line that follows."""
    if layout == "contest":
        return (
            "Read the passage and answer the question below.\n\n"
            f"### Instruction:\n{passage}\n\n### Input:\n{question}\n\n### Response:"
        )
    worked = "\n\n".join(practice_text(text, pairs) for text, pairs in _WORKED)
    return f"{worked}\n\nPassage: {passage}\nQuestion: {question}\nAnswer:"


def practice_text(passage: str, pairs: tuple[tuple[str, str], ...]) -> str:
    """A passage with questions and their answers, in the few-shot layout."""
    return f"Passage: {passage}" + "".join(f"\nQuestion: {question}\nAnswer: {answer}" for question, answer in pairs)


def is_answer_complete(text: str) -> bool:
    """The stop rule: the first line that says something has ended."""
    return "\n" in text.lstrip()


def first_line(output: str) -> str:
    """The prediction in a model's output: its first line that says something, or nothing."""
    return output.strip().split("\n", 1)[0].strip()
