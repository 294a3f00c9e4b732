"""Answers that vLLM writes are those of keeptune's own generator: base and tuned, at any scale, with one stop rule.

vLLM's pins exclude keeptune's, so it goes into a Python of its own. Where that is, KEEPTUNE_VLLM_PYTHON says; without
it what needs vLLM is skipped.
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
from keeptune.evaluation.skill import answered
from keeptune.files import write_records
from keeptune.generation.distributed import SharedGenerator
from keeptune.generation.vllm import PYTHON, Served, final_generator
from keeptune.models import adapter_metadata, adapters
from keeptune.models.load import load_model
from keeptune.training.distributed import distributed_context

with_vllm = pytest.mark.skipif(PYTHON not in os.environ, reason=f"{PYTHON} names no Python with vLLM")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model of whose heads vLLM has kernels, and an adapter for it."""
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
    card = adapter_metadata.AdapterMetadata(str(model), "arithmetic", tiny.PROMPT, budgets, 0.5, "float32")
    adapter_metadata.save(card, adapter)
    return model, adapter


@with_vllm
def test_answers_are_those_of_the_own_generator(folders: tuple[Path, Path]) -> None:
    model, adapter = folders
    words = tiny.tokenizer()
    prompts = [tiny.PROMPT.encode(words, problem) for _, problem, _ in tiny.problems(24)]
    budgets = [1, *(5 * number for number in range(1, 24))]
    tuned = adapters.load_adapter(load_model(str(model), "float32"), adapter)
    served = Served(str(model), "float32", adapter=adapter)
    theirs = final_generator(tuned, words, distributed_context(), served)
    own = SharedGenerator(tuned, words, distributed_context())
    assert list(theirs.packages) == ["vllm"]
    assert not own.packages
    seen = []
    for scale in (0.0, 1.0, 0.5, 1.0):
        done: list[int] = []
        with theirs.scaled(scale):
            found = theirs.answer(prompts, budgets, answered, done.append)
        with own.scaled(scale):
            assert found == own.answer(prompts, budgets, answered)
        assert sum(done) == len(prompts)
        seen.append([answer.text for answer in found])
    assert seen[1] == seen[3]
    assert seen[0] != seen[1] != seen[2] != seen[0]
    assert theirs.answer([], [], answered) == []


@with_vllm
def test_a_score_by_vllm(folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "problems.jsonl"
    write_records(file, [{"problem": problem, "solution": solution} for _, problem, solution in tiny.problems(10)])
    by_vllm = json.loads(ok("score", folders[1], "--skill", file, "--json", "--out", tmp_path / "theirs").out)
    monkeypatch.delenv(PYTHON)
    own = json.loads(ok("score", folders[1], "--skill", file, "--json", "--out", tmp_path / "own").out)
    assert by_vllm == own
    assert (tmp_path / "theirs/skill.jsonl").read_bytes() == (tmp_path / "own/skill.jsonl").read_bytes()


def test_a_python_without_vllm_is_told(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_model(str(folders[0]), "float32")
    for python, told in (("/nowhere/python", "cannot be started"), (sys.executable, "has no vLLM; install vllm there")):
        monkeypatch.setenv(PYTHON, python)
        with pytest.raises(RecipeError, match=told):
            final_generator(loaded, tiny.tokenizer(), distributed_context(), Served(str(folders[0])))


def test_what_vllm_would_compute_otherwise_is_refused(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = folders
    monkeypatch.setenv(PYTHON, "python-with-vllm")
    monkeypatch.setattr("keeptune.generation.vllm._version", lambda _: "0")
    loaded = load_model(str(model), "float32")
    for family in ("dora", "vera", "ia3"):
        folder = tmp_path / family
        tuned = tiny.tune_as(loaded, family)
        adapters.save_adapter(tuned, folder)
        loaded = tuned.unload()
        with pytest.raises(ModelError, match=f"this adapter is {family}; unset it"):
            final_generator(loaded, tiny.tokenizer(), distributed_context(), Served(str(model), adapter=folder))
    with pytest.raises(ModelError, match="kept in nf4, which vLLM would not round alike"):
        final_generator(loaded, tiny.tokenizer(), distributed_context(), Served(str(model), quantization="nf4"))


def test_where_it_is_wrong_nothing_is_scored(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PYTHON, "/nowhere/python")
    assert "name a Python, or unset it" in refused(2, "score", folders[1], "--retained", "embedded", "--limit", "1")


def test_a_run_says_so_before_anything_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PYTHON, sys.executable)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("data: {synth: {rows: 100}}\n", encoding="utf-8")
    assert "has no vLLM" in refused(2, "run", recipe, "--run", tmp_path / "run")
    assert not (tmp_path / "run").exists()
