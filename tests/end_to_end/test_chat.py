"""A file of conversations goes through all stages under the model's own chat template; ask and score use it too."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import yaml
from end_to_end.command import ok, records, refused
from end_to_end.conftest import Tree
from prompts.chat_templates import FAMILIES
from transformers import AutoTokenizer, LlamaForCausalLM

SYSTEM = {"role": "system", "content": "Be kind."}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


def conversation(number: int) -> dict[str, Any]:
    """Several turns about random words; each answer of the assistant is always the same."""
    draw = random.Random(number)
    words = ["".join(draw.choices("abcdefghij", k=4)) for _ in range(3)]
    turns: list[dict[str, Any]] = [{"role": "user", "content": " ".join(words)}]
    row: dict[str, Any] = {}
    if number % 3 == 0:
        call = {"type": "function", "function": {"name": "look", "arguments": {}}}
        turns += [{"role": "assistant", "content": "", "tool_calls": [call]}, {"role": "tool", "content": words[0]}]
        row["tools"] = [TOOL]
    if number % 2:
        turns += [{"role": "assistant", "content": "Yes."}, {"role": "user", "content": words[2]}]
    row["messages"] = [SYSTEM, *turns, {"role": "assistant", "content": "Fine."}]
    return row


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a chat template whose turns end with a token that is not the tokenizer's end token."""
    folder = tmp_path_factory.mktemp("chat-model")
    words = FAMILIES["chatml"].tokenizer()
    words.eos_token = "<|endoftext|>"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(tiny.config(len(words), initializer_range=0.1, eos_token_id=words.eos_token_id))
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "chats.jsonl"
    lines = [json.dumps(conversation(number)) for number in range(40)]
    path.write_text("\n".join([*lines, '{"messages": []}']), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def chat_run(chat_model: Path, rows: Path, tree: Tree, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chat-run")
    changes = {
        "model": {"name": str(chat_model), "dtype": "float32"},
        "prompt": {"template": "chat", "arguments": {"enable_thinking": False}},
        "data": {"skill": "text", "files": [str(rows)], "split": {"dev": 2, "test": 6}, "reject_limit": 0.1},
        "adapter": {"rank": 8, "alpha": 16},
        "train": {"epochs": 10, "learning_rate": 0.02, "tokens_per_step": 600, "tokens_per_batch": 600},
    }
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({**tree, **changes}), encoding="utf-8")
    ok("run", recipe, "--run", folder / "run")
    return folder / "run"


def test_conversations_are_trained_scored_and_reported(chat_run: Path) -> None:
    result = json.loads((chat_run / "result.json").read_text(encoding="utf-8"))
    assert result["skill"]["base"]["accuracy"] == 0 and result["skill"]["tuned"]["accuracy"] == 1
    card = json.loads((chat_run / "data/card.json").read_text(encoding="utf-8"))
    assert (card["rows_read"], card["rows_kept"], card["rows_rejected"]) == (41, 40, 1)
    for record in records(chat_run / "scores/skill-tuned.jsonl"):
        # The answer ends with the template's end of turn, so nothing follows it.
        assert record["output"] == "Fine." and record["stopped"]
        assert record["prompt"].endswith("<|im_start|>assistant\n") and "Be kind." in record["prompt"]
    stored = json.loads((chat_run / "adapter/keeptune.json").read_text(encoding="utf-8"))["prompt"]
    assert stored["template"] == FAMILIES["chatml"].template and stored["sha256"] == result["prompt"]["sha256"]


def test_verify_recomputes_the_prompts(chat_run: Path) -> None:
    ok("verify", chat_run)


def test_ask_and_score_use_the_chat_template(chat_run: Path, rows: Path) -> None:
    answer = ok("ask", chat_run, "abcd efgh", "--json").json
    assert answer["prompt"] == "<|im_start|>user\nabcd efgh<|im_end|>\n<|im_start|>assistant\n"
    assert answer["stopped"]
    scores = ok("score", chat_run, "--skill", rows, "--limit", 6, "--json").json
    assert scores["skill"]["accuracy"] == 1 and scores["skill"]["n"] == 6 and scores["prompt"]["stored"]


def test_a_merged_model_keeps_the_prompt(chat_run: Path, rows: Path, tmp_path: Path) -> None:
    ok("export", chat_run, "--to", "merged", "--out", tmp_path / "merged")
    scores = ok("score", tmp_path / "merged", "--skill", rows, "--limit", 4, "--json").json
    assert scores["skill"]["accuracy"] == 1 and scores["prompt"]["stored"]


def test_a_base_model_is_scored_under_its_chat_template(chat_model: Path, tmp_path: Path) -> None:
    skill = tmp_path / "skill.jsonl"
    skill.write_text('{"problem": "计算 1.00 + 2.00 等于多少？", "solution": "3.00"}\n', encoding="utf-8")
    scores = ok("score", chat_model, "--skill", skill, "--prompt", "chat", "--json").json
    assert scores["prompt"]["template"] == FAMILIES["chatml"].template and scores["skill"]["n"] == 1


def test_another_chat_template_is_an_error_with_both_fingerprints(
    chat_run: Path, chat_model: Path, rows: Path, tmp_path: Path
) -> None:
    adapter, model = tmp_path / "adapter", tmp_path / "model"
    shutil.copytree(chat_run / "adapter", adapter)
    shutil.copytree(chat_model, model)
    words = AutoTokenizer.from_pretrained(model)
    words.chat_template = words.chat_template.replace("<|im_start|>system", "<|im_start|>context")
    words.save_pretrained(model)
    metadata = json.loads((adapter / "keeptune.json").read_text(encoding="utf-8"))
    (adapter / "keeptune.json").write_text(json.dumps({**metadata, "model": str(model)}), encoding="utf-8")
    for command in (("ask", adapter, "abcd"), ("score", adapter, "--skill", rows)):
        message = refused(2, *command)
        assert metadata["prompt"]["sha256"] in message and "template" in message
    scores = ok("score", adapter, "--skill", rows, "--limit", 4, "--other-prompt", "--json").json
    assert not scores["prompt"]["stored"] and scores["prompt"]["sha256"] != metadata["prompt"]["sha256"]


def test_a_model_without_a_chat_template_is_refused(tree: Tree, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({**tree, "prompt": "chat"}), encoding="utf-8")
    assert "chat template" in refused(2, "run", recipe, "--run", tmp_path / "run")
    assert not (tmp_path / "run" / "data").exists()
