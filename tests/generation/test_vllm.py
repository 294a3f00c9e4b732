"""vLLM generates the same answers as keeptune's own engine: base and tuned, at any scale, with the same stop rule.

vLLM runs in the Python that KEEPTUNE_VLLM_PYTHON names. Without it, the tests that need vLLM are skipped.
"""

import json
import os
import sys
from pathlib import Path

import pytest
import tiny
import torch
from end_to_end.command import ok, refused
from transformers import LlamaForCausalLM

from keeptune.errors import ModelError, RecipeError
from keeptune.evaluation.skill_score import has_final_answer
from keeptune.files import write_records
from keeptune.generation.distributed import DistributedGenerator
from keeptune.generation.vllm import PYTHON, ServedModel, open_generator
from keeptune.models import adapter_metadata, adapters
from keeptune.models.load import load_model
from keeptune.training.distributed import distributed_context

with_vllm = pytest.mark.skipif(PYTHON not in os.environ, reason=f"{PYTHON} names no Python with vLLM")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model with a head size that vLLM has kernels for, and an adapter for it."""
    model, adapter = tmp_path_factory.mktemp("model"), tmp_path_factory.mktemp("tuned") / "adapter"
    words = tiny.tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = LlamaForCausalLM(tiny.config(len(words), hidden_size=128, num_attention_heads=2, num_key_value_heads=1))
    made.lm_head.weight.data[[words.eos_token_id, *words.encode("\n")]] *= 2
    made.save_pretrained(model)
    words.save_pretrained(model)
    adapters.save_adapter(tiny.tune(load_model(str(model), "float32")), adapter)
    budgets = {kind: 40 for kind, _, _ in tiny.problems(20)}
    metadata = adapter_metadata.AdapterMetadata(str(model), "arithmetic", tiny.PROMPT, budgets, 0.5, "float32")
    adapter_metadata.save(metadata, adapter)
    return model, adapter


@with_vllm
def test_answers_equal_those_of_keeptunes_engine(folders: tuple[Path, Path]) -> None:
    model, adapter = folders
    words = tiny.tokenizer()
    prompts = [tiny.PROMPT.encode(words, problem) for _, problem, _ in tiny.problems(24)]
    budgets = [1, *(5 * number for number in range(1, 24))]
    tuned = adapters.load_adapter(load_model(str(model), "float32"), adapter)
    served = ServedModel(str(model), "float32", adapter=adapter)
    vllm = open_generator(tuned, words, distributed_context(), served)
    local = DistributedGenerator(tuned, words, distributed_context())
    assert list(vllm.packages) == ["vllm"]
    assert not local.packages
    texts = []
    for scale in (0.0, 1.0, 0.5, 1.0):
        finished: list[int] = []
        with vllm.scaled(scale):
            answers = vllm.answer(prompts, budgets, has_final_answer, finished.append)
        with local.scaled(scale):
            assert answers == local.answer(prompts, budgets, has_final_answer)
        assert sum(finished) == len(prompts)
        texts.append([answer.text for answer in answers])
    assert texts[1] == texts[3]
    assert texts[0] != texts[1] != texts[2] != texts[0]
    assert vllm.answer([], [], has_final_answer) == []


@with_vllm
def test_a_score_with_vllm_equals_one_without(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "problems.jsonl"
    write_records(file, [{"problem": problem, "solution": solution} for _, problem, solution in tiny.problems(10)])
    with_vllm = json.loads(ok("score", folders[1], "--skill", file, "--json", "--out", tmp_path / "with").out)
    monkeypatch.delenv(PYTHON)
    without = json.loads(ok("score", folders[1], "--skill", file, "--json", "--out", tmp_path / "without").out)
    assert with_vllm == without
    assert (tmp_path / "with/skill.jsonl").read_bytes() == (tmp_path / "without/skill.jsonl").read_bytes()


def test_a_python_without_vllm_is_refused(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_model(str(folders[0]), "float32")
    for python, message in (("/nowhere/python", "cannot be started"), (sys.executable, "has no vLLM")):
        monkeypatch.setenv(PYTHON, python)
        with pytest.raises(RecipeError, match=message):
            open_generator(loaded, tiny.tokenizer(), distributed_context(), ServedModel(str(folders[0])))


def test_adapters_that_vllm_computes_differently_are_refused(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = folders
    monkeypatch.setenv(PYTHON, "python-with-vllm")
    monkeypatch.setattr("keeptune.generation.vllm._vllm_version", lambda _: "0")
    loaded = load_model(str(model), "float32")
    for family, option in (("dora", "use_dora"), ("vera", "peft_type"), ("ia3", "peft_type")):
        folder = tmp_path / family
        tuned = tiny.tune_as(loaded, family)
        adapters.save_adapter(tuned, folder)
        loaded = tuned.unload()
        with pytest.raises(ModelError, match=option):
            open_generator(loaded, tiny.tokenizer(), distributed_context(), ServedModel(str(model), adapter=folder))
    with pytest.raises(ModelError, match="rounded to nf4"):
        open_generator(loaded, tiny.tokenizer(), distributed_context(), ServedModel(str(model), quantization="nf4"))


def test_a_wrong_python_stops_a_score_job(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PYTHON, "/nowhere/python")
    assert PYTHON in refused(2, "score", folders[1], "--retained", "embedded", "--limit", "1")


def test_a_wrong_python_stops_a_run_before_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PYTHON, sys.executable)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("data: {synth: {rows: 100}}\n", encoding="utf-8")
    assert "has no vLLM" in refused(2, "run", recipe, "--run", tmp_path / "run")
    assert not (tmp_path / "run").exists()
