"""Graders for answers from a closed set: `label` and `choice`."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field, field_validator

from keeptune.grading.base import Details, Grade, Grader, GraderError, suggest

NO_LABEL = "(none)"
"""The column of the confusion matrix for answers that are no label of the set."""

_DECORATION = " \t\r\n*_`'\"“”‘’「」《》【】[](){}<>#.,;:!。，；：！"
_DASHES = dict.fromkeys(map(ord, "−–‐‑"), "-")
_FENCE = re.compile(r"```[\w+-]*\s*\n?(.*?)\n?\s*```", re.DOTALL)


def _plain(text: str) -> str:
    """Return a text in lower case without code fence, full-width forms and repeated spaces."""
    fenced = _FENCE.fullmatch(text.strip())
    plain = unicodedata.normalize("NFKC", fenced[1] if fenced else text).translate(_DASHES)
    return " ".join(plain.split()).casefold()


def _undress(text: str) -> str:
    """Return the plain text without surrounding decoration."""
    return _plain(text).strip(_DECORATION)


def _is_within(label: str, plain: str) -> bool:
    """Whether a plain text is a label with nothing but decoration around it."""
    before, match, after = plain.partition(label)
    return bool(match) and not (before + after).strip(_DECORATION)


class Label(Grader):
    """A label from a closed set, ignoring case and decoration. Any other answer is wrong.

    The aggregate has the macro-F1 and the confusion matrix.
    """

    name: ClassVar[str] = "label"

    labels: tuple[str, ...] = Field(min_length=2, description="the closed set of labels")

    @field_validator("labels")
    @classmethod
    def _check_labels(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        keys = Counter(map(_plain, labels))
        if "" in keys:
            raise ValueError("must not contain an empty label")
        if twice := [label for label in labels if keys[_plain(label)] > 1]:
            raise ValueError(f"must differ in more than case, width and spaces (got {', '.join(twice)})")
        return labels

    def find_label(self, text: str) -> str | None:
        """Return the label that the text is, or None.

        The longest label with nothing but decoration around it counts: `**C#**` is `C#` and not `C`, although `#` may
        be decoration.
        """
        plain, bare = _plain(text), _undress(text)
        matches = [label for label in self.labels if _is_within(_plain(label), plain)]
        if matches:
            return max(matches, key=lambda label: len(_plain(label)))
        dressed = [label for label in self.labels if bare and _undress(label) == bare]
        return dressed[0] if len(dressed) == 1 else None

    def check_truth(self, truth: str, problem: str = "") -> None:
        if self.find_label(truth) is None:
            raise GraderError(f"the answer is no label of the set: {truth[:80]!r}; {suggest(truth, self.labels)}")

    def compare(self, answer: str, truth: str, problem: str) -> Grade:
        label = self.find_label(answer)
        return Grade(float(label is not None and label == self.find_label(truth)), answer, {"label": label})

    def aggregate(self, truths: Sequence[str], grades: Sequence[Grade]) -> Details:
        """Return macro-F1 over the labels that occur, F1 per label, and counts by truth and answer."""
        expected = [str(self.find_label(truth)) for truth in truths]
        predicted = [grade.details.get("label") or NO_LABEL for grade in grades]
        return label_figures(expected, predicted, self.labels)


def label_figures(expected: Sequence[str], predicted: Sequence[str], labels: Sequence[str]) -> Details:
    """Return macro-F1, F1 per label and the confusion matrix.

    The F1 of a label is 2·tp / (2·tp + fp + fn). Labels that are neither expected nor predicted are left out. The
    matrix has one row per expected label and one column per predicted label.
    """
    pairs = Counter(zip(expected, predicted, strict=True))
    expected_counts, predicted_counts = Counter(expected), Counter(predicted)
    f1 = {
        label: 2 * pairs[label, label] / (expected_counts[label] + predicted_counts[label])
        for label in labels
        if expected_counts[label] + predicted_counts[label]
    }
    columns = [*labels, NO_LABEL]
    return {
        "macro_f1": sum(f1.values()) / len(f1) if f1 else 0.0,
        "f1_by_label": f1,
        "confusion": {row: {column: pairs[row, column] for column in columns if pairs[row, column]} for row in f1},
    }


_STATED = re.compile(
    r"(?:answer|choice|option|答案|选项|应选|故选|选择?)\s*(?:\bis\b|\bwould be\b|是|为)?\s*[:=]?\s*"
    r"[*_`(\[{\"']*\s*((?-i:[A-Z])(?![A-Za-z'])|[a-z](?=\s*(?:[)\]}.,:;。，]|\Z|\n)))",
    re.IGNORECASE,
)
_CALLED_RIGHT = re.compile(
    r"(?<![A-Za-z'])[(\[]?([A-Z])[)\].]?\s+(?:is|must be|would be)\s+(?:the\s+)?(?:correct|right|best|answer|true)\b"
)
_LETTER_AND_TEXT = re.compile(r"[(\[{]?\s*([A-Z])\s*(?:[)\]}]|[.:、,](?!\w\.)|-(?=\s)|$)\s*(.*)", re.DOTALL)
_LATEX_WORD = re.compile(r"\\(?:text|textbf|mathbf|mathrm|boxed|fbox)\s*\{([^{}]*)\}")
_ALONE = re.compile(r"(?<![A-Za-z'])([A-Z])(?![A-Za-z'])")


class Choice(Grader):
    """The letter of a multiple-choice option in any usual dress: `B`, `(b)`, `**B.** text`, `The answer is B`."""

    name: ClassVar[str] = "choice"

    letters: str = Field("ABCD", min_length=2, max_length=26, description="the letters of the options")

    @field_validator("letters")
    @classmethod
    def _check_letters(cls, letters: str) -> str:
        if len(set(letters)) < len(letters) or not set(letters) <= set(string.ascii_uppercase):
            raise ValueError(f"must be different capital letters, such as ABCD (got {letters})")
        return letters

    def find_letter(self, text: str) -> str | None:
        """Return the letter that the text chooses, or None if it chooses none or several."""
        plain = _LATEX_WORD.sub(r"\1", unicodedata.normalize("NFKC", text)).replace("$", "").strip()
        fenced = _FENCE.fullmatch(plain)
        plain = re.sub(r"[*_`]", "", fenced[1] if fenced else plain).strip()
        whole = plain.strip(_DECORATION)
        if len(whole) == 1:
            return self._known(whole)
        matches = [*_STATED.finditer(plain), *_CALLED_RIGHT.finditer(plain)]
        stated = {self._known(match[1]) for match in matches} - {None}
        if stated:
            return stated.pop() if len(stated) == 1 else None
        first_line = plain.split("\n", 1)[0].strip(_DECORATION)
        if len(first_line) == 1 and (letter := self._known(first_line)):
            return letter
        # "A" begins many sentences, so a letter with text after it needs a bracket, a dot or a colon.
        if (match := _LETTER_AND_TEXT.fullmatch(plain)) and self._known(match[1]):
            others = {self._known(letter) for letter in _ALONE.findall(match[2])} - {None, "A", match[1]}
            return None if others else self._known(match[1])
        alone = {self._known(letter) for letter in _ALONE.findall(plain)} - {None}
        return alone.pop() if len(alone) == 1 and alone != {"A"} else None

    def _known(self, letter: str) -> str | None:
        return letter.upper() if letter.upper() in self.letters else None

    def check_truth(self, truth: str, problem: str = "") -> None:
        if self.find_letter(truth) is None:
            raise GraderError(f"the answer is not one letter of {self.letters}: {truth[:80]!r}")

    def compare(self, answer: str, truth: str, problem: str) -> Grade:
        letter = self.find_letter(answer)
        return Grade(float(letter is not None and letter == self.find_letter(truth)), answer, {"letter": letter})

    def aggregate(self, truths: Sequence[str], grades: Sequence[Grade]) -> Details:
        """Return the number of answers per letter, which shows a preference for a position."""
        chosen = Counter(grade.details.get("letter") or NO_LABEL for grade in grades)
        expected = Counter(str(self.find_letter(truth)) for truth in truths)
        return {"chosen": dict(sorted(chosen.items())), "expected": dict(sorted(expected.items()))}
