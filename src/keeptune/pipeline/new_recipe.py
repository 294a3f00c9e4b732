"""Writes a first recipe for a file of rows, with comments that state what was found in the rows and on this machine."""

from __future__ import annotations

import math
import os
import re
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from keeptune.config import recipe as recipes
from keeptune.config.prompt import PromptSection
from keeptune.config.recipe import Recipe
from keeptune.config.solution_format import Rounding, Style
from keeptune.config.yaml_reader import parse_yaml
from keeptune.data import hub
from keeptune.data.chat_rows import check_rendering
from keeptune.data.columns import RowLayout
from keeptune.data.layout_guess import LayoutGuess, guess_layout, require_header
from keeptune.data.reader import RawRow, RejectedRow, read_shard
from keeptune.data.row import find_question
from keeptune.data.row_values import list_names
from keeptune.data.sample import sample_rows
from keeptune.data.sources import Shard
from keeptune.data.special_tokens import SpecialTokenFilter
from keeptune.errors import DataError, RecipeError
from keeptune.files import write_text
from keeptune.grading.base import Grader
from keeptune.grading.number import grade
from keeptune.grading.stated_answer import format_answer_line, parse_stated_truth
from keeptune.models import load as models
from keeptune.models.device_memory import total_bytes
from keeptune.pipeline.memory_estimate import peak_bytes
from keeptune.pipeline.plan import count_parameters
from keeptune.pipeline.recipe_text import render
from keeptune.pipeline.skill_guess import describe_grader, guess_skill
from keeptune.pipeline.speed_estimate import tokens_per_second
from keeptune.prompts.chat_prompt import CHAT, LOSS_ON, NOT_PREFIX_STABLE
from keeptune.prompts.token_count import TokenCounter, example_texts, special_tokens
from keeptune.skills.base import Question, Skill
from keeptune.skills.text import Text

MAX_ROWS = 5_000
"""The number of rows that are looked at."""

BUDGET_SECONDS = 600
"""The training time that the number of epochs aims at."""

_MAX_EPOCHS, _TOKEN_STEP, _WIDTH = 3, 64, 100
_MAX_DEV, _MAX_TEST, _DEV_SHARE, _TEST_SHARE = 100, 300, 0.1, 0.2


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a file as the data stage will see them, with their questions and lengths in tokens."""

    container: str
    guess: LayoutGuess
    skill: Skill
    style: Style
    accepted: list[tuple[RawRow, Question]]
    rejected: list[RejectedRow]
    lengths: list[int]
    prompt: PromptSection

    @property
    def conversations(self) -> int:
        """The number of rows with several turns, a system text or tools."""
        return sum(row.conversation is not None for row, _ in self.accepted)

    @property
    def problems(self) -> int:
        """The number of different problems."""
        return len({question.text for _, question in self.accepted})


def write_recipe(file: str, out: Path, model: str = models.EMBEDDED) -> list[str]:
    """Write a recipe for the rows of a file or data set to `out`, and return what was found as lines of text.

    Raises:
        RecipeError: `out` exists.
        DataError: the file cannot be read, or too few of its rows can be used.
        ModelError: the model cannot be loaded.
    """
    if model.startswith((".", "~")):
        model = str(Path(model).expanduser().absolute())
    if out.exists():
        raise RecipeError(f"{out}: the file exists; name another one with --out, or delete it")
    tokenizer, config = models.load_tokenizer(model), models.load_config(model)
    rows = _look_at(file, model, tokenizer)
    settings, epoch_seconds = _settings(file, out, model, rows, config)
    comments = _comments(rows, recipes.parse(settings, str(out)), config, epoch_seconds)
    head = f"Written by keeptune init for {file}. Run it with: keeptune run {out}"
    text = render(settings, {"": [head], **comments})
    recipes.parse(parse_yaml(text), str(out))
    write_text(out, text)
    return [line for lines in comments.values() for line in lines]


def _look_at(file: str, model: str, tokenizer: Any) -> Rows:
    """Read the first rows of a file under the guessed layout and the prompt that they need."""
    name = hub.with_default_split(file) if hub.is_hub_name(file) else file
    sample = sample_rows(name, RowLayout(), MAX_ROWS)
    if not sample.rows:
        raise _no_row_error(file, name)
    if sample.container in ("CSV", "TSV"):
        require_header(file, sample.rows)
    guess = guess_layout(file, sample.rows)
    raw, prompt = _read(Shard(name), guess.layout, model, tokenizer)
    skill = guess_skill([row for row in raw if isinstance(row, RawRow)], guess)
    accepted, rejected = [], []
    for row in raw:
        result = row if isinstance(row, RejectedRow) else _examine(row, skill)
        if isinstance(result, RejectedRow):
            rejected.append(result)
        else:
            accepted.append(result)
    if not accepted:
        raise DataError(f"{file}:{rejected[0].line}: no row can be used; the first: {rejected[0].reason}")
    style = _guess_style(skill, accepted, prompt.is_chat)
    texts = [
        example_texts(one.text, skill.render_solution(one, row.solution, style, Rounding()), row.conversation)
        for row, one in accepted
    ]
    counter = TokenCounter.of(tokenizer, models.load_prompt(prompt, model, tokenizer))
    lengths = [prompt_tokens + solution_tokens for prompt_tokens, solution_tokens in counter(texts)]
    return Rows(sample.container, guess, skill, style, accepted, rejected, lengths, prompt)


def _no_row_error(file: str, name: str) -> DataError:
    """Return the error for a file without a single object, with the reason of its first line."""
    advice = "write one JSON object per line, or a table with a header whose name ends in .csv or .tsv"
    first = next(read_shard(Shard(name), RowLayout()), None)
    if isinstance(first, RejectedRow):
        return DataError(f"{file}:{first.line}: no row can be read; the first: {first.reason}; {advice}")
    return DataError(f"{file}: no row can be read; {advice}")


def _read(
    shard: Shard, layout: RowLayout, model: str, tokenizer: Any
) -> tuple[list[RawRow | RejectedRow], PromptSection]:
    """Read the first rows, and return them with the prompt that they need.

    Rows of several turns, with a system text or with tools need the model's chat template. Where it renders earlier
    answers differently once later turns follow, only the last answer is trained.
    """
    token_filter = SpecialTokenFilter(special_tokens(tokenizer), "reject")

    def read(conversations: bool) -> list[RawRow | RejectedRow]:
        rows = read_shard(shard, replace(layout, conversations=conversations))
        return [token_filter.apply(row) for row in islice(rows, MAX_ROWS)]

    rows = read(conversations=True)
    single = [row.conversation is None for row in rows if isinstance(row, RawRow)]
    has_template = isinstance(getattr(tokenizer, "chat_template", None), str)
    if (single and all(single)) or (not has_template and (any(single) or not single)):
        return read(conversations=False), PromptSection()
    for loss_on in LOSS_ON:
        prompt = PromptSection(template=CHAT, loss_on=loss_on)
        chat = TokenCounter.of(tokenizer, models.load_prompt(prompt, model, tokenizer)).chat
        checked = [check_rendering(row, chat) if isinstance(row, RawRow) else row for row in rows]
        if not any(isinstance(row, RejectedRow) and NOT_PREFIX_STABLE in row.reason for row in checked):
            break
    return checked, prompt


def _examine(row: RawRow, skill: Skill) -> tuple[RawRow, Question] | RejectedRow:
    question = find_question(skill, row)
    if isinstance(question, str):
        return RejectedRow(row.file, row.line, question, row.problem, len(row.problem))
    if fault := skill.find_error(question, row.solution):
        return RejectedRow(row.file, row.line, fault, row.problem, len(row.problem))
    return row, question


def _guess_style(skill: Skill, rows: Sequence[tuple[RawRow, Question]], is_chat: bool) -> Style:
    """Return `raw` for conversations and for texts without stated answers, which stay as they are; else the default."""
    if is_chat and skill.name == Text.name:
        return "raw"
    stated = sum(parse_stated_truth(row.solution) is not None for row, _ in rows)
    return "raw" if skill.name == Text.name and stated < 0.5 * len(rows) else "longhand"


def _settings(file: str, out: Path, model: str, rows: Rows, config: Any) -> tuple[dict[str, Any], float]:
    """Return the recipe as a tree of values, and the estimated seconds of one epoch."""
    is_hub = hub.is_hub_name(file)
    name = re.sub(r"[^\w.-]+", "-", Path(file.removeprefix("hf:").partition("#")[0]).name.partition(".")[0]).strip("-.")
    layout = rows.guess.layout
    data: dict[str, Any] = {
        "skill": rows.skill.name,
        **({"grader": _grader_setting(rows.skill.grader)} if rows.skill.grader else {}),
        "files": [file if is_hub else os.path.relpath(Path(file).absolute(), out.absolute().parent)],
    }
    if not layout.has_known_format:
        data["columns"] = layout.columns.model_dump(exclude_none=True)
    if rows.guess.kinds:
        data["kinds"] = list(rows.guess.kinds)
    if layout.ignored:
        data["ignore_columns"] = list(layout.ignored)
    if rows.style != "longhand" and not rows.prompt.is_chat:
        data["styles"] = {"default": rows.style}
    conflicting, usable = _count_conflicts(rows)
    refused = (len(rows.rejected) + conflicting) / (len(rows.accepted) + len(rows.rejected))
    if refused > 0.005:
        data["reject_limit"] = min(1.0, math.ceil(150 * refused) / 100)
    limit = getattr(config, "max_position_embeddings", None) or 10**7
    longest = -(-max(rows.lengths) * 5 // 4 // _TOKEN_STEP) * _TOKEN_STEP
    data["max_tokens"] = min(longest, limit)
    if longest > limit or len(rows.accepted) + len(rows.rejected) >= MAX_ROWS:
        data["too_long"] = "drop"
    if usable < 2:
        cause = f"; {conflicting:,} rows have the problem of another row and another answer" if conflicting else ""
        raise DataError(f"{file}: {usable} problems can be used, and a run needs at least 2{cause}; add rows")
    test = max(1, min(_MAX_TEST, int(_TEST_SHARE * usable)))
    data["split"] = {"dev": min(_MAX_DEV, int(_DEV_SHARE * usable)), "test": test}
    train: dict[str, Any] = {"epochs": 1}
    settings = {
        "name": name or "first",
        "model": {"name": model},
        **_prompt_setting(rows.prompt),
        "data": data,
        "retain": {"replay": ["embedded", "self"], "replay_share": 0.25, "kl_weight": 1.0},
        "train": train,
        "score": {"suite": "quick" if models.device().type == "cpu" else "standard"},
    }
    recipe = recipes.parse(settings, str(out))
    seconds = _epoch_seconds(rows, recipe, config)
    train["epochs"] = max(1, min(_MAX_EPOCHS, int(BUDGET_SECONDS / max(seconds, 1e-9))))
    return settings, seconds


def _prompt_setting(prompt: PromptSection) -> dict[str, Any]:
    """Return the prompt as a recipe names it: nothing for the default template."""
    if not prompt.is_chat:
        return {}
    return {"prompt": CHAT if prompt.loss_on == "all" else {"template": CHAT, "loss_on": prompt.loss_on}}


def _grader_setting(grader: Grader) -> dict[str, Any]:
    """Return the grader as a recipe names it, without options that have their default."""
    return {"name": grader.name, **grader.model_dump(mode="json", by_alias=True, exclude_defaults=True)}


def _count_conflicts(rows: Rows) -> tuple[int, int]:
    """Return the number of rows whose problem occurs with different answers, and of the problems with one answer."""
    truths: dict[str, set[object]] = {}
    for _, question in rows.accepted:
        truths.setdefault(question.text, set()).add(question.truth)
    conflicting = sum(len(truths[question.text]) > 1 for _, question in rows.accepted)
    return conflicting, sum(len(values) == 1 for values in truths.values())


def _epoch_seconds(rows: Rows, recipe: Recipe, config: Any) -> float:
    """Return the estimated training time of one pass over the rows that were looked at."""
    tokens = statistics.mean(rows.lengths) * rows.problems / (1 - recipe.retain.replay_share)
    return float(tokens / tokens_per_second(config, recipe, rows.lengths))


def _comments(rows: Rows, recipe: Recipe, config: Any, epoch_seconds: float) -> dict[str, list[str]]:
    """Return the comment lines of each section."""
    total, more = len(rows.accepted) + len(rows.rejected), " (the first rows of the file)"
    reasons = Counter(row.reason.partition(":")[0] for row in rows.rejected)
    first = {row.reason.partition(":")[0]: row for row in reversed(rows.rejected)}
    ignored = rows.guess.layout.ignored
    data = [
        f"format: {rows.container}; {rows.guess.reason}",
        f"rows: {total:,} read{more if total >= MAX_ROWS else ''}, {len(rows.rejected):,} rejected, "
        f"{rows.problems:,} different problems",
        *(
            f"  rejected: {count:,} × {first[reason].reason[:_WIDTH]}, first at line {first[reason].line}"
            for reason, count in reasons.most_common(3)
        ),
        *([f"not used: {list_names(ignored)} (data.ignore_columns)"] if ignored else ()),
        *_chat_lines(rows),
        *_kind_lines(rows),
        *_grader_lines(rows),
        f"lengths: prompt and solution have {statistics.median_high(rows.lengths):,} tokens (median), "
        f"at most {max(rows.lengths):,}",
    ]
    if conflicting := _count_conflicts(rows)[0]:
        data.append(
            f"conflicts: {conflicting:,} rows have the problem of another row and another answer (data.conflicts)"
        )
    parameters = count_parameters(config, recipe.adapter)
    memory = peak_bytes(config, parameters, recipe, max(rows.lengths), _MAX_TEST)
    minutes = epoch_seconds * recipe.train.epochs_of(1) / 60
    device = models.device()
    train = [
        f"budget: {'under 1' if minutes < 1 else f'about {minutes:,.0f}'} min of training on this machine "
        f"({device.type}), {memory / 2**30:.1f} of {total_bytes(device) / 2**30:.0f} GiB",
        f"        {parameters.trainable:,} of {parameters.total:,} parameters are trained; see keeptune plan",
    ]
    score = ["suite: quick decides less and takes minutes on a processor; standard needs about four times as long"]
    return {"data": data, "train": train, "score": score}


def _chat_lines(rows: Rows) -> list[str]:
    """Return what the chat prompt is for; nothing under a template."""
    if not rows.prompt.is_chat:
        return []
    trained = "every answer" if rows.prompt.loss_on == "all" else "the last answer of each conversation"
    return [
        f"prompt: chat, because {rows.conversations:,} rows have several turns, a system text or tools; {trained} is "
        "trained"
    ]


def _kind_lines(rows: Rows) -> list[str]:
    counts = Counter(question.kind for _, question in rows.accepted)
    listed = ", ".join(f"{kind} {count:,}" for kind, count in counts.most_common(6))
    return [f"kinds: {listed}{', …' if len(counts) > 6 else ''}"]


def _grader_lines(rows: Rows) -> list[str]:
    """Return the guessed grader, and three answers with the grade that they get."""
    lines = [f"grader: {describe_grader(rows.skill, [question.truth for _, question in rows.accepted])}"[:_WIDTH]]
    by_truth: dict[str, tuple[RawRow, Question]] = {}
    for row, question in rows.accepted:
        by_truth.setdefault(str(question.truth), (row, question))
    examples = list(by_truth.values())[:2]
    outputs = [(row, question, row.solution) for row, question in examples]
    if len(examples) > 1:
        outputs.append((*examples[0], examples[1][0].solution))
    for row, question, solution in outputs:
        answer, verdict = _graded(rows.skill.grader, solution, question)
        # A text is compared without spaces, but shown as it is written.
        is_text = rows.skill.grader is None and isinstance(question.truth, str)
        reference = _graded(None, row.solution, question)[0] if is_text else str(question.truth)
        lines.append(f"  line {row.line}: reference {_short(reference)}, output {_short(answer)}: {verdict}")
    return lines


def _graded(grader: Grader | None, solution: str, question: Question) -> tuple[str, str]:
    """Return the answer in an output, and its grade in words."""
    if grader is None:
        is_right = grade(solution, question.truth).correct
        return format_answer_line(solution).removeprefix("#### "), "right" if is_right else "wrong"
    result = grader.grade(solution, str(question.truth), question.text)
    verdict = "right" if result.is_right else f"{result.score:.0%} right" if result.score else "wrong"
    return result.answer or "", verdict


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:39]}…")
