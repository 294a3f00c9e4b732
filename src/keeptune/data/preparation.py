"""The data stage: turns input files or a generated corpus into train, dev and test, and a card of all counts."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from keeptune.config.data import DataSection
from keeptune.config.recipe import Recipe
from keeptune.data import card as data_card
from keeptune.data.card import DataCard, KindCard, KindCounts
from keeptune.data.columns import RowLayout
from keeptune.data.contamination import ContaminationReport, find_shared_keys
from keeptune.data.decontamination import check_contamination, duplicate_group_keys, mark_repeats, remove_forbidden
from keeptune.data.distinct_counter import DistinctCounts, count_distinct
from keeptune.data.external_test_set import ExternalTestSet, load_external_test_set
from keeptune.data.sample import detect_formats
from keeptune.data.scan import SYNTHETIC, ScanResult, ScanTask, read_rejected_lines, scan
from keeptune.data.selection import Candidate, Selection, SelectionRules, resolve_kinds
from keeptune.data.solution_rendering import (
    CountTokens,
    PreparedRow,
    enforce_max_tokens,
    render_solutions,
    repeat_rows,
)
from keeptune.data.sources import Shard, SourceFile, resolve_sources
from keeptune.data.split import SPLITS, SplitName, split
from keeptune.data.teacher.rows import apply_teacher_texts
from keeptune.data.workers import Executor, WorkerConfig, garbage_collection_paused, open_executor
from keeptune.errors import DataError, RunError
from keeptune.files import write_atomically, write_error
from keeptune.progress import Reporter, SilentReporter
from keeptune.prompts.token_count import ChatRows
from keeptune.skills.base import Skill

CONVERSATION = "conversation"
"""The last column of the Parquet file of a split. A file without conversations does not have it."""

COLUMNS = [column.name for column in fields(PreparedRow) if column.name != CONVERSATION]
"""The other columns of the Parquet file of a split."""

_CONVERSATION_FIELD = pa.field(CONVERSATION, pa.string())

SCHEMA = pa.schema(
    [(name, pa.int64() if name in ("line", "prompt_tokens", "solution_tokens") else pa.string()) for name in COLUMNS]
)


def prepare(
    recipe: Recipe,
    skill: Skill,
    count_tokens: CountTokens,
    directory: Path,
    worker_config: WorkerConfig = WorkerConfig(),  # noqa: B008  (frozen)
    reporter: Reporter = SilentReporter(),  # noqa: B008  (holds nothing)
    special_tokens: Sequence[str] = (),
    chat: ChatRows | None = None,
) -> DataCard:
    """Run the data stage and return its card.

    It writes train, dev and test, the rejected rows and the card to `directory`. The result does not depend on
    `worker_config`. `special_tokens` are those of the tokenizer; see data.special_tokens. `chat` checks rows under a
    chat prompt; without it, conversations are rejected.

    Raises:
        RecipeError: the recipe names an unknown kind.
        DataError: files cannot be read, too many rows are rejected, quotas or splits cannot be met, or solutions are
            wrong or too long.
        RunError: `directory` cannot be written.
        WriterError: the server of data.teacher cannot be reached or fails too often.
    """
    kinds = resolve_kinds(recipe.data, skill.kinds, recipe.train.truncate_targets)
    sources = resolve_sources(recipe.data.files)
    _create_directory(directory)
    context = _Context(recipe, skill, count_tokens, directory, reporter, tuple(special_tokens), chat)
    input_bytes = sum(file.bytes for file in sources.files)
    with open_executor(input_bytes, worker_config) as executor, garbage_collection_paused():
        test_set = load_external_test_set(recipe.data, skill, count_tokens, special_tokens, chat)
        scan_result, distinct = _scan_rows(sources.shards, context, kinds, executor)
        selected = _select(scan_result, distinct, context, test_set)
        prepared = _prepare_splits(selected, context, test_set, executor)
    formats = detect_formats([file.file for file in sources.files], RowLayout.from_section(recipe.data))
    card = _build_card(sources.files, formats, test_set, scan_result, distinct, prepared, recipe.data)
    for name in SPLITS:
        _save_rows(prepared.splits[name], directory / f"{name}.parquet")
    data_card.write_card(card, directory)
    return card


def load_prepared_rows(path: Path) -> list[PreparedRow]:
    """Return the rows of a Parquet file that `prepare` wrote.

    Raises:
        RunError: the file is missing or has another format.
    """
    try:
        has_conversations = CONVERSATION in pq.read_schema(path).names
        schema = SCHEMA.append(_CONVERSATION_FIELD) if has_conversations else SCHEMA
        table = pq.read_table(path, columns=schema.names, partitioning=None)
        if table.schema != schema:
            raise pa.ArrowInvalid(f"its columns are {table.schema.names}")
    except (OSError, pa.ArrowException) as error:
        raise RunError(
            f"{path}: cannot read the prepared rows ({error}); delete {path.parent} and run the data stage again"
        ) from None
    return [PreparedRow(*values) for values in zip(*(column.to_pylist() for column in table.columns), strict=True)]


@dataclass(frozen=True, slots=True)
class _Context:
    """The inputs that all steps of the stage share."""

    recipe: Recipe
    skill: Skill
    count_tokens: CountTokens
    directory: Path
    reporter: Reporter
    special_tokens: tuple[str, ...]
    chat: ChatRows | None

    @property
    def section(self) -> DataSection:
        return self.recipe.data


@dataclass(frozen=True, slots=True)
class _Selected:
    """The selected candidates with their `duplicate_group_keys`, the repetition targets, and the counts per kind."""

    candidates: list[Candidate]
    group_keys: list[str]
    repeat_targets: dict[str, int]
    counts: dict[str, KindCounts]
    ambiguous_keys: frozenset[str]
    """The group keys of problems with several answers, which are not held out."""


@dataclass(frozen=True, slots=True)
class _PreparedSplits:
    """The rows of each split, and the figures about them for the card."""

    splits: dict[SplitName, list[PreparedRow]]
    kind_cards: dict[str, KindCard]
    contamination: ContaminationReport
    truncated: int
    too_long_dropped: int
    left_out: int
    ambiguous: int


def _create_directory(directory: Path) -> None:
    """Create the directory and delete an old card, so that the files of an earlier attempt are not trusted."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / data_card.FILE_NAME).unlink(missing_ok=True)
    except OSError as error:
        raise write_error(directory, error) from None


def _scan_rows(
    shards: Sequence[Shard], context: _Context, kinds: tuple[str, ...], executor: Executor
) -> tuple[ScanResult, DistinctCounts]:
    """Scan all rows, count the distinct problems per kind, and write rejected.jsonl.

    Raises:
        DataError: the share of rejected rows is above data.reject_limit.
    """
    section, skill = context.section, context.skill
    if section.synth is not None:
        shards = [Shard(SYNTHETIC)]
    rules = SelectionRules.from_section(section, kinds, context.recipe.seed)
    task = ScanTask((), section, skill, rules, Path(), "", context.special_tokens, context.chat)
    log_path = context.directory / "rejected.jsonl"
    try:
        result, distinct = _run_scan(shards, task, log_path, executor)
        if section.conflicts == "reject" and distinct.ambiguous:
            # Which problems have several answers is known only after all rows.
            task = replace(task, ambiguous=distinct.ambiguous)
            result, counts = _run_scan(shards, task, log_path, executor)
            distinct = replace(counts, conflicts=distinct.conflicts, ambiguous=distinct.ambiguous)
    except OSError as error:
        raise write_error(log_path, error) from None
    if result.rejected > section.reject_limit * result.rows_read:
        raise _reject_limit_error(result, section.reject_limit, log_path)
    return result, distinct


def _run_scan(
    shards: Sequence[Shard], task: ScanTask, log_path: Path, executor: Executor
) -> tuple[ScanResult, DistinctCounts]:
    """Scan all shards with the settings of a task, and write the rejected rows to `log_path`."""
    result = ScanResult(Selection(task.rules))
    with tempfile.TemporaryDirectory(dir=log_path.parent, prefix="scratch-") as folder:
        numbered, scratch = list(enumerate(shards)), Path(folder)
        count = min(executor.worker_count, len(numbered))
        tasks = [
            replace(task, shards=tuple(numbered[start :: executor.worker_count]), scratch=scratch, name=str(start))
            for start in range(count)
        ]
        for task_result in executor.map(scan, tasks):
            result.merge(task_result)
        distinct = count_distinct(scratch, task.skill.kinds)
        with log_path.open("w", encoding="utf-8") as log:
            log.writelines(read_rejected_lines(scratch))
    return result, distinct


def _reject_limit_error(result: ScanResult, limit: float, log_path: Path) -> DataError:
    lines = []
    for reason, count in result.rejected_by_reason().items():
        _, line, file, details = result.first[reason]
        suffix = f" ({details.removeprefix(f'{reason}:').strip()})" if details != reason else ""
        lines.append(f"  {count} × {reason}, first at {file}:{line}{suffix}")
    listed = "\n".join(lines)
    return DataError(
        f"{result.rejected} of {result.rows_read} rows are rejected, more than data.reject_limit = {limit:g} allows:\n"
        f"{listed}\n{log_path} lists all of them. Repair the files, set data.exclude or data.wrong, or raise "
        "data.reject_limit."
    )


def _select(result: ScanResult, distinct: DistinctCounts, context: _Context, test_set: ExternalTestSet) -> _Selected:
    """Select the candidates, and remove forbidden problems and, if the recipe says so, near-duplicates."""
    section, skill = context.section, context.skill
    selected = result.selection.select(distinct.problems)
    if not selected.rows:
        raise DataError("no problem is selected; check data.files, data.kinds and data.quota")
    candidates, forbidden = remove_forbidden(selected.rows, section, skill, test_set.problems, context.chat)
    group_keys = duplicate_group_keys(candidates, section, skill)
    is_repeat = mark_repeats(group_keys)
    repeats = Counter(
        candidate.question.kind for candidate, repeat in zip(candidates, is_repeat, strict=True) if repeat
    )
    if section.near_duplicates == "drop":
        indices = [index for index, repeat in enumerate(is_repeat) if not repeat]
        candidates, group_keys = [candidates[index] for index in indices], [group_keys[index] for index in indices]
    counts = {
        kind: KindCounts(
            rows=result.accepted[kind] + result.wrong[kind],
            rejected=result.wrong[kind],
            unique=distinct.problems[kind],
            unseen=forbidden[kind],
            near_duplicates=repeats[kind],
        )
        for kind in skill.kinds
    }
    answers = Counter(candidate.question.text for candidate in candidates)
    ambiguous_keys = frozenset(
        key for candidate, key in zip(candidates, group_keys, strict=True) if answers[candidate.question.text] > 1
    )
    return _Selected(candidates, group_keys, selected.repeat_targets, counts, ambiguous_keys)


def _prepare_splits(
    selected: _Selected, context: _Context, test_set: ExternalTestSet, executor: Executor
) -> _PreparedSplits:
    """Render the selected candidates, split them, and complete the splits with teacher texts and test files."""
    section, skill, count_tokens = context.section, context.skill, context.count_tokens
    rendered = render_solutions(selected.candidates, skill, section, count_tokens, executor)
    group_keys = {row.id: key for row, key in zip(rendered, selected.group_keys, strict=True)}
    candidates = {row.id: candidate for row, candidate in zip(rendered, selected.candidates, strict=True)}
    rows = enforce_max_tokens(rendered, section)
    splits = _split_rows(rows, group_keys, selected.ambiguous_keys, section, context.recipe.seed)
    answers = Counter(row.id for row in rows)
    ambiguous = sum(count > 1 for count in answers.values())
    left_out = len(rows) - sum(map(len, splits.values()))
    train = apply_teacher_texts(
        splits["train"], candidates, skill, section, count_tokens, context.directory, context.reporter
    )
    splits["train"] = repeat_rows(train, selected.repeat_targets, section.max_repeats)
    truncated = sum(row.tokens > section.max_tokens for name in SPLITS for row in splits[name])
    kind_cards = _build_kind_cards(selected, splits, section, test_set)
    splits["test"] += test_set.rows
    contamination = check_contamination(
        splits, group_keys | test_set.canonical_forms, skill.free_text_kinds, context.recipe.score.retained, executor
    )
    return _PreparedSplits(splits, kind_cards, contamination, truncated, len(rendered) - len(rows), left_out, ambiguous)


def _split_rows(
    rows: list[PreparedRow],
    group_keys: Mapping[str, str],
    ambiguous_keys: frozenset[str],
    section: DataSection,
    seed: int,
) -> dict[SplitName, list[PreparedRow]]:
    assigned = split(
        [row.kind for row in rows],
        [group_keys[row.id] for row in rows],
        section.split.dev,
        0 if section.test_files else section.split.test,
        seed,
        by=section.split.by,
        texts=[row.problem for row in rows],
        train_only=ambiguous_keys,
    )
    splits = {name: [row for row, other in zip(rows, assigned, strict=True) if other == name] for name in SPLITS}
    shared = find_shared_keys(*([row.id for row in splits[name]] for name in SPLITS))
    assert not shared, f"problems in two splits: {shared}"
    return splits


def _build_kind_cards(
    selected: _Selected,
    splits: Mapping[SplitName, list[PreparedRow]],
    section: DataSection,
    test_set: ExternalTestSet,
) -> dict[str, KindCard]:
    faulty_origins = {(candidate.file, candidate.line) for candidate in selected.candidates if candidate.fault}
    external_test_rows = Counter(row.kind for row in test_set.rows)
    by_kind: dict[str, dict[SplitName, list[PreparedRow]]] = {
        kind: {name: [] for name in SPLITS} for kind in selected.counts
    }
    for name in SPLITS:
        for row in splits[name]:
            by_kind[row.kind][name].append(row)
    return {
        kind: data_card.build_kind_card(
            counts, by_kind[kind], faulty_origins, section.rounding.for_kind(kind), external_test_rows[kind]
        )
        for kind, counts in selected.counts.items()
    }


def _build_card(
    files: list[SourceFile],
    formats: dict[str, str],
    test_set: ExternalTestSet,
    result: ScanResult,
    distinct: DistinctCounts,
    prepared: _PreparedSplits,
    section: DataSection,
) -> DataCard:
    accepted, unique = result.accepted.total(), distinct.problems.total()
    return DataCard(
        files=files,
        formats=formats,
        test_files=test_set.files,
        test_rejected=test_set.rejected,
        rows_read=result.rows_read,
        rows_rejected=result.rejected,
        rejected_by_reason=result.rejected_by_reason(),
        rows_kept=accepted,
        unique=unique,
        duplicates=accepted - unique,
        conflicts=distinct.conflicts,
        ambiguous=len(distinct.ambiguous) or prepared.ambiguous,
        special_tokens_stripped=result.stripped,
        unwrapped=result.unwrapped,
        kinds=prepared.kind_cards,
        splits=data_card.build_split_cards(prepared.splits),
        max_tokens=section.max_tokens,
        truncated=prepared.truncated,
        too_long_dropped=prepared.too_long_dropped,
        left_out=prepared.left_out,
        spelling=section.spelling,
        leaks=prepared.contamination,
        data_sha256=data_card.data_sha256(prepared.splits),
    )


def _save_rows(rows: list[PreparedRow], path: Path) -> None:
    columns = {name: [getattr(row, name) for row in rows] for name in COLUMNS}
    table = pa.table(columns, schema=SCHEMA)
    if any(row.conversation is not None for row in rows):
        table = table.append_column(_CONVERSATION_FIELD, pa.array([row.conversation for row in rows], pa.string()))
    write_atomically(path, lambda scratch: pq.write_table(table, scratch, compression="zstd"))
