"""The data stage: from files, or an invented corpus, to train, dev and test, and a card that accounts for every row."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from keeptune.config.data import DataSection
from keeptune.config.recipe import Recipe
from keeptune.data import card as cards
from keeptune.data.card import Card, KindCard
from keeptune.data.contamination import shared_problems
from keeptune.data.decontamination import leaks as find_leaks
from keeptune.data.decontamination import repeats, sides, without_unseen
from keeptune.data.distinct_counter import Unique
from keeptune.data.distinct_counter import unique as count_unique
from keeptune.data.external_test_set import Brought, brought
from keeptune.data.scan import SYNTH, Gathered, Task, gather, rejected_rows
from keeptune.data.selection import Candidate, Rules, Selection, wanted_kinds
from keeptune.data.solution_rendering import CountTokens, Example, fit, repeat, rewrite
from keeptune.data.sources import Shard, sources
from keeptune.data.split import PARTS, Part, split
from keeptune.data.teacher.rows import with_written_texts
from keeptune.data.workers import Staffing, Workers, without_collector, workers
from keeptune.errors import DataError, RunError
from keeptune.files import unwritable, write_whole
from keeptune.progress import Listener, Silent
from keeptune.skills.base import Skill

_COLUMNS = [column.name for column in fields(Example)]
_SCHEMA = pa.schema(
    [(name, pa.int64() if name in ("line", "prompt_tokens", "solution_tokens") else pa.string()) for name in _COLUMNS]
)


def prepare(
    recipe: Recipe,
    skill: Skill,
    count_tokens: CountTokens,
    directory: Path,
    staffing: Staffing = Staffing(),  # noqa: B008  (frozen)
    listener: Listener = Silent(),  # noqa: B008  (holds nothing)
) -> Card:
    """The data card, after train, dev and test, the rejected rows and the card itself are in `directory`.

    The result is the same whoever does the work.

    errors: RecipeError for a kind that does not exist; DataError for files that cannot be read, too many rejected
    rows, impossible quotas or splits, wrong or too long solutions; RunError when `directory` cannot be written;
    WriterError when the server of data.teacher cannot be reached or fails too often.
    """
    section = recipe.data
    kinds = wanted_kinds(section, skill.kinds, recipe.train.truncate_targets)
    found = sources(section.files)
    _begin(directory)
    with workers(sum(file.bytes for file in found.files), staffing) as staff, without_collector():
        tested = brought(section, skill, count_tokens)
        gathered, unique = _sift(found.shards, recipe, skill, kinds, directory, staff)
        chosen = _choose(gathered, unique, section, skill, tested)
        written = rewrite(chosen.rows, skill, section, count_tokens, staff)
        together = dict(zip((example.id for example in written), chosen.together, strict=True))
        examples = fit(written, section)
        parts = _split(examples, together, section, recipe.seed)
        left_out = len(examples) - sum(map(len, parts.values()))
        origins = {example.id: row for example, row in zip(written, chosen.rows, strict=True)}
        parts["train"] = with_written_texts(parts["train"], origins, skill, section, count_tokens, directory, listener)
        parts["train"] = repeat(parts["train"], chosen.repeated, section.max_repeats)
        truncated = sum(example.tokens > section.max_tokens for part in PARTS for example in parts[part])
        kind_cards = _kind_cards(chosen, parts, section, tested)
        parts["test"] += tested.examples
        leaks = find_leaks(parts, together | tested.twins, skill.free_text_kinds, recipe.score.retained, staff)
    card = Card(
        files=found.files,
        test_files=tested.files,
        test_rejected=tested.rejected,
        rows_read=gathered.read,
        rows_rejected=gathered.rejected,
        rejected_by_reason=gathered.by_reason(),
        rows_kept=gathered.kept.total(),
        unique=unique.problems.total(),
        duplicates=gathered.kept.total() - unique.problems.total(),
        conflicts=unique.conflicts,
        unwrapped=gathered.unwrapped,
        kinds=kind_cards,
        splits=cards.part_cards(parts),
        max_tokens=section.max_tokens,
        truncated=truncated,
        too_long_dropped=len(written) - len(examples),
        left_out=left_out,
        spelling=section.spelling,
        leaks=leaks,
        data_sha256=cards.data_sha256(parts),
    )
    for part in PARTS:
        _save_examples(parts[part], directory / f"{part}.parquet")
    cards.write(card, directory)
    return card


def load_examples(path: Path) -> list[Example]:
    """The examples in a Parquet file that `prepare` wrote. errors: RunError when it is not there or is not such."""
    try:
        table = pq.read_table(path, columns=_COLUMNS, partitioning=None)
        if table.schema != _SCHEMA:
            raise pa.ArrowInvalid(f"its columns are {table.schema.names}")
    except (OSError, pa.ArrowException) as error:
        raise RunError(
            f"{path}: holds no examples ({error}); delete {path.parent} and run the data stage again"
        ) from None
    return [Example(*values) for values in zip(*(table[name].to_pylist() for name in _COLUMNS), strict=True)]


def _begin(directory: Path) -> None:
    """A folder without a card, so that what is left of an earlier attempt is not trusted."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / cards.FILE).unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(directory, error) from None


def _sift(
    shards: Sequence[Shard], recipe: Recipe, skill: Skill, kinds: tuple[str, ...], directory: Path, staff: Workers
) -> tuple[Gathered, Unique]:
    """What all rows hold, and how many different problems of each kind; rejected.jsonl is written.

    errors: DataError when too many rows were bad.
    """
    if recipe.data.synth is not None:
        shards = [Shard(SYNTH)]
    rules = Rules.of(recipe.data, kinds, recipe.seed)
    found = Gathered(Selection(rules))
    log_path = directory / "rejected.jsonl"
    try:
        with tempfile.TemporaryDirectory(dir=directory, prefix="scratch-") as folder:
            numbered, scratch = list(enumerate(shards)), Path(folder)
            dealt = [tuple(numbered[start :: staff.count]) for start in range(min(staff.count, len(numbered)))]
            tasks = [Task(part, recipe.data, skill, rules, scratch, str(i)) for i, part in enumerate(dealt)]
            for result in staff.map(gather, tasks):
                found.merge(result)
            unique = count_unique(scratch, skill.kinds)
            with log_path.open("w", encoding="utf-8") as log:
                log.writelines(rejected_rows(scratch))
    except OSError as error:
        raise unwritable(log_path, error) from None
    if found.rejected > recipe.data.reject_limit * found.read:
        raise _too_many(found, recipe.data.reject_limit, log_path)
    return found, unique


def _too_many(found: Gathered, limit: float, log_path: Path) -> DataError:
    listed = "\n".join(
        f"  {count} × {reason}, first at {found.first[reason][2]}:{found.first[reason][1]}"
        for reason, count in found.by_reason().items()
    )
    return DataError(
        f"{found.rejected} of {found.read} rows are rejected, more than data.reject_limit = {limit:g} allows:\n"
        f"{listed}\n{log_path} has each of them. Repair the files, set data.exclude or data.wrong, or raise "
        "data.reject_limit."
    )


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The rows to teach and to score, each with the text that problems which may not be parted share; how often those
    of a kind are repeated; and what was found of each kind."""

    rows: list[Candidate]
    together: list[str]
    repeated: dict[str, int]
    found: dict[str, cards.Found]


def _choose(gathered: Gathered, unique: Unique, section: DataSection, skill: Skill, tested: Brought) -> _Chosen:
    choice = gathered.selection.choose(unique.problems)
    if not choice.rows:
        raise DataError("no problem is chosen; check data.files, data.kinds and data.quota")
    rows, unseen = without_unseen(choice.rows, section, skill, tested.problems)
    together = sides(rows, section, skill)
    again = repeats(together)
    near = Counter(row.question.kind for row, repeated in zip(rows, again, strict=True) if repeated)
    if section.near_duplicates == "drop":
        firsts = [index for index, repeated in enumerate(again) if not repeated]
        rows, together = [rows[index] for index in firsts], [together[index] for index in firsts]
    found = {
        kind: cards.Found(
            rows=gathered.kept[kind] + gathered.wrong[kind],
            rejected=gathered.wrong[kind],
            unique=unique.problems[kind],
            unseen=unseen[kind],
            near_duplicates=near[kind],
        )
        for kind in skill.kinds
    }
    return _Chosen(rows, together, choice.repeated, found)


def _split(
    examples: list[Example], twins: Mapping[str, str], section: DataSection, seed: int
) -> dict[Part, list[Example]]:
    placed = split(
        [example.kind for example in examples],
        [twins[example.id] for example in examples],
        section.split.dev,
        0 if section.test_files else section.split.test,
        seed,
        by=section.split.by,
        texts=[example.problem for example in examples],
    )
    parts = {part: [e for e, place in zip(examples, placed, strict=True) if place == part] for part in PARTS}
    shared = shared_problems(*([example.id for example in parts[part]] for part in PARTS))
    assert not shared, f"problems in two parts: {shared}"
    return parts


def _kind_cards(
    chosen: _Chosen, parts: Mapping[Part, list[Example]], section: DataSection, tested: Brought
) -> dict[str, KindCard]:
    mistaken = {(row.file, row.line) for row in chosen.rows if row.fault}
    asked = Counter(example.kind for example in tested.examples)
    by_kind: dict[str, dict[Part, list[Example]]] = {kind: {part: [] for part in PARTS} for kind in chosen.found}
    for part in PARTS:
        for example in parts[part]:
            by_kind[example.kind][part].append(example)
    return {
        kind: cards.kind_card(found, by_kind[kind], mistaken, section.rounding.for_kind(kind), asked[kind])
        for kind, found in chosen.found.items()
    }


def _save_examples(examples: list[Example], path: Path) -> None:
    columns = {name: [getattr(example, name) for example in examples] for name in _COLUMNS}
    table = pa.table(columns, schema=_SCHEMA)
    write_whole(path, lambda scratch: pq.write_table(table, scratch, compression="zstd"))
