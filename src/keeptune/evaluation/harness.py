"""Tasks of EleutherAI's lm-evaluation-harness as further retained abilities. Needs the extra `keeptune[harness]`.

The harness runs and scores the tasks on the loaded model. keeptune takes one value per question, and applies its own
pairing, intervals and gate. Results of the harness from elsewhere are read by external_results.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from keeptune.config.ability_names import TASK_PREFIX
from keeptune.errors import DataError, RecipeError
from keeptune.evaluation.gate import AbilityScores, Measurement
from keeptune.evaluation.statistics import FloatArray, paired_ratio
from keeptune.files import Record, file_sha256
from keeptune.grading.graders.user_function import require_code_allowed
from keeptune.models.load import cache_folder

METRICS = ("acc_norm", "acc", "exact_match", "f1", "em")
"""The metric that counts is the first of these that a task has. Values are from 0 to 1, and more is better."""

QUESTION_KEYS = ("task", "id", "prompt_hash", "target")
"""Keys of a record that identify the question. They must be equal for base and tuned."""

BATCH_ROWS = 8


def score_tasks(model: Any, tokenizer: Any, tasks: Sequence[str], limit: int, folder: str | None) -> list[Record]:
    """Runs tasks or groups of tasks; returns one record per question, in the harness's order.

    Args:
        limit: maximum number of questions per task; 0 for all.
        folder: a folder with task files of the user, or None.

    Raises:
        RecipeError: if the harness is not installed or cannot run these tasks, if a task has none of METRICS, or if
            `folder` is given and the command line does not allow code.
        DataError: if the data of a task cannot be loaded.
    """
    evaluator, models, managers = _import_harness()
    check_task_files(folder)
    manager = managers.TaskManager(include_path=folder)
    if unknown := [name for name in tasks if name not in manager.all_tasks]:
        raise RecipeError(
            f"score.tasks: lm-evaluation-harness has no task named {', '.join(unknown)}; `lm-eval ls tasks` lists its "
            "tasks, and score.tasks_path adds a folder with your own task files"
        )
    try:
        results = evaluator.simple_evaluate(
            model=models.HFLM(pretrained=model, tokenizer=tokenizer, batch_size=BATCH_ROWS),
            tasks=list(tasks),
            task_manager=manager,
            limit=limit or None,
            log_samples=True,
            bootstrap_iters=0,
            random_seed=0,
            numpy_random_seed=0,
            torch_random_seed=0,
            fewshot_random_seed=0,
        )
    except ValueError as error:  # such as a task that is also in a group
        raise RecipeError(
            f"score.tasks: lm-evaluation-harness cannot run these tasks ({error}); change the list"
        ) from None
    except OSError as error:
        raise DataError(
            f"score.tasks: the data of {', '.join(tasks)} cannot be loaded ({error}); check the network or the task "
            "files, then run the same command again"
        ) from None
    groups = results.get("group_subtasks") or {}
    return list(chain.from_iterable(_records(name, _tasks_in(name, groups), results["samples"]) for name in tasks))


def check_task_files(folder: str | None) -> None:
    """Raises RecipeError if there are task files of the user and the command line does not allow code.

    They can name Python functions, and their templates are not sandboxed.
    """
    if folder is not None:
        require_code_allowed(f"score.tasks_path: {folder}: task files can name functions, so this")


def fingerprint(tasks: Sequence[str], limit: int, folder: str | None) -> Record:
    """What the records depend on besides the model. The files of the folder count by their content.

    Raises:
        RecipeError: if the harness is not installed.
    """
    check_installed()
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file()) if folder else []
    return {
        "what": "tasks",
        "tasks": list(tasks),
        "limit": limit,
        "files": [[path.name, file_sha256(path)] for path in files],
        "lm_eval": metadata.version("lm_eval"),
    }


def summarize(base: Sequence[Record], tuned: Sequence[Record], resamples: int, seed: int) -> dict[str, Record]:
    """By task: its metric, number of questions, both means in percent, and tuned / base with its 95 % interval."""
    summaries = {}
    for name in dict.fromkeys(record["task"] for record in base):
        before, after = (per_question_scores(records, name) for records in (base, tuned))
        task_records = [record for record in base if record["task"] == name]
        questions = [record["id"] for record in task_records]
        summaries[name] = {
            "metric": task_records[0]["metric"],
            "n": len(before),
            "base": 100 * float(before.mean()),
            "tuned": 100 * float(after.mean()),
            "ratio": paired_ratio(before, after, questions, resamples=resamples, seed=seed),
        }
    return summaries


def ability_scores(base: Sequence[Record], tuned: Sequence[Record]) -> list[AbilityScores]:
    """The measurements for the retention verdict; each task is one ability."""
    scores = []
    for name in dict.fromkeys(record["task"] for record in base):
        before, after = (per_question_scores(records, name) for records in (base, tuned))
        task_records = [record for record in base if record["task"] == name]
        questions = [record["id"] for record in task_records]
        size = len(before)
        metric = task_records[0]["metric"]
        measurement = Measurement(metric, "score", before, after, questions, np.ones(size), 0.0, size)
        scores.append(AbilityScores(f"{TASK_PREFIX}{name}", [measurement]))
    return scores


def check_same_questions(base: Sequence[Record], tuned: Sequence[Record]) -> None:
    """Checks that base and tuned answered the same questions. The base's records may be older than the task's data.

    Raises:
        DataError: if a question differs.
    """
    base_questions, tuned_questions = (
        [[record[key] for key in QUESTION_KEYS] for record in records] for records in (base, tuned)
    )
    if base_questions != tuned_questions:
        raise DataError(
            "scores/tasks-base.jsonl: the base answered other questions than the tuned model, because the data of a "
            f"task in score.tasks has changed in between; delete this file and {cache_folder() / 'scores'}, then run "
            "the same command again"
        )


def per_question_scores(records: Sequence[Record], task: str) -> FloatArray:
    """The score of each question of a task, from 0 to 1. Shape: (questions,)."""
    return np.array([record["value"] for record in records if record["task"] == task], dtype=np.float64)


def check_installed() -> None:
    """Checks that lm-evaluation-harness can be imported.

    Raises:
        RecipeError: if it cannot.
    """
    _import_harness()


def _import_harness() -> tuple[Any, Any, Any]:
    try:
        from lm_eval import evaluator, tasks
        from lm_eval.models import huggingface
    except ImportError as error:
        raise RecipeError(
            f"score.tasks: lm-evaluation-harness cannot be imported ({error}); pip install 'keeptune[harness]'"
        ) from None
    return evaluator, huggingface, tasks


def _tasks_in(name: str, groups: Mapping[str, Sequence[str]]) -> list[str]:
    """The tasks that a name stands for: the task itself, or all tasks of the group."""
    if not groups.get(name):
        return [name]
    return list(chain.from_iterable(_tasks_in(part, groups) for part in groups[name]))


def _records(name: str, tasks: Sequence[str], samples: Mapping[str, Sequence[Record]]) -> list[Record]:
    """The records of one name in `score.tasks`, from the harness's samples."""
    records = []
    for task in tasks:
        # A task with several filters has a sample per question and filter. The first filter counts.
        first_filter = samples[task][0].get("filter") if samples[task] else None
        for sample in (sample for sample in samples[task] if sample.get("filter") == first_filter):
            metric = next((metric for metric in METRICS if metric in sample), None)
            if metric is None:
                raise RecipeError(f"score.tasks: {task} has none of the metrics {', '.join(METRICS)}; leave it out")
            records.append(
                {
                    "task": name,
                    "metric": metric,
                    "id": f"{task}/{sample['doc_id']}",
                    "prompt_hash": sample["prompt_hash"],
                    "target": str(sample["target"]),
                    "responses": str(sample["filtered_resps"]),
                    "value": float(sample[metric]),
                }
            )
    return records
