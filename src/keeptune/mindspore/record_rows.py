"""Rows of a MindRecord file as the rows of text that a recipe takes: problem and solution, out of their prompt.

The contest's kit puts a conversation around each problem, cuts what is too long, masks what it cannot find again, and
says nothing of it. Here a row that was cut, or that nothing was to be learnt from, is no row, and is named.
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
from keeptune.mindspore.record_reader import read
from keeptune.mindspore.record_set import FIELDS, LeftOut
from keeptune.mindspore.run_rows import IGNORED
from keeptune.models.load import load_tokenizer
from keeptune.prompts.named import NAMED
from keeptune.prompts.template import SLOT

Texts = tuple[str, str]
"""A problem and its solution."""

GIVEN, UNKNOWN = "the prompt", "no known prompt"

SHOWN = 3
"""Of the rows that were left out for one reason, how many are named."""


@dataclass(slots=True)
class Taken:
    """How many rows were taken, from how many prompts, and those that were not."""

    rows: int = 0
    prompts: Counter[str] = field(default_factory=Counter)
    left_out: list[LeftOut] = field(default_factory=list)

    def text(self) -> str:
        """For people to read."""
        told = [f"{self.rows:,} rows" + "".join(f", {count:,} in {name}" for name, count in self.prompts.most_common())]
        for reason, count in Counter(one.reason for one in self.left_out).most_common():
            named = [one.row for one in self.left_out if one.reason == reason]
            more = ", …" if count > SHOWN else ""
            told.append(f"{count:,} left out, {reason}: rows {', '.join(named[:SHOWN])}{more}")
        return "\n".join(told)


def write_rows(path: Path, model: str, template: str | None, out: Path) -> Taken:
    """Writes the rows of the data set that `path` is a file of into `out`, as JSON Lines with problem and solution.

    The prompt is taken off: `template`, or whichever of the known ones a row stands in; else all before the first token
    to learn is the problem.

    errors: DataError when the data set cannot be read, has tokens that the model does not have, or no row is left;
    ModelError without the model's tokenizer; RecipeError when `out` exists; RunError when it cannot be written.
    """
    if out.exists():
        raise RecipeError(f"{out}: it exists already; choose another name with --out")
    tokenizer, taken = load_tokenizer(model), Taken()
    named = {GIVEN: template} if template else NAMED
    templates = {name: _around(own, tokenizer) for name, own in named.items()}

    rows = _known(read(path, FIELDS), path, model, tokenizer)

    def write(scratch: Path) -> None:
        with scratch.open("w", encoding="utf-8") as file:
            for problem, solution in _texts(rows, tokenizer, templates, taken):
                record = {"problem": problem, "solution": solution}
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
        if not taken.rows:
            raise DataError(f"{path}: no row is left\n{taken.text()}")

    write_atomically(out, write)
    return taken


def _known(rows: Iterable[Any], path: Path, model: str, tokenizer: Any) -> Iterator[Any]:
    """The rows, all of whose tokens the tokenizer has. errors: DataError naming the first that has others."""
    for number, (ids, labels) in enumerate(rows, start=1):
        if len(ids) and max(ids) >= len(tokenizer):
            raise DataError(
                f"{path}: row {number} has the token {max(ids)}, and the tokenizer of {model} has {len(tokenizer)}; "
                "give the model that the rows were made for with --model"
            )
        yield ids, labels


def _texts(rows: Iterable[Any], tokenizer: Any, templates: dict[str, tuple[str, str]], taken: Taken) -> Iterator[Texts]:
    for number, (ids, labels) in enumerate(rows, start=1):
        reason, length = "", len(ids)
        learned = np.flatnonzero(np.asarray(labels) != IGNORED)
        if len(ids) != len(labels) or not len(learned):
            reason = "no token to learn"
        elif learned[-1] - learned[0] + 1 != len(learned):
            reason = "several answers in one row"
        elif learned[-1] == length - 1 and ids[-1] != tokenizer.eos_token_id:
            reason = "cut off: its last token is no end token"
        if reason:
            taken.left_out.append(LeftOut(str(number), reason, length))
            continue
        asked, answered = _decoded(tokenizer, ids[: learned[0]]), _decoded(tokenizer, ids[learned[0] : learned[-1] + 1])
        name, problem = _unwrapped(asked, templates)
        if not problem.strip() or not answered.strip():
            taken.left_out.append(LeftOut(str(number), "no text before or behind the first token to learn", length))
            continue
        if name == UNKNOWN and GIVEN in templates:
            taken.left_out.append(LeftOut(str(number), "not in the prompt that was given", length))
            continue
        taken.rows += 1
        taken.prompts[name] += 1
        yield problem, answered.strip()


def _decoded(tokenizer: Any, ids: Any) -> str:
    text: str = tokenizer.decode(list(map(int, ids)), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text


def _around(template: str, tokenizer: Any) -> tuple[str, str]:
    """What stands before and behind a problem, as it comes back from tokens: without special ones."""
    coded = (tokenizer.encode(part, add_special_tokens=False) for part in template.split(SLOT))
    before, after = (_decoded(tokenizer, tokens).strip() for tokens in coded)
    return before, after


def _unwrapped(asked: str, templates: dict[str, tuple[str, str]]) -> Texts:
    """The name of the prompt that a problem stands in, and the problem."""
    whole = asked.strip()
    for name, (before, after) in sorted(templates.items(), key=lambda item: -len("".join(item[1]))):
        if whole.startswith(before) and whole.endswith(after) and len(whole) >= len(before) + len(after):
            return name, whole.removeprefix(before).removesuffix(after).strip()
    return UNKNOWN, whole
