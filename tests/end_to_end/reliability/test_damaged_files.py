"""Every file of a finished run, cut or with one flipped bit: `verify` names it, and nothing ends in a traceback."""

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from end_to_end.command import keeptune

INVALID = {2, 3}
"""Exit codes of `verify` for a file that cannot be read, and for one that differs."""


def flip(draw: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


DAMAGES: dict[str, Callable[[random.Random, bytes], bytes]] = {
    "flipped": flip,
    "cut": lambda draw, content: content[: draw.randrange(len(content))],
    "emptied": lambda draw, content: b"",  # noqa: ARG005
}


def campaign(folder: Path, count: int, commands: list[list[object]]) -> dict[str, Any]:
    """Damages files in turn, so that `count` covers all of them as often as it can, and repairs each one again."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    draw, outcomes = random.Random(count), Counter[str]()
    draw.shuffle(paths)
    for number in range(count):
        path = paths[number % len(paths)]
        damage = list(DAMAGES)[(number + number // len(paths)) % len(DAMAGES)]
        content = path.read_bytes()
        if not content:
            continue
        path.write_bytes(DAMAGES[damage](draw, content))
        try:
            verified = keeptune("verify", folder)
            said = (verified.out + verified.err).replace("\n", "").replace(" ", "")
            name = str(path.relative_to(folder))
            assert verified.code in INVALID, f"{damage} {name}: exit {verified.code}"
            assert path.name in said or name in said, f"{damage} {name}: {said}"
            outcomes[damage] += 1
            for command in commands:
                assert keeptune(*command).code in (0, 2, 3, 4, 6)
        finally:
            path.write_bytes(content)
    assert keeptune("verify", folder).code == 0
    return {"points": count, "files": len(paths), **outcomes}


def test_a_run(points: Any, record: Any, finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    record(**campaign(run, points(6), [["compare", run, finished]]))


@pytest.mark.slow
def test_a_folder_of_gate(points: Any, record: Any, finished: Path, model_folder: Path, tmp_path: Path) -> None:
    gate = ["gate", "--base", model_folder, "--tuned", finished, "--abilities", "refusal,grammar,reading-en"]
    assert keeptune(*gate, "--suite", "quick", "--out", tmp_path / "gate").code in (0, 4, 6)
    record(**campaign(tmp_path / "gate", points(24), []))


@pytest.mark.slow
def test_other_commands_on_damaged_runs(points: Any, record: Any, recipe: Path, finished: Path, tmp_path: Path) -> None:
    """They work with the file, write it again, or stop with a message; they never end in a traceback."""
    draw, outcomes = random.Random(5), Counter[int]()
    names = sorted(str(path.relative_to(finished)) for path in finished.rglob("*") if path.is_file())
    count = points(12)
    for number in range(count):
        run = Path(shutil.copytree(finished, tmp_path / f"run-{number}"))
        path = run / draw.choice(names)
        content = path.read_bytes()
        if content:
            path.write_bytes(draw.choice(list(DAMAGES.values()))(draw, content))
        export = ["export", run, "--to", "merged", "--out", tmp_path / f"out-{number}"]
        commands = [["report", run], ["ask", run, "1+1"], ["run", recipe, "--run", run], export]
        outcomes[keeptune(*draw.choice(commands)).code] += 1
        shutil.rmtree(run)
    assert set(outcomes) <= {0, 2, 3, 4}
    record(points=count, **{f"exit_{code}": times for code, times in sorted(outcomes.items())})


def test_a_file_that_is_a_pipe(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    for name in ("log.jsonl", "scores/skill-tuned.jsonl", "SHA256SUMS"):
        content = (run / name).read_bytes()
        (run / name).unlink()
        os.mkfifo(run / name)
        verified = keeptune("verify", run)
        assert verified.code in INVALID
        assert Path(name).name in (verified.out + verified.err).replace("\n", "").replace(" ", "")
        (run / name).unlink()
        (run / name).write_bytes(content)
