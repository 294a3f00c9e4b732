"""`keeptune gate RUN --artefact` with llama.cpp: merged files, adapters beside a base, and files of something else."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from end_to_end.command import keeptune, ok
from end_to_end.conftest import Tree, corpus, one_thread, run_quick_suite, shared_cache, squad, tree  # noqa: F401  (fixtures)
from gguf import GGUFReader

from keeptune.generation.llamacpp import PYTHON

pytestmark = pytest.mark.skipif(PYTHON not in os.environ, reason=f"{PYTHON} does not name a Python with llama.cpp")

ABILITIES = ["grammar", "general-text", "instructions", "reading-en"]


@pytest.fixture(scope="module")
def run(tree: Tree, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    return run_quick_suite(tree, tmp_path_factory.mktemp("artefact"), ABILITIES)


def judged(run: Path, artefact: Path, *options: object) -> Any:
    outcome = keeptune("gate", run, "--artefact", artefact, "--json", *options)
    assert outcome.code in (0, 4, 6), outcome.err
    return outcome.json


def check_figures(record: Any, run: Path, share: float) -> None:
    """Answers and likelihoods are nearly those of the run. Random weights have many near ties."""
    assert record["program"].startswith("llama.cpp") and record["faults"] == []
    # llama.cpp reports no probability for a part of a character, and the tiny vocabulary has many.
    assert all("part of a character" in reason for reason in record["left_out"].values())
    assert record["prompts"]["by"] == "token ids" and record["prompts"]["differing"] == 0
    assert record["prompts"]["compared"] > 50
    assert record["skill"]["equal"] >= share * record["skill"]["run"]["n"]
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))["abilities"]
    assert record["left_out"].keys() <= {"grammar", "general-text"}
    assert set(record["abilities"]) == set(ABILITIES) - record["left_out"].keys()
    for name in {"grammar", "general-text"} - record["left_out"].keys():
        assert record["abilities"][name]["tuned"] == pytest.approx(result[name]["tuned"], rel=0.02)
        assert record["abilities"][name]["base"] == pytest.approx(result[name]["base"])


def test_a_merged_file_is_measured_whole(run: Path, tmp_path: Path) -> None:
    ok("export", run, "--to", "gguf", "--out", tmp_path / "f16")
    record = judged(run, tmp_path / "f16")
    check_figures(record, run, 0.5)
    assert (record["form"], record["gguf_type"], record["skill"]["expected_equal"]) == ("gguf", "f16", 0.99)
    ok("verify", run)


def test_an_adapter_is_added_to_its_base(run: Path, model_folder: Path, tmp_path: Path) -> None:
    ok("export", model_folder, "--to", "gguf", "--out", tmp_path / "base")
    ok("export", run, "--to", "gguf-lora", "--out", tmp_path / "lora")
    assert "--base" in keeptune("gate", run, "--artefact", tmp_path / "lora").err
    check_figures(judged(run, tmp_path / "lora", "--base", tmp_path / "base"), run, 0.5)
    swapped = json.loads((tmp_path / "base" / "export.json").read_text(encoding="utf-8"))
    swapped["base"]["weights_sha256"] = "0" * 64
    (tmp_path / "base" / "export.json").write_text(json.dumps(swapped), encoding="utf-8")
    record = judged(run, tmp_path / "lora", "--base", tmp_path / "base")
    assert record["verdict"] == "fail" and "another base" in record["reason"]


def test_a_file_with_another_template_fails(run: Path, model_folder: Path, tmp_path: Path) -> None:
    ok("export", model_folder, "--to", "gguf", "--out", tmp_path / "base")
    shutil.copy(tmp_path / "base" / "model.gguf", tmp_path / "other.gguf")
    record = judged(run, tmp_path / "other.gguf")
    assert record["verdict"] == "fail" and "chat template" in record["reason"]
    assert record["skill"] is None


def test_a_changed_weight_is_named(run: Path, tmp_path: Path) -> None:
    ok("export", run, "--to", "ollama", "--out", tmp_path / "ollama", "--gguf-type", "q8_0")
    path = tmp_path / "ollama" / "model.gguf"
    tensor = GGUFReader(path).tensors[-1]
    with path.open("r+b") as file:
        file.seek(int(tensor.data_offset))
        file.write(bytes(2))
    record = judged(run, tmp_path / "ollama")
    assert record["verdict"] == "fail" and "model.gguf: differs" in record["reason"]
