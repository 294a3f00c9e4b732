"""`keeptune plan` of each recipe under recipes/seeds for Llama 3 8B: no weights, and a hundredth of the rows."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from end_to_end.command import ok
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from keeptune.pipeline import plan
from keeptune.skills.arithmetic.contest_corpus import generate_corpus

FOLDER = Path(__file__).resolve().parents[2] / "recipes" / "seeds"
SEEDS = sorted(path.stem for path in FOLDER.glob("*.yaml"))

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "bos_token_id": 128000,
    "eos_token_id": 128001,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 8192,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 128256,
}
"""The config.json of Llama 3 8B."""

TOTAL = 8_030_261_248
TRAINED = {"000": 3_407_872, "001": 13_631_488, "001-teacher": 13_631_488, "002": 3_407_872, "004": 3_407_872}
TRAINED |= {"balanced-15": 3_407_872}
"""The numbers of trained parameters that the reports state, and the published number of all parameters."""

CORPUS_ROWS, FIRST_ENGLISH_ROW = 8_100, 8_001


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    """A hundredth of the contest's corpus."""
    return list(generate_corpus(CORPUS_ROWS, 0))


@pytest.fixture(scope="module")
def corpus(rows: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "train.json"
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def llama(rows: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of Llama 3 8B without its weights. A small tokenizer of the same sort replaces its own."""
    folder = tmp_path_factory.mktemp("llama")
    (folder / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    specials = ["<|begin_of_text|>", "<|end_of_text|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=16_000,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([row["problem"] + row["solution"] for row in rows], trainer)
    words = PreTrainedTokenizerFast(tokenizer_object=core, bos_token=specials[0], eos_token=specials[1])
    words.save_pretrained(folder)
    return folder


def hundredth(count: int) -> int:
    return -(-count // 100)


def short_form(name: str) -> list[str]:
    """The overrides that take a hundredth of the rows of a recipe."""
    data: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))["data"]
    changes: dict[str, Any] = {"data.split": {"dev": 1, "test": 3}}
    if slices := data.get("slices"):
        changes["data.slices"] = [_short_slice(part) for part in slices]
    if quota := data.get("quota"):
        changes["data.quota"] = {kind: hundredth(count) for kind, count in quota.items()}
    return [argument for key, value in changes.items() for argument in ("--set", f"{key}={json.dumps(value)}")]


def _short_slice(part: dict[str, Any]) -> dict[str, Any]:
    if "rows" not in part:
        return {**part, "take": hundredth(part["take"])}
    rows = [1, FIRST_ENGLISH_ROW - 1] if part["rows"][0] == 1 else [FIRST_ENGLISH_ROW, CORPUS_ROWS]
    return {**part, "take": hundredth(part["take"]), "rows": rows}


@pytest.mark.parametrize("name", SEEDS)
def test_a_plan_needs_no_weights(name: str, llama: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Training a layer of this size takes seconds.
    monkeypatch.setattr(plan, "tokens_per_second", lambda *_: 100.0)
    sets = ["--set", f"model.name={llama}", "--set", f'data.files=["{corpus}"]', *short_form(name)]
    content = ok("plan", FOLDER / f"{name}.yaml", *sets, "--json").json
    assert content["parameters"]["total"] == TOTAL
    if name in TRAINED:
        assert content["parameters"]["trainable"] == TRAINED[name]
    assert content["rows_read"] == CORPUS_ROWS
    assert content["splits"]["train"]["rows"] > 10
    assert content["tokens"]["training"] > 0 and content["steps"] > 0
    assert content["estimate"]["memory_bytes"] > 2 * TOTAL
