"""The layout of a run directory."""

from pathlib import Path

from keeptune.run_files.directory import RunDirectory


def test_every_path_is_inside_the_root_and_unique() -> None:
    directory = RunDirectory(Path("runs/x"))
    names = [name for name, value in vars(RunDirectory).items() if isinstance(value, property)]
    paths = [getattr(directory, name) for name in names]
    files = [path for path in paths if isinstance(path, Path)]
    assert len(set(files)) == len(files) > 15
    assert all(path.is_relative_to("runs/x") for path in files)


def test_stage_markers_follow_the_files(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    assert (directory.is_run, directory.has_data, directory.has_trained) == (False, False, False)
    for path in (directory.recipe, directory.data_card, directory.trained):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert (directory.is_run, directory.has_data, directory.has_trained) == (True, True, True)


def test_relative_names_use_forward_slashes() -> None:
    directory = RunDirectory(Path("runs") / "x")
    assert directory.relative(directory.records("skill", "base")) == "scores/skill-base.jsonl"
