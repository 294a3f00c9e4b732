"""Tasks of EleutherAI's lm-evaluation-harness as further abilities to keep: asked of base and tuned through one model.

The harness asks and scores; keeptune takes from it one value a question, so that its own pairing, interval and gate
apply. Models that few people use reading for are known by such tasks. It is the extra `keeptune[harness]`.
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
from keeptune.files import file_sha256
from keeptune.models.load import cache_folder

Record = dict[str, Any]

METRICS = ("acc_norm", "acc", "exact_match", "f1", "em")
"""Which of a task's metrics counts: the first of these that it has; from 0 to 1, more is better."""

ASKED = ("task", "id", "prompt_hash", "target")
"""What must be equal for base and tuned, question by question."""

BATCH_ROWS = 8


def score_tasks(model: Any, tokenizer: Any, tasks: Sequence[str], limit: int, folder: str | None) -> list[Record]:
    """One record a question of each task, in the harness's order; of a group, the questions of all its tasks.

    errors: RecipeError when the harness is not installed or cannot ask these tasks, or one has none of METRICS;
    DataError when a task's data cannot be had.
    """
    evaluator, models, managers = _harness()
    manager = managers.TaskManager(include_path=folder)
    if unknown := [name for name in tasks if name not in manager.all_tasks]:
        raise RecipeError(
            f"score.tasks: the harness knows no {', '.join(unknown)}; `lm-eval ls tasks` lists those that it knows, "
            "and score.tasks_path takes a folder with files of your own"
        )
    wrapped = models.HFLM(pretrained=model, tokenizer=tokenizer, batch_size=BATCH_ROWS)
    try:
        found = evaluator.simple_evaluate(
            model=wrapped,
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
        raise RecipeError(f"score.tasks: the harness cannot ask these ({error}); change the list") from None
    except OSError as error:
        raise DataError(f"score.tasks: the data of {', '.join(tasks)} cannot be had ({error})") from None
    parts = found.get("group_subtasks") or {}
    return list(chain.from_iterable(_records(name, _leaves(name, parts), found["samples"]) for name in tasks))


def facts(tasks: Sequence[str], limit: int, folder: str | None) -> Record:
    """What the records depend on besides the model. A folder's files count by what is in them.

    errors: RecipeError when the harness is not installed.
    """
    require_installed()
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file()) if folder else []
    return {
        "what": "tasks",
        "tasks": list(tasks),
        "limit": limit,
        "files": [[path.name, file_sha256(path)] for path in files],
        "lm_eval": metadata.version("lm_eval"),
    }


def summary(base: Sequence[Record], tuned: Sequence[Record], resamples: int, seed: int) -> dict[str, Record]:
    """Of each task: its metric, questions, both means in percent, and tuned over base with its interval."""
    told = {}
    for name in dict.fromkeys(record["task"] for record in base):
        before, after = (values(records, name) for records in (base, tuned))
        asked = [record for record in base if record["task"] == name]
        questions = [record["id"] for record in asked]
        told[name] = {
            "metric": asked[0]["metric"],
            "n": len(before),
            "base": 100 * float(before.mean()),
            "tuned": 100 * float(after.mean()),
            "ratio": paired_ratio(before, after, questions, resamples=resamples, seed=seed),
        }
    return told


def ability_scores(base: Sequence[Record], tuned: Sequence[Record]) -> list[AbilityScores]:
    """Each task as an ability of its own for the retention verdict."""
    made = []
    for name in dict.fromkeys(record["task"] for record in base):
        before, after = (values(records, name) for records in (base, tuned))
        own = [record for record in base if record["task"] == name]
        questions = [record["id"] for record in own]
        size = len(before)
        pairs = Measurement(own[0]["metric"], "score", before, after, questions, np.ones(size), 0.0, size)
        made.append(AbilityScores(f"{TASK_PREFIX}{name}", [pairs]))
    return made


def check_same(base: Sequence[Record], tuned: Sequence[Record]) -> None:
    """The base's answers may be from an earlier day, and data on a hub can change.

    errors: DataError when the two were not asked the same.
    """
    if [_asked(record) for record in base] != [_asked(record) for record in tuned]:
        raise DataError(
            "scores/tasks-base.jsonl: the base was asked other questions than the tuned model, for the data of a task "
            f"in score.tasks changed in between; delete it and older answers in {cache_folder() / 'scores'}, then run "
            "the same command again"
        )


def _asked(record: Record) -> list[Any]:
    return [record[key] for key in ASKED]


def values(records: Sequence[Record], task: str) -> FloatArray:
    """The score of each question of a task, from 0 to 1."""
    return np.array([record["value"] for record in records if record["task"] == task], dtype=np.float64)


def require_installed() -> None:
    """errors: RecipeError when the harness is not there."""
    _harness()


def _harness() -> tuple[Any, Any, Any]:
    try:
        from lm_eval import evaluator, tasks
        from lm_eval.models import huggingface
    except ImportError as error:
        raise RecipeError(f"score.tasks needs the harness: pip install 'keeptune[harness]' ({error})") from None
    return evaluator, huggingface, tasks


def _leaves(name: str, parts: Mapping[str, Sequence[str]]) -> list[str]:
    """The tasks that a name stands for: itself, or those of the group."""
    if not parts.get(name):
        return [name]
    return list(chain.from_iterable(_leaves(part, parts) for part in parts[name]))


def _records(name: str, leaves: Sequence[str], samples: Mapping[str, Sequence[Record]]) -> list[Record]:
    records = []
    for leaf in leaves:
        # Where answers are read by several filters there is a sample for each, and the first filter counts.
        first = samples[leaf][0].get("filter") if samples[leaf] else None
        for sample in (own for own in samples[leaf] if own.get("filter") == first):
            metric = next((metric for metric in METRICS if metric in sample), None)
            if metric is None:
                raise RecipeError(f"score.tasks: {leaf} has none of the metrics {', '.join(METRICS)}; leave it out")
            asked = {"id": f"{leaf}/{sample['doc_id']}", "prompt_hash": sample["prompt_hash"]}
            answer = {"target": str(sample["target"]), "responses": str(sample["filtered_resps"])}
            records.append({"task": name, "metric": metric, **asked, **answer, "value": float(sample[metric])})
    return records
