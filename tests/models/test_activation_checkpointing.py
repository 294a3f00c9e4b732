"""Activation checkpointing changes no result, saves memory, and applies only to batches that do not fit."""

from pathlib import Path
from typing import Any

import model_families
import pytest
import tiny
import torch
from transformers import LlamaForCausalLM

from keeptune.config.adapter import AdapterSection
from keeptune.errors import TrainingError
from keeptune.models import adapters, device_memory
from keeptune.models.activation_checkpointing import CPU_ALLOCATOR_OVERHEAD, ActivationCheckpointing
from keeptune.models.activation_memory import ActivationMemory, Linear, measure, stored_bytes
from keeptune.models.attention import register_attention
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


SHAPES = [
    {"hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 3},
    {"hidden_size": 48, "intermediate_size": 320, "num_hidden_layers": 5},
]


@pytest.mark.parametrize("sizes", SHAPES)
@pytest.mark.parametrize("adapter", [{"family": "lora"}, {"family": "lora", "dropout": 0.1}, {"family": "dora"}])
def test_the_estimate_is_within_a_tenth_of_what_is_stored(sizes: dict[str, int], adapter: dict[str, Any]) -> None:
    config, length, rows = tiny.config(len(WORDS), **sizes), 90, 4
    section = AdapterSection.model_validate({"rank": 4, "alpha": 8, **adapter})
    model = LlamaForCausalLM._from_config(config, attn_implementation=register_attention(CPU))
    tuned = adapters.attach(model, section, seed=1).train()
    decoder, ids = tuned.get_base_model().get_decoder(), torch.ones(rows, length, dtype=torch.long)
    stored = stored_bytes(tuned, lambda: decoder(input_ids=ids, use_cache=False))
    memory = measure(config, section, torch.float32, CPU, length)
    assert memory.stored(rows * length) == pytest.approx(stored, rel=0.1)
    assert memory.stored(rows * length, is_checkpointed=True) < stored / 2


def test_a_model_with_experts_has_an_estimate() -> None:
    kind, options = model_families.FAMILIES["mixtral"]
    config = model_families.config(kind, len(WORDS), options)
    memory = measure(config, AdapterSection(targets="attention"), torch.float32, CPU, 50)
    assert memory.stored(100) > 100 * 4 * config.hidden_size * config.num_hidden_layers


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
    memory = ActivationMemory(2, Linear(500, 70), Linear(300, 50), Linear(0, 10))
    free = round(CPU_ALLOCATOR_OVERHEAD * (800 + 120 * 1000 + 12 * trainable))
    assert ActivationCheckpointing.plan(model, memory, free).threshold_tokens == pytest.approx(1000, rel=1e-6)
    assert ActivationCheckpointing.plan(model, memory, 0).applies_to(1)
    assert memory.stored(1000) == 800 + 120 * 1000
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
