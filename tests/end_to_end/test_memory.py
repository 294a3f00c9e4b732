"""What a plan says of memory is what a run takes, measured by the operating system in a process of its own."""

import json
from pathlib import Path

import pytest
import tiny
from end_to_end.command import ended, ok, process
from end_to_end.conftest import MakeRecipe
from transformers import LlamaForCausalLM

SIZES = {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 8, "num_key_value_heads": 4}


@pytest.mark.slow
@pytest.mark.parametrize("vocabulary", [400, 128_256])
def test_a_run_takes_as_much_as_its_plan_says(make_recipe: MakeRecipe, tmp_path: Path, vocabulary: int) -> None:
    model, run = tmp_path / "model", tmp_path / "run"
    LlamaForCausalLM(tiny.config(vocabulary, **SIZES, tie_word_embeddings=True)).save_pretrained(model)
    tiny.tokenizer().save_pretrained(model)
    recipe = make_recipe(
        model={"name": str(model), "dtype": "float32"},
        train={"epochs": 2, "tokens_per_step": 2000, "tokens_per_batch": 2000},
    )
    expected = json.loads(ok("plan", recipe, "--json").out)["estimate"]["memory_bytes"]
    with process("run", recipe, "--run", run) as running:
        outcome = ended(running)
    assert outcome.code == 0, outcome.err
    taken = json.loads((run / "result.json").read_text(encoding="utf-8"))["cost"]["peak_memory_bytes"]
    assert abs(taken - expected) < 0.15 * expected, (taken, expected)
