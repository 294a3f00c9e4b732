"""Computing activations twice changes no number, keeps less, and is done where there is no room and nowhere else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch.autograd.graph import saved_tensors_hooks
from transformers import LlamaConfig, LlamaForCausalLM

from keeptune.errors import TrainingError
from keeptune.models import activation_checkpointing as activations
from keeptune.models.activation_checkpointing import KEPT_MEMORY, OF_MLP, OF_WIDTH, Recompute, free_bytes
from keeptune.training.loop import Step, Trainer
from keeptune.training.objective import Objective, collate

WORDS = tiny.tokenizer()
EXAMPLES = [example for example in tiny.examples(WORDS, 24) if len(example.tokens) < 250]
CPU = torch.device("cpu")


def kept_bytes(run: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, int]:
    """What a forward pass returns, and the size of all that it keeps for the backward pass."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        total = run()
    return total, sum(kept.values())


def test_gradients_are_the_same_and_less_is_kept(model_folder: Path) -> None:
    found = []
    for over_tokens in (float("inf"), 0):
        model = tiny.tune(tiny.load(model_folder), dropout=0.1).train()
        torch.manual_seed(0)
        inputs, _ = collate(EXAMPLES[:5], 1.0, CPU)
        with Recompute(over_tokens).around(model, inputs[0].numel()):
            total, kept = kept_bytes(lambda: Objective(model)(*inputs)[0])  # noqa: B023  (called at once)
            total.backward()
        gradients = [p.grad for p in model.parameters() if p.requires_grad]
        found.append((kept, [total, *gradients]))
    (kept, plain), (kept_twice, again) = found
    assert kept_twice < kept / 3
    for one, other in zip(plain, again, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("wider", [1, 4])
def test_a_wider_mlp_keeps_four_values_more(wider: int) -> None:
    def kept(mlp: int) -> int:
        config = LlamaConfig(
            vocab_size=32, hidden_size=64, intermediate_size=mlp, num_hidden_layers=1, num_attention_heads=4
        )
        decoder = tiny.tune_as(LlamaForCausalLM(config), "lora", targets="all-linear").get_base_model().get_decoder()
        return kept_bytes(lambda: decoder(torch.zeros(1, 100, dtype=torch.int64)).last_hidden_state)[1]

    more = (kept(128 + 64 * wider) - kept(128)) / (4 * 100 * 64 * wider)
    assert more == pytest.approx(OF_MLP, abs=0.2)


def test_after_a_large_batch_a_small_one_is_computed_once(model_folder: Path) -> None:
    model = tiny.tune(tiny.load(model_folder)).train()
    recompute = Recompute(100)
    for tokens, wanted in ((101, True), (100, False)):
        with recompute.around(model, tokens):
            assert model.get_base_model().is_activation_checkpointing is wanted
        assert not model.get_base_model().is_activation_checkpointing


def test_what_fits_is_what_is_free(model_folder: Path) -> None:
    model: Any = tiny.tune(tiny.load(model_folder))
    config = model.config
    a_layer = OF_WIDTH * config.hidden_size + OF_MLP * config.intermediate_size
    a_token = config.num_hidden_layers * a_layer * 4
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    free = round(KEPT_MEMORY * (1000 * a_token + 12 * trainable))
    for family, tokens in (("lora", 1000), ("dora", 1000 / 2.6)):
        assert Recompute.planned("auto", model, family, free).over_tokens == pytest.approx(tokens, rel=1e-6)
    assert Recompute.planned("auto", model, "lora", 0).wanted(1)
    assert Recompute.planned("always", model, "lora", free).wanted(1)
    assert not Recompute.planned("never", model, "lora", 0).wanted(10**9)
    assert free_bytes(CPU) > 2**20


def test_a_containers_limit_counts_and_files_that_were_read_give_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activations, "_CGROUP", tmp_path)
    told = {"max": "5000000", "current": "4000000", "stat": "anon 3100000\nactive_file 200000\ninactive_file 700000"}
    for name, text in told.items():
        (tmp_path / f"memory.{name}").write_text(f"{text}\n", encoding="ascii")
    assert free_bytes(CPU) == 1_700_000
    (tmp_path / "memory.max").write_text("max\n", encoding="ascii")
    assert free_bytes(CPU) > 2**20


def test_running_out_of_memory_says_what_to_do(model_folder: Path, tmp_path: Path) -> None:
    def trained(recompute: Recompute) -> str:
        model = tiny.tune(tiny.load(model_folder))
        decoder = model.get_base_model().get_decoder()
        decoder.register_forward_pre_hook(lambda *_: torch.empty(10**15))  # more than any machine has
        with pytest.raises(TrainingError) as caught:
            Trainer(model, EXAMPLES, settings, 3, tmp_path, recompute).run(watch_nothing)
        return str(caught.value)

    def watch_nothing(step: Step) -> None:
        pass

    settings = tiny.settings(tokens_per_batch=1000)
    assert "train.activation_checkpointing: always, or with train.tokens_per_batch" in trained(Recompute(float("inf")))
    assert "recompute" not in trained(Recompute(0))
    assert not (tmp_path / "checkpoints").exists()
