"""Converts rows of a MindRecord file back to problem and solution texts without their prompt.

The contest's preprocessing wraps each problem in a conversation, truncates long rows, and masks answers that it does
not find again, all without a message. Truncated rows and rows without loss are skipped here and listed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from keeptune.errors import DataError, RecipeError
from keeptune.files import write_atomically
from keeptune.mindspore.record_reader import read_rows
from keeptune.mindspore.record_set import FIELDS, SkippedRow
from keeptune.mindspore.run_rows import IGNORED
from keeptune.models.load import load_tokenizer
from keeptune.prompts.named import NAMED
from keeptune.prompts.template import SLOT

Texts = tuple[str, str]
"""A problem and its solution."""

GIVEN, UNKNOWN = "the given prompt", "an unknown prompt"

LISTED_ROWS = 3
"""The number of rows that the summary lists per reason."""


@dataclass(slots=True)
class RowImport:
    """The number of imported rows, in total and per prompt, and the skipped rows."""

    rows: int = 0
    prompts: Counter[str] = field(default_factory=Counter)
    skipped: list[SkippedRow] = field(default_factory=list)

    def text(self) -> str:
        """The counts as text."""
        prompts = "".join(f", {count:,} with {name}" for name, count in self.prompts.most_common())
        lines = [f"{self.rows:,} rows{prompts}"]
        for reason, count in Counter(row.reason for row in self.skipped).most_common():
            names = [row.row for row in self.skipped if row.reason == reason]
            more = ", …" if count > LISTED_ROWS else ""
            lines.append(f"{count:,} skipped, {reason}: rows {', '.join(names[:LISTED_ROWS])}{more}")
        return "\n".join(lines)


def write_rows(path: Path, model: str, template: str | None, out: Path) -> RowImport:
    """Writes the rows of a MindRecord data set to `out`, as JSON Lines with `problem` and `solution`.

    Each row's prompt is removed: `template`, or the known prompt that matches the row. If none matches, the problem is
    the whole text before the first token with loss.

    Raises:
        DataError: when the data set cannot be read, has tokens outside the model's vocabulary, or every row is skipped.
        ModelError: when the model's tokenizer is missing.
        RecipeError: when `out` exists.
        RunError: when `out` cannot be written.
    """
    if out.exists():
        raise RecipeError(f"{out}: already exists; choose another path with --out")
    tokenizer, result = load_tokenizer(model), RowImport()
    named = {GIVEN: template} if template else NAMED
    templates = {name: _prefix_and_suffix(text, tokenizer) for name, text in named.items()}

    rows = _checked_rows(read_rows(path, FIELDS), path, model, tokenizer)

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8") as file:
            for problem, solution in _texts(rows, tokenizer, templates, result):
                record = {"problem": problem, "solution": solution}
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
        if not result.rows:
            raise DataError(f"{path}: every row was skipped\n{result.text()}")

    write_atomically(out, write)
    return result


def _checked_rows(rows: Iterable[Any], path: Path, model: str, tokenizer: Any) -> Iterator[Any]:
    """Yields the rows.

    Raises:
        DataError: naming the first row with a token outside the tokenizer's vocabulary.
    """
    for number, (ids, labels) in enumerate(rows, start=1):
        if len(ids) and max(ids) >= len(tokenizer):
            raise DataError(
                f"{path}: row {number} contains token {max(ids)}, but the tokenizer of {model} has {len(tokenizer)} "
                "tokens; name the rows' model with --model"
            )
        yield ids, labels


def _texts(
    rows: Iterable[Any], tokenizer: Any, templates: dict[str, tuple[str, str]], result: RowImport
) -> Iterator[Texts]:
    """Yields problem and solution of each row that is not skipped, and counts all rows in `result`."""
    for number, (ids, labels) in enumerate(rows, start=1):
        positions = np.flatnonzero(np.asarray(labels) != IGNORED)
        reason = _skip_reason(ids, labels, positions, tokenizer)
        if not reason:
            first, last = positions[0], positions[-1]
            name, problem = _remove_prompt(_decode(tokenizer, ids[:first]), templates)
            solution = _decode(tokenizer, ids[first : last + 1]).strip()
            if not problem.strip() or not solution:
                reason = "no text before or after the first token with loss"
            elif name == UNKNOWN and GIVEN in templates:
                reason = "does not match the given prompt"
        if reason:
            result.skipped.append(SkippedRow(str(number), reason, len(ids)))
            continue
        result.rows += 1
        result.prompts[name] += 1
        yield problem, solution


def _skip_reason(ids: Any, labels: Any, positions: Any, tokenizer: Any) -> str:
    """Why a row cannot be imported, or an empty string. `positions` are those of its tokens with loss."""
    if len(ids) != len(labels) or not len(positions):
        return "no token with loss"
    if positions[-1] - positions[0] + 1 != len(positions):
        return "several answers in one row"
    if positions[-1] == len(ids) - 1 and ids[-1] != tokenizer.eos_token_id:
        return "truncated: the last token is not the end token"
    return ""


def _decode(tokenizer: Any, ids: Any) -> str:
    text: str = tokenizer.decode(list(map(int, ids)), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text


def _prefix_and_suffix(template: str, tokenizer: Any) -> tuple[str, str]:
    """The template's text before and after the problem, encoded and decoded again, without special tokens."""
    parts = (tokenizer.encode(part, add_special_tokens=False) for part in template.split(SLOT))
    prefix, suffix = (_decode(tokenizer, tokens).strip() for tokens in parts)
    return prefix, suffix


def _remove_prompt(text: str, templates: dict[str, tuple[str, str]]) -> Texts:
    """The name of the longest template that matches the text, and the problem inside it."""
    stripped = text.strip()
    for name, (prefix, suffix) in sorted(templates.items(), key=lambda item: -len("".join(item[1]))):
        fits = len(stripped) >= len(prefix) + len(suffix)
        if fits and stripped.startswith(prefix) and stripped.endswith(suffix):
            return name, stripped.removeprefix(prefix).removesuffix(suffix).strip()
    return UNKNOWN, stripped
