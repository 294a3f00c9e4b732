"""Runs the tests of on_card.py on an emulated CUDA device, in a separate process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from emulated_card import card

TESTS = Path(__file__).parent.parent
PATIENCE_SECONDS = 1800

needs_compiler = pytest.mark.skipif(
    card.compiler() is None or not sys.platform.startswith("linux"), reason="compiles a library with g++ on Linux"
)


def run_on_card(marks: str) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "emulated_card.plugin", "-p", "no:cacheprovider", "-m", marks]
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*command, str(Path(__file__).with_name("on_card.py"))],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_compiler
def test_training_answers_and_scores_on_a_card() -> None:
    run_on_card("not slow")


@needs_compiler
@pytest.mark.slow
def test_all_families_and_quantized_bases_on_a_card() -> None:
    run_on_card("slow")
