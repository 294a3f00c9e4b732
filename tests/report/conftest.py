"""A finished run directory, graded and summarized by the real graders, with hostile texts."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report.suite_records import Pairs, suite_records, suite_scores

from keeptune.config import recipe as recipes
from keeptune.evaluation.gate import AbilityScores, Measurement
from keeptune.grading.answers import Truth
from keeptune.grading.contest_reading import score_contest
from keeptune.grading.number import grade
from keeptune.grading.squad import score_squad_v11
from keeptune.models.adapters import ParameterCount
from keeptune.pipeline.result import Inputs, Scores, SuiteScores, result
from keeptune.prompts.reading import question_text
from keeptune.prompts.template import Prompt
from keeptune.report.page import write_report
from keeptune.run_files.result import Result

HOSTILE = '<script>alert("1")</script> | a\n<img src=x onerror=alert(2)> ``` </pre> & [x](http://example.com) \u2028 末'


@dataclass(frozen=True)
class Sample:
    """A problem with the outputs of base and tuned."""

    kind: str
    problem: str
    truth: Truth
    base: str
    tuned: str


@dataclass(frozen=True)
class Passage:
    """A reading question with the outputs of base and tuned."""

    paragraph: int
    question: str
    references: tuple[str, ...]
    base: str
    tuned: str


SAMPLES = (
    Sample("add", "计算 4204.22 + -2369.17 等于多少？", Fraction("1835.05"), "6573.39", "6573.39\n\t-\n#### 1835.05"),
    Sample("add", "计算 1.10 + 2.20 等于多少？", Fraction("3.3"), "", "  1.10\n+ 2.20\n\n#### 3.30"),
    Sample("equation", "解方程 -39x + 20 = 0", Fraction(20, 39), "x = 39", "x = 20 / 39\n#### 0.51"),
    Sample("equation", "解方程 7x + -5 = 0", Fraction(5, 7), "方程的解为：1", HOSTILE),
    Sample("equation", "解方程 3x + 3 = 0", Fraction(-1), "#### -1", ""),
    Sample("english", f"What is {HOSTILE}?", "2\\sqrt{5}", "\\boxed{3}", "So \\boxed{2\\sqrt{5}}."),
)

PASSAGES = (
    Passage(0, "Who opened the mill?", ("Edith Moray", "Moray"), "Edith Moray", "Edith Moray"),
    Passage(0, "When did it close?", ("1960",), "in 1960", "1960"),
    Passage(1, f"What grows {HOSTILE}?", ("moss", HOSTILE), "moss", HOSTILE),
    Passage(1, "Where?", ("on the roof",), "on the roof", ""),
)


def steps(kinds: Sequence[str], count: int) -> list[dict[str, Any]]:
    """Training events. The loss of each kind falls at its own rate; the first kind is missing in every other step."""
    events = []
    for step in range(1, count + 1):
        here = {
            kind: (0.05 + math.exp(-step / (0.1 * count * (1 + place)))) * (1 + 0.2 * math.sin(7 * step + place))
            for place, kind in enumerate(kinds)
            if place or step % 2
        }
        loss = sum(here.values()) / len(here)
        events.append(
            {
                "event": "train",
                "step": step,
                "tokens": 2048 * step,
                "loss": loss,
                "loss_by_kind": here,
                "learning_rate": 1e-3,
                "grad_norm": 0.7,
                "tokens_per_second": 900.0,
                "seconds": 2.3 * step,
            }
        )
    return events


def scores(every: int, count: int) -> list[dict[str, Any]]:
    """Dev scores that rise, while reading falls a little."""
    return [
        {
            "event": "score",
            "step": step,
            "skill": {"accuracy": 1 - math.exp(-3 * step / count), "n": 60},
            "retained": {"f1": 48 - 4 * step / count, "em": 36 - 5 * step / count, "n": 60},
        }
        for step in range(every, count, every)
    ]


def write_run(
    folder: Path,
    samples: Sequence[Sample] = SAMPLES,
    passages: Sequence[Passage] = PASSAGES,
    name: str = f"runs {HOSTILE}",
    step_count: int = 40,
    score_every: int = 10,
    policy: str = "contest",
    with_suite: bool = False,
) -> Path:
    """The directory of a finished run, optionally with the retention suite."""
    recipe = recipes.parse(
        {
            "name": name,
            "data": {"synth": {"rows": 1000}, "quota": {"add": 90}, "styles": {"default": "longhand"}},
            "prompt": {"template": "Question: {problem}\nAnswer | `here`:\n"},
            "score": {"suite": "quick" if with_suite else "none"},
            "gate": {"policy": policy, "resamples": 1000},
        },
        "recipe",
    )
    prompt = Prompt(recipe.prompt.template)
    base, tuned = (
        Scores(
            [_graded(prompt, sample, who) for sample in samples],
            [_read(passage, who) for passage in passages],
            [_read(passage, who) for passage in passages[2:]],
        )
        for who in ("base", "tuned")
    )
    moved = [
        {"id": "t", "what": what, "text": HOSTILE, "tokens": 11, "predicted": 10, "base_nll": 30.0, **fields}
        for what, fields in (("general", {"tuned_nll": 31.0, "kl": 2.2}), ("skill", {"tuned_nll": 12.0, "kl": 22.0}))
    ]
    kinds = sorted({sample.kind for sample in samples})
    stages = {"data": 4.2, "train": 2.3 * step_count, "select": 0.4, "score": 61.0}
    cost = {
        "seconds": sum(stages.values()),
        "seconds_by_stage": stages,
        "tokens_useful": 2048 * step_count,
        "tokens_per_second": 890.4,
        "peak_memory_bytes": 2_345_678_901,
    }
    chosen = {"checkpoint": f"step-{step_count}", "scale": 1.0}
    parameters = ParameterCount(4_884_480, 134_515_008)
    abilities = suite_records(HOSTILE) if with_suite else {}
    suite = SuiteScores([*suite_scores(abilities, HOSTILE), _task()], _answers()) if with_suite else None
    inputs = Inputs(base, tuned, moved, suite, parameters, cost, chosen)
    record = Result.checked(result(recipe, prompt, inputs))
    record["finished"] = "2025-01-02T03:04:05+00:00"
    _write(folder / "result.json", record)
    _write(folder / "manifest.json", _manifest(prompt))
    _write(folder / "data" / "card.json", _card(samples, kinds))
    (folder / "recipe.yaml").write_text(recipes.dump(recipe), encoding="utf-8")
    logged = [*steps([*kinds, "reading"], step_count), *(scores(score_every, step_count) if score_every else [])]
    _write_lines(folder / "log.jsonl", [*logged, {"event": "stage", "stage": "train", "seconds": 9.5}])
    for who, records in (("base", base), ("tuned", tuned)):
        _write_lines(folder / "scores" / f"skill-{who}.jsonl", records.skill)
        _write_lines(folder / "scores" / f"retained-{who}.jsonl", records.retained)
    _write_abilities(folder / "scores", abilities)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A small finished run."""
    return write_run(tmp_path / "run")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run with its report, for tests that change nothing."""
    folder = write_run(tmp_path_factory.mktemp("finished") / "run")
    write_report(folder)
    return folder


@pytest.fixture(scope="session")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that the retention suite judged, with its report, for tests that change nothing."""
    folder = write_run(tmp_path_factory.mktemp("judged") / "run", policy="suite", with_suite=True)
    write_report(folder)
    return folder


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Writes a run other than the default one."""
    return lambda **changes: write_run(tmp_path / "other", **changes)


@pytest.fixture
def hostile() -> str:
    """A text with markup that every output must escape."""
    return HOSTILE


def _graded(prompt: Prompt, sample: Sample, who: str) -> dict[str, Any]:
    output = str(getattr(sample, who))
    graded = grade(output, sample.truth)
    return {
        "id": hashlib.blake2b(sample.problem.encode(), digest_size=16).hexdigest(),
        "kind": sample.kind,
        "problem": sample.problem,
        "prompt": prompt.render(sample.problem),
        "output": output,
        "truth": str(sample.truth),
        "answer": graded.answer,
        "source": graded.source,
        "verdicts": dict(graded.verdicts),
        "stopped": output != HOSTILE,
        "output_tokens": len(output),
    }


def _read(passage: Passage, who: str) -> dict[str, Any]:
    output = str(getattr(passage, who))
    prediction = output.strip().split("\n")[0]
    squad = score_squad_v11(prediction, passage.references)
    contest = score_contest(prediction, passage.references[0])
    percents = [{"f1": 100 * score.f1, "em": 100 * score.em} for score in (squad, contest)]
    return {
        "id": hashlib.sha256(passage.question.encode()).hexdigest(),
        "article": "Mills",
        "paragraph": passage.paragraph,
        "question": passage.question,
        "prompt": question_text("Edith Moray opened the mill. Moss grows on the roof.", passage.question, "few-shot"),
        "output": output,
        "prediction": prediction,
        "references": list(passage.references),
        "squad-v1.1": percents[0],
        "contest": percents[1],
        "stopped": True,
        "output_tokens": len(output),
    }


def _task() -> AbilityScores:
    """A task of lm-evaluation-harness whose records are not in the run."""
    scores = np.tile([1.0, 1.0, 0.0], 20)
    pairs = Measurement("acc", "score", scores, scores, range(len(scores)), np.ones(len(scores)), 0.0, len(scores))
    return AbilityScores("task own sums", [pairs])


def _answers() -> list[dict[str, Any]]:
    """Divergences on the tuned model's answers; nothing was sampled for chat prompts."""
    modes = (("skill", "greedy"), ("skill", "sampled"), ("chat", "greedy"))
    return [
        {"id": "a", "what": what, "mode": mode, "prompt": HOSTILE, "output": HOSTILE, "tokens": 20, "kl": 3.0}
        for what, mode in modes
    ]


def _card(samples: Sequence[Sample], kinds: Sequence[str]) -> dict[str, Any]:
    counts = {kind: sum(sample.kind == kind for sample in samples) for kind in kinds}
    lengths = {
        "prompt_tokens": {"median": 24.5, "max": 31},
        "solution_tokens": {"median": 96, "max": 1210},
        "answer_digits": {"median": 5, "max": 28},
    }
    return {
        "files": [{"file": "rows|1.jsonl", "sha256": "ab" * 32, "bytes": 1_234_567}],
        "rows_read": 12_345,
        "rows_rejected": 7,
        "rejected_by_reason": {"wrong answer": 5, f"unknown {HOSTILE}": 2},
        "rows_kept": 12_338,
        "unique": 9000,
        "duplicates": 3338,
        "conflicts": 4,
        "kinds": {
            kind: {
                "rows": 4000,
                "unique": 3000,
                "chosen": 900,
                "rejected": 2,
                "train": 800,
                "dev": 60,
                "test": n,
                "corrected": 0,
                **lengths,
            }
            for kind, n in counts.items()
        },
        "splits": {
            "train": {"rows": 2400, "tokens": 288_000},
            "dev": {"rows": 180, "tokens": 21_000},
            "test": {"rows": len(samples), "tokens": 720},
        },
        "too_long_dropped": 3,
        "leaks": {"retained_overlap": 0},
        "data_sha256": "cd" * 32,
    }


def _manifest(prompt: Prompt) -> dict[str, Any]:
    return {
        "keeptune": "0.1.0",
        "python": "3.11.7",
        "platform": "Linux-6.1-x86_64",
        "packages": {"torch": "2.13.0"},
        "git": {"commit": "0123456789abcdef0123456789abcdef01234567", "dirty": True},
        "hardware": {"cpu": "A processor", "cores": 2, "memory_bytes": 16_000_000_000, "accelerator": None},
        "hashes": {"recipe": "ef" * 32, "data": "cd" * 32, "prompt": prompt.sha256, "weights": "01" * 32},
        "seed": 0,
        "started": "2025-01-02T02:04:05+00:00",
        "command": "keeptune run quickstart.yaml",
    }


def _write_abilities(folder: Path, abilities: dict[str, Pairs]) -> None:
    for ability, pair in abilities.items():
        for who, lines in zip(("base", "tuned"), pair, strict=True):
            _write_lines(folder / f"ability-{ability}-{who}.jsonl", lines)


def _write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def _write_lines(path: Path, values: Sequence[object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values), encoding="utf-8")
