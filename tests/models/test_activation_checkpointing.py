"""Activation checkpointing changes no result, saves memory, and applies only to batches that do not fit."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from keeptune.config.adapter import AdapterSection
from keeptune.errors import TrainingError
from keeptune.models import device_memory
from keeptune.models.activation_checkpointing import CPU_ALLOCATOR_OVERHEAD, ActivationCheckpointing
from keeptune.models.activation_memory import (
    VALUES_PER_MLP_WIDTH,
    VALUES_PER_WIDTH,
    ActivationMemory,
    Linear,
    estimate,
    stored_bytes,
)
from keeptune.models.device_memory import free_bytes
from keeptune.training.loop import StepRecord, Trainer
from keeptune.training.objective import Objective, collate

WORDS = tiny.tokenizer()
EXAMPLES = [example for example in tiny.examples(WORDS, 24) if len(example.tokens) < 250]
CPU = torch.device("cpu")


def test_gradients_are_equal_and_less_is_stored(model_folder: Path) -> None:
    results = []
    for threshold in (float("inf"), 0):
        model = tiny.tune(tiny.load(model_folder), dropout=0.1).train()
        torch.manual_seed(0)
        inputs, _ = collate(EXAMPLES[:5], 1.0, CPU)
        with ActivationCheckpointing(threshold).apply(model, inputs[0].numel()):
            objective, totals = Objective(model), []
            kept = stored_bytes(model, lambda: totals.append(objective(*inputs)[0]))  # noqa: B023  (called at once)
            totals[0].backward()
        gradients = [p.grad for p in model.parameters() if p.requires_grad]
        results.append((kept, [totals[0], *gradients]))
    (kept, plain), (checkpointed_bytes, checkpointed) = results
    assert checkpointed_bytes < kept / 3
    for one, other in zip(plain, checkpointed, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("wider", [1, 4])
def test_an_mlp_stores_four_values_per_width(wider: int) -> None:
    def kept(mlp: int) -> int:
        config = LlamaConfig(
            vocab_size=32, hidden_size=64, intermediate_size=mlp, num_hidden_layers=1, num_attention_heads=4
        )
        tuned = tiny.tune_as(LlamaForCausalLM(config), "lora", targets="all-linear")
        decoder = tuned.get_base_model().get_decoder()
        return stored_bytes(tuned, lambda: decoder(torch.zeros(1, 100, dtype=torch.int64)).last_hidden_state)

    more = (kept(128 + 64 * wider) - kept(128)) / (4 * 100 * 64 * wider)
    assert more == pytest.approx(VALUES_PER_MLP_WIDTH, abs=0.2)


def test_the_formula_of_processors(model_folder: Path) -> None:
    config = tiny.load(model_folder).config
    values = VALUES_PER_WIDTH * config.hidden_size + VALUES_PER_MLP_WIDTH * config.intermediate_size
    for family, factor in (("lora", 1), ("dora", 2.6)):
        memory = estimate(config, AdapterSection.model_validate({"family": family}), torch.float32, CPU)
        assert memory.stored(100) == pytest.approx(100 * 4 * factor * values * config.num_hidden_layers)


def test_it_applies_only_to_large_batches(model_folder: Path) -> None:
    model = tiny.tune(tiny.load(model_folder)).train()
    checkpointing = ActivationCheckpointing(100)
    for tokens, is_enabled in ((101, True), (100, False)):
        with checkpointing.apply(model, tokens):
            assert model.get_base_model().is_activation_checkpointing is is_enabled
        assert not model.get_base_model().is_activation_checkpointing


def test_the_threshold_follows_from_free_memory(model_folder: Path) -> None:
    model: Any = tiny.tune(tiny.load(model_folder))
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    memory = ActivationMemory(2, Linear(500, 70), Linear(300, 50), Linear(200, 5), Linear(0, 10))
    free = round(CPU_ALLOCATOR_OVERHEAD * (800 + 120 * 1000 + 12 * trainable))
    assert ActivationCheckpointing.plan(model, memory, free).threshold_tokens == pytest.approx(1000, rel=1e-5)
    assert ActivationCheckpointing.plan(model, memory, 0).applies_to(1)
    assert memory.stored(1000) == 800 + 120 * 1000
    assert memory.stored(1000, is_checkpointed=True) == 500 + 55 * 1000 + 2 * 10 * 1000
    assert free_bytes(CPU) > 2**20


def test_free_memory_respects_container_limits_and_file_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_memory, "_CGROUP", tmp_path)
    files = {"max": "5000000", "current": "4000000", "stat": "anon 3100000\nactive_file 200000\ninactive_file 700000"}
    for name, text in files.items():
        (tmp_path / f"memory.{name}").write_text(f"{text}\n", encoding="ascii")
    assert free_bytes(CPU) == 1_700_000
    (tmp_path / "memory.max").write_text("max\n", encoding="ascii")
    assert free_bytes(CPU) > 2**20


def test_out_of_memory_names_the_recipe_key(model_folder: Path, tmp_path: Path) -> None:
    def failed(checkpointing: ActivationCheckpointing) -> str:
        model = tiny.tune(tiny.load(model_folder))
        decoder = model.get_base_model().get_decoder()
        decoder.register_forward_pre_hook(lambda *_: torch.empty(10**15))  # more than any machine has
        with pytest.raises(TrainingError) as caught:
            Trainer(model, EXAMPLES, settings, 3, tmp_path, checkpointing).run(watch_nothing)
        return str(caught.value)

    def watch_nothing(step: StepRecord) -> None:
        pass

    settings = tiny.settings(tokens_per_batch=1000)
    assert "train.activation_checkpointing: always" in failed(ActivationCheckpointing(float("inf")))
    assert "activation_checkpointing" not in failed(ActivationCheckpointing(0))
    assert not (tmp_path / "checkpoints").exists()
