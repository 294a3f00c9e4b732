"""Who is alone in a folder keeps others out, and leaves nothing behind."""

from pathlib import Path

import pytest

from keeptune.errors import RunError
from keeptune.pipeline.run_lock import run_lock


def test_a_folder_that_one_process_works_in_is_free_again_afterwards(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), run_lock(tmp_path):
        with pytest.raises(RunError, match="another process"), run_lock(tmp_path):
            pass
        _ = 1 / 0
    with run_lock(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_is_no_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(RunError, match="run: cannot be written"), run_lock(tmp_path / "run"):
        pass
