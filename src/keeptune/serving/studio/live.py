"""What a run has done so far: losses, dev scores, suite, speed, and the end of its log."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from keeptune.config import recipe as recipes
from keeptune.errors import KeeptuneError
from keeptune.event_log import EventLog
from keeptune.files import Record, open_regular, read_json
from keeptune.progress import printable
from keeptune.run_files.card import Card
from keeptune.run_files.directory import RunDirectory
from keeptune.serving.studio.pairs import BASE, SKILL, TUNED, read_file, record_files
from keeptune.serving.studio.runs import contained, read_result, summarize

POINTS = 200
"""The most points of one curve; neighbors are averaged."""

SPEED_STEPS = 20
"""The number of last steps that the speed is measured on."""

LOG_LINES, LOG_BYTES = 40, 2**16
"""How much of the end of a log is shown."""


def progress(run: str, directory: RunDirectory) -> Record:
    """The state of a run as a JSON object.

    Raises:
        RunError: naming the line of the log that is damaged.
    """
    log = contained(directory, directory.event_log) if directory.event_log.exists() else directory.event_log
    events = EventLog(log).events()
    steps = [event for event in events if event["event"] == "train"]
    return {
        **summarize(run, directory),
        "training": _training(directory, steps),
        "losses": losses_by_kind(steps),
        "dev": [_dev_scores(event) for event in events if event["event"] in ("base", "score")],
        "stages": [
            {"stage": event["stage"], "seconds": event["seconds"]} for event in events if event["event"] == "stage"
        ],
        "suite": suite_so_far(directory),
        "gate": _gate(directory),
        "log": last_lines(log),
    }


def losses_by_kind(steps: Sequence[Record]) -> dict[str, list[tuple[int, float]]]:
    """The loss of each kind as (step, mean over neighboring steps), with at most POINTS points per kind."""
    values: dict[str, list[tuple[int, float]]] = {}
    for event in steps:
        for kind, loss in event["loss_by_kind"].items():
            values.setdefault(kind, []).append((event["step"], loss))
    return {kind: _thinned(points) for kind, points in values.items()}


def _thinned(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    size = -(-len(points) // POINTS)
    groups = (points[start : start + size] for start in range(0, len(points), size)) if points else ()
    return [(group[-1][0], sum(loss for _, loss in group) / len(group)) for group in groups]


def _training(directory: RunDirectory, steps: Sequence[Record]) -> Record | None:
    """The amount and speed of training; None before the first step."""
    if not steps:
        return None
    last, first = steps[-1], steps[max(0, len(steps) - SPEED_STEPS - 1)]
    tokens, seconds = last.get("tokens", 0), last.get("seconds", 0.0)
    recent_tokens, recent_seconds = tokens - first.get("tokens", 0), seconds - first.get("seconds", 0.0)
    if recent_seconds <= 0:
        recent_tokens, recent_seconds = tokens, seconds
    speed = recent_tokens / recent_seconds if recent_seconds > 0 else None
    total = None if directory.has_trained else planned_tokens(directory)
    remaining = max(0.0, total - tokens) if total is not None else None
    return {
        "step": last["step"],
        "loss": last["loss"],
        "tokens": tokens,
        "planned_tokens": total,
        "seconds": seconds,
        "tokens_per_second": speed,
        "remaining_seconds": remaining / speed if remaining is not None and speed else None,
    }


def planned_tokens(directory: RunDirectory) -> float | None:
    """The tokens of the whole training, replay included, from the recipe and the data card.

    None before the data stage is complete, and where the recipe cannot be loaded here.
    """
    if not directory.has_data:
        return None
    try:
        recipe = recipes.load_stored(contained(directory, directory.recipe))
        card = Card.model_validate(read_json(contained(directory, directory.data_card), Card))
    except KeeptuneError:
        return None
    if recipe.train.tokens is not None:
        return recipe.train.tokens
    return card.splits["train"].tokens / (1 - recipe.retain.replay_share) * recipe.train.epochs


def _dev_scores(event: Record) -> Record:
    """One line of the table of dev scores; the base model has step 0."""
    statuses = {name: ability["status"] for name, ability in event.get("abilities", {}).items()}
    skill, reading = event["skill"], event["retained"]
    return {
        "step": event.get("step", 0),
        "accuracy": skill["accuracy"],
        "n": skill["n"],
        "f1": reading["f1"],
        "abilities": statuses,
    }


def suite_so_far(directory: RunDirectory) -> list[Record]:
    """The mean score and loss of each set of questions that a model has answered; tuned answers come after the base."""
    files = {variant: record_files(directory, variant) for variant in (BASE, TUNED)}
    names = dict.fromkeys([*files[BASE], *files[TUNED]])
    return [
        {"source": name, **{variant: _means(directory, files[variant].get(name), name) for variant in files}}
        for name in names
    ]


def _means(directory: RunDirectory, path: Path | None, name: str) -> Record | None:
    if path is None:
        return None
    state = contained(directory, path).stat()
    n, mean_score, mean_loss = _file_means(path, name == SKILL, state.st_mtime_ns, state.st_size)
    return {"n": n, "score": mean_score, "loss": mean_loss}


@lru_cache(maxsize=256)
def _file_means(path: Path, is_skill: bool, _time: int, _size: int) -> tuple[int, float | None, float | None]:
    """The number of records of a file, their mean score and mean loss. Time and size tell whether it changed."""
    sides = [item.side for item in read_file(path, SKILL if is_skill else "")]
    scores = [side.score for side in sides if side.score is not None]
    losses = [side.loss for side in sides if side.loss is not None]
    return len(sides), _mean(scores), _mean(losses)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _gate(directory: RunDirectory) -> Record | None:
    """The verdict with its reason, and the status of each ability; None without a result."""
    if not directory.result.exists():
        return None
    result = read_result(directory)
    return {
        "verdict": result.gate.verdict,
        "reason": result.gate.reason,
        "abilities": {
            name: {"status": ability.status, "counted": ability.counted} for name, ability in result.abilities.items()
        },
    }


def last_lines(path: Path) -> list[str]:
    """The last lines of a text file, at most LOG_LINES, with escapes for control characters; none without a file."""
    if not path.is_file():
        return []
    with open_regular(path) as file:
        file.seek(max(0, path.stat().st_size - LOG_BYTES))
        text = file.read().decode(errors="replace")
    return [printable(line) for line in text.split("\n") if line][-LOG_LINES:]
