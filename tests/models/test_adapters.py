"""LoRA adapters: targets, parameter counts, equality with PEFT, and loading."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from keeptune.config.adapter import AdapterSection
from keeptune.errors import ModelError
from keeptune.models import adapters
from keeptune.models.adapters import ParameterCount
from keeptune.models.fused_lora import fuse
from keeptune.models.target_layers import Roles, linear_layer_names, target_modules
from keeptune.pipeline.plan import count_parameters

ROLES: Roles = {
    "q_proj": frozenset({"query"}),
    "k_proj": frozenset({"key"}),
    "v_proj": frozenset({"value"}),
    "o_proj": frozenset({"attention-output"}),
    "gate_proj": frozenset({"mlp-input"}),
    "up_proj": frozenset({"mlp-input"}),
    "down_proj": frozenset({"mlp-output"}),
}
LLAMA = sorted(ROLES)
IDS = torch.randint(2, 300, (3, 11), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("targets", "chosen"),
    [
        ("attention-qv", ["q_proj", "v_proj"]),
        ("attention", ["k_proj", "o_proj", "q_proj", "v_proj"]),
        ("mlp", ["down_proj", "gate_proj", "up_proj"]),
        ("all-linear", LLAMA),
        ("q_proj", ["q_proj"]),
        (["v_proj", "q_proj", "v_proj"], ["q_proj", "v_proj"]),
        (".*wq|.*wv", ["q_proj", "v_proj"]),
        (".*wq|.*wk|.*wv|.*wo", ["k_proj", "o_proj", "q_proj", "v_proj"]),
        (".*w1|.*w2|.*w3", ["down_proj", "gate_proj", "up_proj"]),
        (".*w1", ["gate_proj"]),
        (".*w2", ["down_proj"]),
        ("w[qv]$", ["q_proj", "v_proj"]),
        (".*", LLAMA),
    ],
)
def test_targets_by_preset_name_or_regex(targets: str | list[str], chosen: list[str]) -> None:
    assert target_modules(targets, ROLES) == chosen


@pytest.mark.parametrize(
    ("targets", "fault"),
    [
        ("wq", "wq matches no linear layer"),
        ("query", "query matches no linear layer"),
        (["q_proj", "query", "key"], "query, key matches no linear layer"),
        ("", "empty"),
        ([], "empty matches no linear layer"),
        (".*wq|.*wx", "the part '.*wx' matches none of w2, w1, wk, wo, wq, w3, wv"),
        (".*q_proj", "the part '.*q_proj' matches none of"),
        (".*wq|", "the part '' "),
        ("w[q", "'w[q' is not a regular expression"),
        ("*wq", "'*wq' is not a regular expression"),
    ],
)
def test_wrong_targets_raise_and_list_the_choices(targets: str | list[str], fault: str) -> None:
    with pytest.raises(ModelError) as caught:
        target_modules(targets, ROLES)
    message = str(caught.value)
    assert "adapter.targets: " in message
    assert fault in message
    assert "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj" in message
    assert "attention-qv, attention, mlp, all-linear" in message


def test_the_output_layer_is_not_a_target(model_folder: Path) -> None:
    assert linear_layer_names(tiny.load(model_folder)) == LLAMA


@pytest.mark.parametrize(
    ("rank", "targets", "trainable"),
    [(8, "attention-qv", 3_407_872), (16, "attention", 13_631_488), (64, ".*wq|.*wk|.*wv|.*wo", 54_525_952)],
)
def test_counts_match_published_ones_of_llama_3_8b(rank: int, targets: str, trainable: int) -> None:
    found = count_parameters(tiny.LLAMA3_8B, AdapterSection(rank=rank, targets=targets))
    assert found == ParameterCount(trainable, 8_030_261_248)
    assert found.ratio == trainable / 8_030_261_248


def logits(model: Any) -> torch.Tensor:
    made = model(input_ids=IDS).logits
    assert isinstance(made, torch.Tensor)
    return made


def test_a_new_adapter_changes_nothing_and_depends_on_its_seed_alone(model_folder: Path) -> None:
    base = logits(tiny.load(model_folder))
    section = AdapterSection(rank=4)
    torch.manual_seed(5)
    random_value = torch.rand(1)
    torch.manual_seed(5)
    first = adapters.attach(tiny.load(model_folder), section, seed=1)
    assert torch.equal(torch.rand(1), random_value)
    torch.testing.assert_close(logits(first), base, rtol=0, atol=0)
    again, other = (adapters.attach(tiny.load(model_folder), section, seed=seed) for seed in (1, 2))
    name = "base_model.model.model.layers.1.mlp.up_proj.lora_A.default.weight"
    own, same, different = (model.get_parameter(name) for model in (first, again, other))
    assert torch.equal(own, same)
    assert not torch.equal(own, different)


def test_counts_of_a_real_adapter(model_folder: Path) -> None:
    base = tiny.load(model_folder)
    total = sum(parameter.numel() for parameter in base.parameters())
    tuned = adapters.attach(base, AdapterSection(rank=3, targets="attention-qv"), seed=0)
    # Two layers; queries go from 32 to 32, values from 32 to 16.
    assert adapters.count_parameters(tuned) == ParameterCount(2 * 3 * (32 + 32 + 32 + 16), total)


def test_a_disabled_adapter_is_the_base_bit_for_bit(model_folder: Path) -> None:
    base = logits(tiny.load(model_folder))
    tuned = tiny.tune(tiny.load(model_folder))
    before, counted = logits(tuned), adapters.count_parameters(tuned)
    assert not torch.allclose(before, base)
    with adapters.scaled(tuned, 0):
        assert torch.equal(logits(tuned), base)
    assert torch.equal(logits(tuned), before)
    with pytest.raises(ZeroDivisionError), adapters.scaled(tuned, 0):
        raise ZeroDivisionError
    assert torch.equal(logits(tuned), before)
    assert adapters.count_parameters(tuned) == counted


def peft_twin(tuned: Any, base: Any, folder: Path) -> Any:
    """The same adapter on the same model, run by PEFT's own forward pass."""
    tuned.save_pretrained(folder)
    return PeftModel.from_pretrained(base, folder, is_trainable=True)


def assert_same(fused: Any, plain: Any) -> None:
    """Asserts equal outputs and equal gradients of trainable parameters and of the input."""
    found = []
    for model in (fused, plain):
        model.zero_grad()
        embedded = model.get_input_embeddings()(IDS).detach().requires_grad_()
        made = model(inputs_embeds=embedded).logits
        (made * torch.linspace(-1, 1, made.numel()).view(made.shape)).sum().backward()
        grads = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
        found.append({"logits": made.detach(), "input": embedded.grad, **grads})
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        difference = (value - found[1][name]).abs().max()
        assert difference <= 1e-5 * value.abs().max(), name


@pytest.mark.parametrize("bias", [False, True])
def test_the_fused_product_equals_pefts(model_folder: Path, tmp_path: Path, bias: bool) -> None:
    def base() -> Any:
        if not bias:
            return tiny.load(model_folder)
        torch.manual_seed(0)
        model = LlamaForCausalLM(tiny.config(400, attention_bias=True))
        for layer in model.model.layers:
            torch.nn.init.normal_(layer.self_attn.q_proj.bias)
        return model

    tuned = tiny.tune(base())
    plain = peft_twin(tuned, base(), tmp_path)
    assert_same(tuned, plain)
    for scale in (0.5, 2.0):
        with adapters.scaled(tuned, scale), adapters.scaled(plain, scale):
            assert_same(tuned, plain)
    with adapters.scaled(tuned, 0), tuned.disable_adapter():
        pass
    assert_same(tuned, plain)
    with tuned.disable_adapter(), torch.no_grad():
        assert torch.equal(logits(tuned), logits(base()))
    adapters.set_scale(tuned, 0.25)
    adapters.set_scale(plain, 0.25)
    assert_same(tuned, plain)


def test_merging_can_be_undone(model_folder: Path) -> None:
    tuned = tiny.tune(tiny.load(model_folder))
    before = logits(tuned)
    tuned.merge_adapter()
    torch.testing.assert_close(logits(tuned), before, rtol=1e-4, atol=1e-4)
    tuned.unmerge_adapter()
    torch.testing.assert_close(logits(tuned), before, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits(tuned.merge_and_unload()), before, rtol=1e-4, atol=1e-4)


def test_in_bfloat16_the_adapter_stays_float32(model_folder: Path, tmp_path: Path) -> None:
    tuned = tiny.tune(tiny.load(model_folder).bfloat16())
    plain = peft_twin(tuned, tiny.load(model_folder).bfloat16(), tmp_path)
    for model in (tuned, plain):
        logits(model).float().square().mean().backward()
    for (name, own), (_, other) in zip(tuned.named_parameters(), plain.named_parameters(), strict=True):
        if own.requires_grad:
            assert own.dtype == own.grad.dtype == torch.float32
            assert torch.nn.functional.cosine_similarity(own.grad.flatten(), other.grad.flatten(), dim=0) > 0.99, name


@pytest.mark.parametrize("change", [{"lora_dropout": 0.1}, {"use_dora": True}, {"lora_bias": True}])
def test_other_layers_keep_pefts_forward(model_folder: Path, change: dict[str, Any]) -> None:
    config = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", **change)
    assert fuse(get_peft_model(LlamaForCausalLM(tiny.config(50, attention_bias=True)), config)) == 0
    assert fuse(tiny.tune(tiny.load(model_folder))) == 2 * len(LLAMA)


@pytest.fixture
def stored(model_folder: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    tiny.tune(tiny.load(model_folder)).save_pretrained(folder)
    return folder


def test_a_stored_adapter_loads(model_folder: Path, stored: Path) -> None:
    loaded = adapters.load_adapter(tiny.load(model_folder), stored)
    assert torch.equal(logits(loaded), logits(tiny.tune(tiny.load(model_folder))))
    assert adapters.count_parameters(loaded).trainable == 0
    again = adapters.load_adapter(tiny.load(model_folder), stored, trainable=True)
    assert (
        adapters.count_parameters(again).trainable
        == adapters.count_parameters(tiny.tune(tiny.load(model_folder))).trainable
    )


def test_module_names_are_stored_sorted(model_folder: Path, stored: Path) -> None:
    """PEFT keeps them as a set, whose order differs between processes."""
    adapters.save_adapter(tiny.tune(tiny.load(model_folder)), stored)
    names = json.loads((stored / "adapter_config.json").read_text(encoding="utf-8"))["target_modules"]
    assert names == sorted(target_modules("all-linear", ROLES))


def edit_config(**changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")

    return edit


def edit_tensors(edit: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        tensors = load_file(folder / "adapter_model.safetensors")
        edit(tensors)
        save_file(tensors, folder / "adapter_model.safetensors")

    return apply


def cut(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def widen(tensors: dict[str, torch.Tensor]) -> None:
    name = min(tensors)
    tensors[name] = torch.cat([tensors[name], tensors[name]])


TAMPERED: dict[str, Callable[[Path], object]] = {
    "no folder": lambda folder: shutil.rmtree(folder),
    "no configuration": lambda folder: (folder / "adapter_config.json").unlink(),
    "no tensors": lambda folder: (folder / "adapter_model.safetensors").unlink(),
    "configuration cut short": lambda folder: (folder / "adapter_config.json").write_text("{", encoding="utf-8"),
    "configuration of no sort": edit_config(peft_type="MAGIC"),
    "configuration without a type": edit_config(peft_type=None),
    "tensors cut short": cut,
    "tensors of another rank": edit_config(r=2),
    "rank is a word": edit_config(r="four"),
    "fewer targets": edit_config(target_modules=["q_proj"]),
    "targets that do not exist": edit_config(target_modules=["query_key_value"]),
    "one tensor missing": edit_tensors(lambda tensors: tensors.pop(min(tensors))),
    "one tensor more": edit_tensors(lambda tensors: tensors.update(other=torch.ones(1))),
    "one tensor of another shape": edit_tensors(widen),
}


@pytest.mark.parametrize("tamper", TAMPERED.values(), ids=TAMPERED.keys())
def test_an_incomplete_adapter_raises(tamper: Callable[[Path], object], model_folder: Path, stored: Path) -> None:
    tamper(stored)
    with pytest.raises(ModelError) as caught:
        adapters.load_adapter(tiny.load(model_folder), stored)
    assert str(stored) in str(caught.value)


def test_an_adapter_of_another_model_raises(stored: Path) -> None:
    other = LlamaForCausalLM(tiny.config(400, hidden_size=64))
    with pytest.raises(ModelError, match="does not fit this model"):
        adapters.load_adapter(other, stored)
    deeper = LlamaForCausalLM(tiny.config(400, num_hidden_layers=3))
    with pytest.raises(ModelError, match="14 adapter tensors differ"):
        adapters.load_adapter(deeper, stored)
