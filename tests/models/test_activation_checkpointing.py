"""Activation checkpointing changes no result, saves memory, and applies only to batches that do not fit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch.autograd.graph import saved_tensors_hooks
from transformers import LlamaConfig, LlamaForCausalLM

from keeptune.errors import TrainingError
from keeptune.models import device_memory
from keeptune.models.activation_checkpointing import (
    CPU_ALLOCATOR_OVERHEAD,
    VALUES_PER_MLP_WIDTH,
    VALUES_PER_WIDTH,
    ActivationCheckpointing,
)
from keeptune.models.device_memory import free_bytes
from keeptune.training.loop import StepRecord, Trainer
from keeptune.training.objective import Objective, collate

WORDS = tiny.tokenizer()
EXAMPLES = [example for example in tiny.examples(WORDS, 24) if len(example.tokens) < 250]
CPU = torch.device("cpu")


def stored_bytes(run: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, int]:
    """The result of a forward pass, and the bytes that it stores for the backward pass."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        total = run()
    return total, sum(kept.values())


def test_gradients_are_equal_and_less_is_stored(model_folder: Path) -> None:
    results = []
    for threshold in (float("inf"), 0):
        model = tiny.tune(tiny.load(model_folder), dropout=0.1).train()
        torch.manual_seed(0)
        inputs, _ = collate(EXAMPLES[:5], 1.0, CPU)
        with ActivationCheckpointing(threshold).apply(model, inputs[0].numel()):
            total, kept = stored_bytes(lambda: Objective(model)(*inputs)[0])  # noqa: B023  (called immediately)
            total.backward()
        gradients = [p.grad for p in model.parameters() if p.requires_grad]
        results.append((kept, [total, *gradients]))
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
        decoder = tiny.tune_as(LlamaForCausalLM(config), "lora", targets="all-linear").get_base_model().get_decoder()
        return stored_bytes(lambda: decoder(torch.zeros(1, 100, dtype=torch.int64)).last_hidden_state)[1]

    more = (kept(128 + 64 * wider) - kept(128)) / (4 * 100 * 64 * wider)
    assert more == pytest.approx(VALUES_PER_MLP_WIDTH, abs=0.2)


def test_it_applies_only_to_large_batches(model_folder: Path) -> None:
    model = tiny.tune(tiny.load(model_folder)).train()
    checkpointing = ActivationCheckpointing(100)
    for tokens, is_enabled in ((101, True), (100, False)):
        with checkpointing.apply(model, tokens):
            assert model.get_base_model().is_activation_checkpointing is is_enabled
        assert not model.get_base_model().is_activation_checkpointing


def test_the_threshold_follows_from_free_memory(model_folder: Path) -> None:
    model: Any = tiny.tune(tiny.load(model_folder))
    config = model.config
    per_layer = VALUES_PER_WIDTH * config.hidden_size + VALUES_PER_MLP_WIDTH * config.intermediate_size
    per_token = config.num_hidden_layers * per_layer * 4
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    free = round(CPU_ALLOCATOR_OVERHEAD * (1000 * per_token + 12 * trainable))
    for family, tokens in (("lora", 1000), ("dora", 1000 / 2.6)):
        assert ActivationCheckpointing.plan("auto", model, family, free).threshold_tokens == pytest.approx(
            tokens, rel=1e-6
        )
    assert ActivationCheckpointing.plan("auto", model, "lora", 0).applies_to(1)
    assert ActivationCheckpointing.plan("always", model, "lora", free).applies_to(1)
    assert not ActivationCheckpointing.plan("never", model, "lora", 0).applies_to(10**9)
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
