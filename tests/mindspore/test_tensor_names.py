"""Every tensor of a Llama and of its LoRA has one name on each side, and no tensor is left out in silence."""

import pytest
import tiny
from peft.utils import get_peft_model_state_dict
from transformers import LlamaForCausalLM

from keeptune.errors import ModelError
from keeptune.mindspore.tensor_names import exported, from_mindformers, imported, target_pattern, to_mindformers


@pytest.mark.parametrize(
    ("theirs", "own"),
    [
        ("model.embed_tokens.weight", "model.tok_embeddings.embedding_weight"),
        ("model.layers.11.self_attn.o_proj.weight", "model.layers.11.attention.wo.weight"),
        ("model.layers.0.mlp.down_proj.weight", "model.layers.0.feed_forward.w2.weight"),
        ("model.layers.0.post_attention_layernorm.weight", "model.layers.0.ffn_norm.weight"),
        ("model.norm.weight", "model.norm_out.weight"),
        (
            "base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight",
            "model.layers.3.attention.wq.mindpet_delta_lora_a",
        ),
        (
            "base_model.model.model.layers.3.mlp.up_proj.lora_B.weight",
            "model.layers.3.feed_forward.w3.mindpet_delta_lora_b",
        ),
    ],
)
def test_published_names(theirs: str, own: str) -> None:
    assert to_mindformers(theirs) == own
    assert from_mindformers(own) == theirs


def test_a_whole_model_and_its_adapter_go_there_and_back() -> None:
    model = LlamaForCausalLM(tiny.config(300))
    weights = dict(model.state_dict())
    assert imported(exported(weights)).keys() == weights.keys()
    halves = get_peft_model_state_dict(tiny.tune(model), save_embedding_layers=False)
    assert imported(exported(halves)).keys() == halves.keys()
    assert len(set(exported({**weights, **halves}))) == len(weights) + len(halves)


def test_the_optimisers_numbers_are_not_weights() -> None:
    state = ["adam_m.model.norm_out.weight", "adam_v.model.norm_out.weight", "global_step", "scale_sense", "epoch_num"]
    assert imported(dict.fromkeys([*state, "model.norm_out.weight"], 0)) == {"model.norm.weight": 0}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.layers.0.attention.wq.tk_delta_lora_a", "not a tensor of MindFormers' Llama or of its LoRA"),
        ("model.layers.0.attention.w_qkv.weight", "save the checkpoint with `qkv_concat: False`"),
    ],
)
def test_unknown_tensors_are_listed(name: str, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        imported({name: 0, "model.norm_out.weight": 0})
    assert str(caught.value).startswith(f"{name}: ")
    assert message in str(caught.value)


def test_models_that_are_no_llama_are_refused() -> None:
    with pytest.raises(ModelError, match=r"transformer.h.0.weight and 1 more: MindFormers' Llama has no such tensor"):
        exported({"transformer.h.0.weight": 0, "transformer.h.1.weight": 0})


def test_targets_as_mindformers_writes_them() -> None:
    assert target_pattern(["v_proj", "q_proj"]) == ".*wq|.*wv"
