"""Tensor names of a Llama and its LoRA: one name on each side, and unknown tensors are rejected."""

import pytest
import tiny
from peft.utils import get_peft_model_state_dict
from transformers import LlamaForCausalLM

from keeptune.errors import ModelError
from keeptune.mindspore.tensor_names import (
    from_mindformers,
    rename_from_mindformers,
    rename_to_mindformers,
    target_pattern,
    to_mindformers,
)


@pytest.mark.parametrize(
    ("hugging_face", "mindformers"),
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
def test_published_names(hugging_face: str, mindformers: str) -> None:
    assert to_mindformers(hugging_face) == mindformers
    assert from_mindformers(mindformers) == hugging_face


def test_renaming_a_model_and_its_adapter_is_invertible() -> None:
    model = LlamaForCausalLM(tiny.config(300))
    weights = dict(model.state_dict())
    assert rename_from_mindformers(rename_to_mindformers(weights)).keys() == weights.keys()
    adapter = get_peft_model_state_dict(tiny.tune(model), save_embedding_layers=False)
    assert rename_from_mindformers(rename_to_mindformers(adapter)).keys() == adapter.keys()
    assert len(set(rename_to_mindformers({**weights, **adapter}))) == len(weights) + len(adapter)


def test_optimizer_state_is_skipped() -> None:
    state = ["adam_m.model.norm_out.weight", "adam_v.model.norm_out.weight", "global_step", "scale_sense", "epoch_num"]
    assert rename_from_mindformers(dict.fromkeys([*state, "model.norm_out.weight"], 0)) == {"model.norm.weight": 0}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.layers.0.attention.wq.tk_delta_lora_a", "not a tensor of"),
        ("model.layers.0.attention.w_qkv.weight", "qkv_concat: False"),
    ],
)
def test_unknown_tensors_are_listed(name: str, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        rename_from_mindformers({name: 0, "model.norm_out.weight": 0})
    assert name in str(caught.value)
    assert message in str(caught.value)


def test_tensors_of_other_models_are_rejected() -> None:
    with pytest.raises(ModelError, match=r"transformer.h.0.weight and 1"):
        rename_to_mindformers({"transformer.h.0.weight": 0, "transformer.h.1.weight": 0})


def test_target_pattern() -> None:
    assert target_pattern(["v_proj", "q_proj"]) == ".*wq|.*wv"
