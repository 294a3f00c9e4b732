"""GGUF files hold what was exported: weights, hyperparameters and tokenizer, as transformers and `gguf` read them."""

import json
import random
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from export import tiny_families
from export.test_exporter import TOKENS, edited_adapter
from gguf import GGUFReader, dequantize
from jinja2 import Template
from peft import PeftModel
from tokenizers import Regex, Tokenizer, pre_tokenizers
from tokenizers.models import BPE
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from keeptune.errors import ModelError
from keeptune.export.exporter import export
from keeptune.export.gguf.merge_scores import merge_scores
from keeptune.export.gguf.vocabulary import splitting_rule
from keeptune.export.served_prompt import jinja_template
from keeptune.files import read_json, write_json
from keeptune.models import adapters
from keeptune.prompts.template import Prompt


def fields(path: Path) -> dict[str, Any]:
    """The metadata of a GGUF file."""
    return {name: field.contents() for name, field in GGUFReader(path).fields.items()}


def tensors(path: Path) -> dict[str, tuple[str, torch.Tensor]]:
    """The tensors of a GGUF file, each with its number format, in transformers' order of dimensions."""
    return {
        one.name: (one.tensor_type.name, torch.tensor(dequantize(one.data, one.tensor_type)))
        for one in GGUFReader(path).tensors
    }


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        computed: torch.Tensor = model(input_ids=TOKENS).logits
    return computed


@pytest.mark.parametrize("shape", ["llama", "llama-tied", "mistral", "qwen2", "qwen3"])
def test_transformers_reads_the_merged_model(tmp_path: Path, shape: str) -> None:
    model = tiny_families.save(tmp_path / "model", shape)
    adapter = tiny_families.tune(model, tmp_path / "adapter", scale=0.5)
    export(str(adapter), "gguf", tmp_path / "out")
    expected = PeftModel.from_pretrained(tiny.reference(model), str(adapter))
    adapters.set_scale(expected, 0.5)
    settings: dict[str, Any] = {"dtype": torch.float32, "attn_implementation": "eager"}
    if shape == "qwen3":  # transformers does not read the size of its heads
        settings["config"] = AutoConfig.from_pretrained(model)
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "out", gguf_file="model.gguf", **settings)
    reference = logits(expected)
    assert (logits(read) - reference).abs().max() < 0.02 * reference.abs().max()
    before = AutoTokenizer.from_pretrained(model)
    after = AutoTokenizer.from_pretrained(tmp_path / "out", gguf_file="model.gguf")
    for kind, problem, solution in tiny.problems(14):
        assert after.encode(problem + solution) == before.encode(problem + solution), kind


def test_number_formats(tmp_path: Path) -> None:
    adapter = tiny_families.tune(tiny_families.save(tmp_path / "model", "llama"), tmp_path / "adapter")
    wanted = tensors_of(adapter, tmp_path, "bf16")
    for gguf_type, tolerance in (("f16", 2e-3), ("q8_0", 0.02), ("q4_0", 0.2), ("q4_1", 0.2)):
        found = tensors_of(adapter, tmp_path, gguf_type)
        formats = {name: stored for name, (stored, _) in found.items()}
        assert formats["blk.0.attn_q.weight"] == gguf_type.upper()
        assert formats["blk.0.attn_norm.weight"] == "F32"
        if gguf_type != "f16":
            # Rows of 48 numbers have no whole number of blocks.
            assert formats["blk.0.ffn_down.weight"] == "F16"
            assert formats["token_embd.weight"] == formats["output.weight"] == "Q8_0"
        for name, (_, tensor) in found.items():
            expected = wanted[name][1]
            assert (tensor - expected).abs().max() <= (tolerance + 0.01) * expected.abs().max(), name


def tensors_of(adapter: Path, tmp_path: Path, gguf_type: Any) -> dict[str, tuple[str, torch.Tensor]]:
    export(str(adapter), "gguf", tmp_path / gguf_type, gguf_type)
    return tensors(tmp_path / gguf_type / "model.gguf")


def test_metadata(tmp_path: Path) -> None:
    model = tiny_families.save(tmp_path / "model", "mistral")
    words = tiny.tokenizer(before=(tiny.BEGIN,))
    words.chat_template = "{{ messages[0].content }}"
    words.save_pretrained(model)
    (model / "README.md").write_text("---\nlicense: cc-by-4.0\n---\nA model.\n", encoding="utf-8")
    adapter = tiny_families.tune(model, tmp_path / "adapter")
    export(str(adapter), "gguf", tmp_path / "out", "q4_0")
    found = fields(tmp_path / "out" / "model.gguf")
    expected = {
        "general.architecture": "llama",
        "general.license": "cc-by-4.0",
        "general.file_type": 2,
        "general.sampling.temp": 0.0,
        "llama.context_length": 512,  # the sliding window
        "llama.attention.head_count_kv": 2,
        "llama.rope.dimension_count": 8,
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 0,
        "tokenizer.chat_template.base": "{{ messages[0].content }}",
    }
    assert {name: found.get(name) for name in expected} == expected
    problem = [{"role": "user", "content": "first"}, {"role": "user", "content": "1 + 1"}]
    assert Template(found["tokenizer.chat_template"]).render(messages=problem) == tiny.PROMPT.render("1 + 1")
    kinds = found["tokenizer.ggml.token_type"]
    assert kinds[:3] == [3, 3, 1]
    assert kinds[-1] == 5, "an embedding without a token"
    assert len(kinds) == len(found["tokenizer.ggml.tokens"]) == len(words) + 1


@pytest.mark.parametrize("text", ["It's\\n {problem}\n\n", "{problem}", "{{ '问题' }}\t{problem}\r\n答案：\n"])
def test_the_chat_template_renders_the_prompt(text: str) -> None:
    prompt = Prompt(text)
    rendered = Template(jinja_template(prompt)).render(messages=[{"role": "user", "content": "1 + 1"}])
    assert rendered == prompt.render("1 + 1")


def test_a_base_model_is_exported_with_its_own_template(tmp_path: Path) -> None:
    model = tiny_families.save(tmp_path / "model", "llama")
    words = tiny.tokenizer()
    words.chat_template = "{{ messages[0].content }}"
    words.save_pretrained(model)
    assert export(str(model), "gguf", tmp_path / "out") == ["README.md", "export.json", "model.gguf"]
    found = fields(tmp_path / "out" / "model.gguf")
    assert found["tokenizer.chat_template"] == "{{ messages[0].content }}"
    assert "general.sampling.temp" not in found
    with pytest.raises(ModelError, match="there is no adapter"):
        export(str(model), "gguf-lora", tmp_path / "other")


def test_a_merged_model_keeps_its_prompt(tmp_path: Path) -> None:
    adapter = tiny_families.tune(tiny_families.save(tmp_path / "model", "llama"), tmp_path / "adapter")
    export(str(adapter), "merged", tmp_path / "merged")
    assert "keeptune.json" in export(str(tmp_path / "merged"), "gguf", tmp_path / "out")
    assert fields(tmp_path / "out" / "model.gguf")["tokenizer.chat_template"] == jinja_template(tiny.PROMPT)


def test_an_adapter_of_rounded_weights_is_not_exported_alone(tmp_path: Path) -> None:
    model = tiny_families.save(tmp_path / "model", "llama")
    adapter = tiny_families.tune(model, tmp_path / "adapter", quantization="int8")
    with pytest.raises(ModelError, match="rounded to int8"):
        export(str(adapter), "gguf-lora", tmp_path / "out")
    assert export(str(adapter), "gguf", tmp_path / "out")


def test_rope_factors_are_those_of_transformers(tmp_path: Path) -> None:
    model = tiny_families.save(tmp_path / "model", "llama3-rope")
    export(str(model), "gguf", tmp_path / "out")
    factors = tensors(tmp_path / "out" / "model.gguf")["rope_freqs.weight"][1]
    config = AutoModelForCausalLM.from_pretrained(model).config
    used, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = 10000.0 ** (-torch.arange(0, 8, 2) / 8)
    assert torch.allclose(plain / factors, used)
    assert (factors[0], factors[-1]) == (1.0, 8.0)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "rope_type"),
        ({"model_type": "olmo"}, "model_type olmo"),
    ],
)
def test_other_models_are_refused_by_name(tmp_path: Path, changes: dict[str, Any], name: str) -> None:
    model = tiny_families.save(tmp_path / "model", "llama")
    write_json(model / "config.json", {**read_json(model / "config.json"), **changes})
    with pytest.raises(ModelError, match=name):
        export(str(model), "gguf", tmp_path / "out")
    assert not (tmp_path / "out").exists()


LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


def splitter(*steps: Any, ignore_merges: bool = False) -> dict[str, Any]:
    """The JSON of a byte-level tokenizer that splits by these steps."""
    words = tiny.tokenizer()
    words.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(list(steps))
    tree: dict[str, Any] = json.loads(words.backend_tokenizer.to_str())
    tree["model"]["ignore_merges"] = ignore_merges
    return tree


def test_splitting_rules() -> None:
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    llama3 = pre_tokenizers.Split(Regex(LLAMA3), "isolated")
    qwen = pre_tokenizers.Split(Regex(LLAMA3.replace("{1,3}", "")), "isolated")
    assert splitting_rule(splitter(words)) == "gpt-2"
    assert splitting_rule(splitter(pre_tokenizers.Digits(individual_digits=True), words)) == "smollm"
    assert splitting_rule(splitter(llama3, plain, ignore_merges=True)) == "llama-bpe"
    assert splitting_rule(splitter(qwen, plain)) == "qwen2"
    for unknown in (
        splitter(llama3, plain),
        splitter(qwen, words),
        splitter(pre_tokenizers.Digits(individual_digits=False), words),
        splitter(pre_tokenizers.ByteLevel(add_prefix_space=True)),
    ):
        with pytest.raises(ModelError, match="splits texts by a rule"):
            splitting_rule(unknown)


def test_scores_merge_as_the_rules_do() -> None:
    draw = random.Random(0)
    longer = {"".join(draw.choices("abc", k=draw.randint(2, 4))) for _ in range(40)}
    # The parts of a token come before it, so that both kinds of tokenizers can form it.
    order = sorted(longer, key=lambda token: (len(token), draw.random()))
    vocabulary = {token: number for number, token in enumerate(["a", "b", "c", *order])}
    merges = [
        (token[:place], token[place:])
        for token in order
        for place in range(1, len(token))
        if token[:place] in vocabulary and token[place:] in vocabulary
    ]
    scores = merge_scores(vocabulary, merges, ())
    ranked = Tokenizer(BPE(vocabulary, merges))
    for _ in range(200):
        text = "".join(draw.choices("abc", k=draw.randint(1, 30)))
        assert merged_by_scores(text, scores) == ranked.encode(text).tokens
    with pytest.raises(ModelError, match="no merge rule"):
        merge_scores(vocabulary, merges[1:], ())
    with pytest.raises(ModelError, match="are apart"):
        merge_scores(vocabulary, [*merges, merges[0]], ())


def merged_by_scores(text: str, scores: dict[str, float]) -> list[str]:
    """llama.cpp's rule: merge the leftmost of the neighboring pairs with the highest score, until none is a token."""
    parts = list(text)
    while pairs := [(-scores[a + b], place) for place, (a, b) in enumerate(pairwise(parts)) if a + b in scores]:
        place = min(pairs)[1]
        parts[place : place + 2] = ["".join(parts[place : place + 2])]
    return parts


def test_sentencepiece_tokenizers(tmp_path: Path) -> None:
    model = tiny_families.save(tmp_path / "model", "llama")
    words = tiny.byte_fallback_tokenizer()
    words.save_pretrained(model)
    export(str(model), "gguf", tmp_path / "out")
    found = fields(tmp_path / "out" / "model.gguf")
    assert (found["tokenizer.ggml.model"], found["tokenizer.ggml.add_space_prefix"]) == ("llama", True)
    kinds = dict(zip(found["tokenizer.ggml.tokens"], found["tokenizer.ggml.token_type"], strict=True))
    assert [kinds[token] for token in (tiny.END, "<0x0A>", "a")] == [3, 6, 1]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_rslora": True},
        {"rank_pattern": {"v_proj": 2}, "alpha_pattern": {"layers.1.self_attn.q_proj": 2}},
        {"target_modules": r".*\.0\..*\.(q_proj|k_proj|down_proj)"},
    ],
)
def test_adapter_files_hold_the_change_of_each_layer(tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = edited_adapter(tmp_path, **changes)
    export(str(folder), "gguf-lora", tmp_path / "out")
    found, facts = tensors(tmp_path / "out" / "adapter.gguf"), fields(tmp_path / "out" / "adapter.gguf")
    assert (facts["general.type"], facts["adapter.type"]) == ("adapter", "lora")
    assert "adapter.alora.invocation_tokens" not in facts
    alpha = facts["adapter.lora.alpha"]
    tuned = PeftModel.from_pretrained(tiny.reference(tmp_path / "model"), str(folder))
    adapters.set_scale(tuned, 0.5)
    base = tmp_path / "base"
    export(str(tmp_path / "model"), "gguf", base)
    before = tensors(base / "model.gguf")
    merged = tiny_merged(tuned, tmp_path)
    after = tensors(merged / "model.gguf")
    adapted = {name.removesuffix(".lora_a") for name in found if name.endswith(".lora_a")}
    assert {f"{name}.lora_{half}" for name in adapted for half in "ab"} == set(found)
    for name, (_, weight) in before.items():
        change = after[name][1] - weight
        assert (name in adapted) == bool(change.abs().max() > 0.01), name
        if name in adapted:
            a, b = (found[f"{name}.lora_{half}"][1] for half in "ab")
            assert torch.allclose(alpha / a.shape[0] * b @ a, change, atol=5e-3), name


def tiny_merged(tuned: Any, tmp_path: Path) -> Path:
    """The GGUF file of a merged model."""
    shutil.copytree(tmp_path / "model", tmp_path / "merged-model")
    tuned.merge_and_unload().save_pretrained(tmp_path / "merged-model")
    export(str(tmp_path / "merged-model"), "gguf", tmp_path / "merged")
    return tmp_path / "merged"


def test_invocation_tokens_are_stored(tmp_path: Path) -> None:
    adapter = tiny_families.tune(tiny_families.save(tmp_path / "model", "llama"), tmp_path / "adapter")
    config = adapter / "adapter_config.json"
    write_json(config, {**read_json(config), "alora_invocation_tokens": [5, 6, 7]})
    with pytest.raises(ModelError, match="gguf-lora"):
        export(str(adapter), "gguf", tmp_path / "out")
    export(str(adapter), "gguf-lora", tmp_path / "out")
    assert fields(tmp_path / "out" / "adapter.gguf")["adapter.alora.invocation_tokens"] == [5, 6, 7]


@pytest.mark.parametrize("family", ["dora", "vera", "ia3"])
def test_families_unknown_to_llamacpp_are_refused(tmp_path: Path, family: str) -> None:
    model, folder = tiny_families.save(tmp_path / "model", "llama"), tmp_path / "adapter"
    tiny_families.tune(model, folder)
    shutil.move(folder / "keeptune.json", tmp_path / "keeptune.json")
    shutil.rmtree(folder)
    folder.mkdir()
    adapters.save_adapter(tiny.moved(tiny.tune_as(tiny.load(model), family)), folder)
    shutil.move(tmp_path / "keeptune.json", folder / "keeptune.json")
    with pytest.raises(ModelError, match=f"this adapter is {family}"):
        export(str(folder), "gguf-lora", tmp_path / "out")
    assert export(str(folder), "gguf", tmp_path / "out")


def test_a_scale_of_zero_is_no_change(tmp_path: Path) -> None:
    adapter = tiny_families.tune(tiny_families.save(tmp_path / "model", "llama"), tmp_path / "adapter", scale=0.0)
    export(str(adapter), "gguf-lora", tmp_path / "out")
    # llama.cpp reads an alpha of 0 as no alpha.
    assert fields(tmp_path / "out" / "adapter.gguf")["adapter.lora.alpha"] != 0
    halves = tensors(tmp_path / "out" / "adapter.gguf")
    assert all(not tensor.any() for name, (_, tensor) in halves.items() if name.endswith("lora_b"))
