"""Reads per-question results of lm-evaluation-harness or inspect-ai and pairs them for the retention gate.

Use it if base and tuned were evaluated elsewhere; the gate then needs no model. The formats are those of lm-eval 0.4.13
(`lm_eval run --log_samples --output_path DIR`) and inspect-ai 0.3.285 (log version 2).

    base, tuned = read_results(Path("out/base")), read_results(Path("out/tuned"))
    for task in pair_tasks(base, tuned):
        print(task.name, task.metric, task.base.mean(), task.tuned.mean())

Files are only parsed as JSON. No code in them runs, and no archive is unpacked to disk.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from keeptune.errors import DataError
from keeptune.evaluation.statistics import FloatArray
from keeptune.files import Record

METRICS = ("acc_norm", "acc", "exact_match", "f1", "em", "prompt_level_strict_acc")
"""The lm-eval metric that counts is the first of these that a task has. The last one is IFEval's."""

GRADES = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
"""Values of inspect-ai's grades: correct, incorrect, partially correct, no answer."""

MAX_UNPACKED_BYTES = 10**9
"""Limit on the total uncompressed size of an `.eval` archive."""

_SAMPLES_NAME = re.compile(r"samples_(?P<task>.+?)(?:_(?P<date>\d{4}-\d{2}-\d{2}T[\d.-]+))?\.jsonl")
_LOG_START = re.compile(rb'\s*\{\s*"version"\s*:\s*\d+\s*,\s*"status"\s*:\s*"\w+"\s*,\s*"eval"\s*:\s*\{')
_SAMPLE_KEYS = ("id", "input", "choices", "target", "scores", "error", "invalidation")
_READABLE_COMPRESSION = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, getattr(zipfile, "ZIP_ZSTANDARD", None)}
_LEAVE_OUT = "move this file out of the folder, or evaluate the task with a metric such as accuracy"
_CONVERT = "run `inspect log convert --to json --output-dir DIR` on it and give the .json file"
_RETRY = "run `inspect eval-retry` on it, or evaluate again"


@dataclass(frozen=True, slots=True)
class ExternalTask:
    """The results of one model on one task, one entry per question, with values from 0 to 1.

    A fingerprint identifies the question, independent of the model. For lm-eval it is
    `doc_hash/prompt_hash/target_hash`, or a hash of doc and target if the file has no hashes. For inspect-ai it is a
    hash of the sample's input, choices and target.
    """

    name: str
    metric: str
    ids: tuple[str, ...]
    values: tuple[float, ...]
    fingerprints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PairedTask:
    """The values of base and tuned on the same questions, in the order of `ids`. Shapes: both arrays (questions,)."""

    name: str
    metric: str
    ids: tuple[str, ...]
    base: FloatArray
    tuned: FloatArray


@dataclass(frozen=True, slots=True)
class _Log:
    """An inspect-ai log. `identity` is the model with its arguments. Samples have only the keys in _SAMPLE_KEYS."""

    path: Path
    task: str
    identity: str
    created: datetime
    status: str
    samples: list[Record]


def is_result(path: Path) -> bool:
    """Whether the path is a results file or folder of lm-eval or inspect-ai.

    True for a `samples_*.jsonl` file, an inspect-ai log (`.eval`, or `.json` that starts like one), a folder with
    such files, and a folder whose sub-folders have `samples_*.jsonl` files. False for a model or adapter folder.
    """
    try:
        return bool(_result_files(path))
    except OSError:
        return False


def read_results(path: Path) -> list[ExternalTask]:
    """All tasks in a results file or folder, those of lm-eval first.

    For lm-eval, the first metric of METRICS that the task has counts, under its first filter. For inspect-ai, the first
    scorer counts. A scorer with several named values gives one task `task/key` per key whose values are all from 0 to
    1. Values of several epochs are averaged. If a folder has several files of one task, only the newest counts.

    Raises:
        DataError: if the path is no result, a file cannot be used, a sample is not valid, or the models differ.
    """
    try:
        files = _result_files(path)
    except OSError as error:
        raise _unreadable(path, error) from None
    if not files:
        raise DataError(f"{path}: {_why_no_result(path)}")
    samples = [file for file in files if _SAMPLES_NAME.fullmatch(file.name)]
    tasks = [_read_samples(file, name) for name, file in _newest_samples(samples).items()]
    for log in _newest_logs([_load_log(file) for file in files if file not in samples]):
        tasks += _log_tasks(log)
    if repeated := [name for name, count in Counter(task.name for task in tasks).items() if count > 1]:
        raise DataError(f"{path}: several results are named {', '.join(repeated)}; move them to separate folders")
    return tasks


def pair_tasks(base: list[ExternalTask], tuned: list[ExternalTask]) -> list[PairedTask]:
    """The tasks that both have, in the order of `base`, with their questions paired by id.

    Tasks that only one has are left out.

    Raises:
        DataError: if no task is common, or if a common task has another metric or other questions.
    """
    tuned_tasks = {task.name: task for task in tuned}
    pairs = [(task, tuned_tasks[task.name]) for task in base if task.name in tuned_tasks]
    if not pairs:
        names = [", ".join(task.name for task in tasks) or "none" for tasks in (base, tuned)]
        raise DataError(f"no common task (base: {names[0]}; tuned: {names[1]}); evaluate both on the same tasks")
    return [_pair(*pair) for pair in pairs]


def _pair(base: ExternalTask, tuned: ExternalTask) -> PairedTask:
    where = f"task {base.name}"
    if base.metric != tuned.metric:
        metrics = f"{base.metric} for base and {tuned.metric} for tuned"
        raise DataError(f"{where}: the metric is {metrics}; evaluate both with the same version of the task")
    rows = {question: row for row, question in enumerate(tuned.ids)}
    common = rows.keys() & set(base.ids)
    if unpaired := [question for question in (*base.ids, *tuned.ids) if question not in common]:
        only = [len(task.ids) - len(common) for task in (base, tuned)]
        problem = f"{only[0]} questions are only in base and {only[1]} only in tuned, the first is {unpaired[0]}"
        raise DataError(f"{where}: {problem}; evaluate both on the same questions, with the same limit")
    order = [rows[question] for question in base.ids]
    prints = list(zip(base.fingerprints, (tuned.fingerprints[row] for row in order), strict=True))
    if changed := [question for question, (old, new) in zip(base.ids, prints, strict=True) if old != new]:
        same_docs = all(old.split("/")[0] == new.split("/")[0] for old, new in prints)
        what = "prompts or targets" if same_docs else "questions"
        remedy = "task version, few-shot examples and chat template" if same_docs else "version of the task's data"
        problem = f"{len(changed)} {what} differ between base and tuned, the first is {changed[0]}"
        raise DataError(f"{where}: {problem}; evaluate both with the same {remedy}")
    values = np.array(base.values, dtype=np.float64), np.array(tuned.values, dtype=np.float64)[order]
    return PairedTask(base.name, base.metric, base.ids, *values)


def _result_files(path: Path) -> list[Path]:
    """The result files at a path, sorted by name. Only regular files count: reading a pipe could block forever."""
    if not path.is_dir():
        return [path] if _is_result_file(path) else []
    if _is_model(path):
        return []
    children = sorted(path.iterdir())
    files = [child for child in children if _is_result_file(child)]
    for folder in (child for child in children if child.is_dir() and not _is_model(child)):
        files += [file for file in sorted(folder.glob("samples_*.jsonl")) if _is_result_file(file)]
    return files


def _is_model(folder: Path) -> bool:
    return (folder / "config.json").exists() or (folder / "adapter_config.json").exists()


def _is_result_file(file: Path) -> bool:
    if not file.is_file():
        return False
    if file.suffix != ".json":
        return file.suffix == ".eval" or _SAMPLES_NAME.fullmatch(file.name) is not None
    with file.open("rb") as stream:
        return _LOG_START.match(stream.read(4096)) is not None


def _why_no_result(path: Path) -> str:
    if not path.exists():
        return "no such file or folder; check the path"
    if _is_model(path):
        return "this is a model folder; give the folder with the results of its evaluation"
    if any((*path.glob("results_*.json"), *path.glob("*/results_*.json"))):
        return "lm-eval wrote totals here but no samples_*.jsonl; evaluate again with --log_samples"
    return "this is no evaluation result; give lm-eval's samples_*.jsonl, an inspect-ai log, or a folder of them"


def _json(text: bytes, where: str) -> Record:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: is not valid JSON ({error}); copy the file again, or evaluate again") from None
    if not isinstance(value, dict):
        raise DataError(f"{where}: must be a JSON object (got {_short(value)}); evaluate again")
    return value


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise _unreadable(file, error) from None


def _unreadable(file: Path, error: Exception) -> DataError:
    return DataError(f"{file}: cannot be read ({error}); check its permissions, or copy it again")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _hash(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _is_unit(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value <= 1


def _unit_value(value: Any, where: str, metric: str) -> float:
    if not _is_unit(value):
        raise DataError(f"{where}: {metric} must be a number from 0 to 1 (got {_short(value)}); {_LEAVE_OUT}")
    return float(value)


def _newest_samples(files: Sequence[Path]) -> dict[str, Path]:
    """The newest lm-eval file of each task by the date in its name. A name without a date is the oldest."""
    if len(folders := sorted({str(file.parent) for file in files})) > 1:
        raise DataError(f"{', '.join(folders)}: there are results of several models; give one of these folders")
    matches = {file: match for file in files if (match := _SAMPLES_NAME.fullmatch(file.name))}
    if len(dates := {match["date"] for match in matches.values() if match["date"]}) > 1:
        _require_one_model(files[0].parent, dates)
    newest = sorted(matches, key=lambda file: matches[file]["date"] or "")
    return dict(sorted((matches[file]["task"], file) for file in newest))


def _require_one_model(folder: Path, dates: set[str]) -> None:
    """Checks that all lm-eval runs in a folder have the same model arguments, by their totals files `*_DATE.json`.

    Models share a folder if `--output_path` ends in .json, or if only an argument for an adapter differs.
    """
    models = set()
    for file in (file for date in sorted(dates) for file in folder.glob(f"*_{date}.json") if file.is_file()):
        config = _json(_read(file), str(file)).get("config")
        models.add(json.dumps(config.get("model_args") if isinstance(config, dict) else None, sort_keys=True))
    if len(models) > 1:
        problem = f"has runs with different model arguments: {'; '.join(sorted(models))}"
        raise DataError(f"{folder}: {problem}; move the files of each run to its own folder")


def _read_samples(file: Path, name: str) -> ExternalTask:
    values: dict[str, float] = {}
    fingerprints: list[str] = []
    metric, first_filter = "", None
    for number, line in enumerate(BytesIO(_read(file)), 1):
        if not line.strip():
            continue
        sample = _json(line, where := f"{file}:{number}")
        if not metric:
            first_filter = sample.get("filter")
            metric = next((key for key in METRICS if key in sample), "")
        if not metric:
            raise DataError(f"{where}: the sample has none of the metrics {', '.join(METRICS)}; {_LEAVE_OUT}")
        if sample.get("filter") != first_filter:
            continue
        if not isinstance(sample.get("doc_id"), int | str) or metric not in sample:
            raise DataError(f"{where}: the sample has no doc_id or no {metric}; evaluate again")
        question = str(sample["doc_id"])
        if question in values:
            raise DataError(f"{where}: doc_id {question} occurs twice; evaluate again")
        values[question] = _unit_value(sample[metric], where, metric)
        hashes = [str(sample.get(key) or "") for key in ("doc_hash", "prompt_hash", "target_hash")]
        fingerprints.append("/".join(hashes) if any(hashes) else _hash(sample.get("doc"), sample.get("target")))
    if not values:
        raise DataError(f"{file}: has no samples; evaluate again with --log_samples")
    return ExternalTask(name, metric, tuple(values), tuple(values.values()), tuple(fingerprints))


def _load_log(file: Path) -> _Log:
    header = _load_archive(file) if file.suffix == ".eval" else _json(_read(file), str(file))
    try:
        evaluation = header["eval"]
        identity = json.dumps([evaluation.get(key) for key in ("model", "model_args", "task_args")], sort_keys=True)
        created = datetime.fromisoformat(evaluation["created"])
        samples = [{key: sample.get(key) for key in _SAMPLE_KEYS} for sample in header.get("samples") or []]
        task, status = str(evaluation["task"]), str(header["status"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file}: is no inspect-ai log of version 2 ({error!r}); give a log file") from None
    return _Log(file, task, identity, created if created.tzinfo else created.replace(tzinfo=UTC), status, samples)


def _load_archive(file: Path) -> Record:
    """An `.eval` log in the form of a `.json` log: a zip with `header.json` and `samples/ID_epoch_N.json`."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if (size := sum(entry.file_size for entry in entries)) > MAX_UNPACKED_BYTES:
                problem = f"has {size:,} bytes uncompressed, more than the limit of {MAX_UNPACKED_BYTES:,}"
                raise DataError(f"{file}: {problem}; if you trust it, {_CONVERT}")
            if any(entry.compress_type not in _READABLE_COMPRESSION for entry in entries):
                raise DataError(f"{file}: this Python cannot read its compression, probably zstd; {_CONVERT}")
            latest = {entry.filename: entry for entry in entries}  # an edited log may have several of a name
            if "header.json" not in latest:
                raise DataError(f"{file}: has no header.json, so the evaluation did not finish; {_RETRY}")
            names = [name for name in latest if name.startswith("samples/") and name.endswith(".json")]
            header = _entry(archive, latest["header.json"], file)
            return {**header, "samples": [_entry(archive, latest[name], file, _SAMPLE_KEYS) for name in names]}
    except DataError:
        raise
    except Exception as error:  # BadZipFile, OSError, and each codec's error type
        raise _unreadable(file, error) from None


def _entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, file: Path, keys: Sequence[str] = ()) -> Record:
    """An archive entry parsed as JSON, reduced to `keys` if there are any. Reads at most the declared size."""
    with archive.open(entry) as stream:
        value = _json(stream.read(entry.file_size), f"{file}: {entry.filename}")
    return {key: value.get(key) for key in keys} if keys else value


def _newest_logs(logs: Sequence[_Log]) -> list[_Log]:
    """The newest log of each task, sorted by task: a retry replaces the log that failed."""
    newest: dict[str, _Log] = {}
    for log in sorted(logs, key=lambda log: log.created):
        if (older := newest.get(log.task, log)).identity != log.identity:
            problem = f"evaluates task {log.task} with another model or other arguments than {older.path}"
            raise DataError(f"{log.path}: {problem}; give one log, or move the logs of each model to its own folder")
        newest[log.task] = log
    return [newest[task] for task in sorted(newest)]


def _log_tasks(log: _Log) -> list[ExternalTask]:
    if not log.samples:
        raise DataError(f"{log.path}: has no samples; evaluate again without --no-log-samples")
    scorer, rows, fingerprints = "", [], dict[str, str]()
    for sample in log.samples:
        question, where = str(sample["id"]), f"{log.path}: sample {sample['id']}"
        scorer, values = _values(sample, where, scorer)
        rows.append((question, where, values))
        fingerprint = _sample_fingerprint(sample)
        if fingerprints.setdefault(question, fingerprint) != fingerprint:
            raise DataError(f"{where}: epochs have different inputs; give each question its own sample id")
    if log.status != "success":
        raise DataError(f"{log.path}: the evaluation did not finish (status: {log.status}); {_RETRY}")
    keys, tasks = rows[0][2].keys(), []
    if different := [where for _, where, values in rows if values.keys() != keys]:
        raise DataError(f"{different[0]}: {scorer} has other keys than in the first sample; evaluate again")
    for key in keys:
        if key and not all(_is_unit(values[key]) for _, _, values in rows):
            continue  # a count or a text, such as the number of instructions in IFEval
        epochs: dict[str, list[float]] = {question: [] for question in sorted(fingerprints)}
        for question, where, values in rows:
            epochs[question].append(_unit_value(values[key], where, scorer))
        means, prints = map(fmean, epochs.values()), (fingerprints[question] for question in epochs)
        name = f"{log.task}/{key}" if key else log.task
        tasks.append(ExternalTask(name, scorer, tuple(epochs), tuple(means), tuple(prints)))
    if not tasks:
        raise DataError(f"{log.path}: no key of {scorer} has numbers from 0 to 1 ({', '.join(keys)}); {_LEAVE_OUT}")
    return tasks


def _values(sample: Record, where: str, scorer: str) -> tuple[str, Record]:
    """The scorer and its values by name. An empty `scorer` means the sample's first. A single value has no name."""
    if error := sample["error"]:
        message = error.get("message") if isinstance(error, dict) else error
        raise DataError(f"{where}: ended with an error ({_short(message)}); {_RETRY}")
    if sample["invalidation"]:
        raise DataError(f"{where}: was marked as invalid; {_RETRY}")
    scores = sample["scores"] if isinstance(sample["scores"], dict) else {}
    score = scores.get(scorer := scorer or next(iter(scores), "any scorer"))
    value = score.get("value") if isinstance(score, dict) else None
    values = value if isinstance(value, dict) else {"": value}
    if any(entry is None or entry != entry for entry in values.values()):  # a scorer that gives up writes NaN
        raise DataError(f"{where}: has no score of {scorer}; run `inspect score` on the log")
    return scorer, {key: GRADES.get(entry, entry) if isinstance(entry, str) else entry for key, entry in values.items()}


def _sample_fingerprint(sample: Record) -> str:
    question = sample["input"]
    if isinstance(question, list):  # chat messages, which have random ids
        question = [[turn.get("role"), turn.get("content")] for turn in question if isinstance(turn, dict)]
    return _hash(question, sample["choices"], sample["target"])
