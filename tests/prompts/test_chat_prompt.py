"""The chat prompt against `apply_chat_template`, token by token, and its target masks against hand-made ones."""

import json
from typing import Any

import pytest
from prompts.chat_templates import CHATML, FAMILIES, Family
from transformers import PreTrainedTokenizerFast

from keeptune.errors import ModelError, PromptError
from keeptune.models.load import load_tokenizer
from keeptune.prompts.chat_prompt import ChatPrompt, chat_prompt, end_token_ids, parse_stored_prompt, turn_end
from keeptune.prompts.template import Prompt
from keeptune.prompts.token_count import TokenCounter

USER, ANSWER = {"role": "user", "content": "What is 1 + 1?"}, {"role": "assistant", "content": "It is 2."}
AGAIN, LAST = {"role": "user", "content": "再加一？"}, {"role": "assistant", "content": "3"}
SYSTEM = {"role": "system", "content": "Be brief."}
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": 2}}}
CALLING = {"role": "assistant", "content": "", "tool_calls": [CALL]}
RESULT = {"role": "tool", "content": "3", "name": "add"}
TOOLS = [{"type": "function", "function": {"name": "add", "description": "adds", "parameters": {"type": "object"}}}]

Turns = list[dict[str, Any]]
CONVERSATIONS: dict[str, tuple[Turns, Any]] = {
    "one turn": ([USER, ANSWER], None),
    "three turns": ([USER, ANSWER, AGAIN, LAST, USER, ANSWER], None),
    "system": ([SYSTEM, USER, ANSWER], None),
    "system and turns": ([SYSTEM, USER, ANSWER, AGAIN, LAST], None),
    "spaces": ([{**USER, "content": "  a\n"}, {**ANSWER, "content": "b  c."}], None),
    "tool call": ([USER, CALLING], TOOLS),
    "tools": ([SYSTEM, USER, CALLING, RESULT, ANSWER, AGAIN, LAST], TOOLS),
    "thought": ([USER, {**ANSWER, "reasoning_content": "One and one."}], None),
}


def stored(turns: Turns, tools: Any = None) -> str:
    return json.dumps({"messages": turns, **({"tools": tools} if tools else {})})


def prompt_of(family: Family, words: PreTrainedTokenizerFast, **settings: Any) -> ChatPrompt:
    return chat_prompt(words, end_token_ids(words, family.end_ids(words)), family.arguments, **settings)


def reference(words: Any, family: Family, turns: Turns, tools: Any, **options: Any) -> list[int]:
    arguments: Any = {**family.arguments, **options}
    return list(words.apply_chat_template(turns, tools=tools, tokenize=True, return_dict=False, **arguments))


def targets(words: Any, tokens: Any, mask: Any) -> list[str]:
    """The texts of the runs of targets."""
    runs: list[list[int]] = []
    for place, token in enumerate(tokens):
        if mask[place]:
            if not place or not mask[place - 1]:
                runs.append([])
            runs[-1].append(token)
    return [str(words.decode(run)) for run in runs]


def is_supported(family: str, name: str) -> bool:
    if name in ("tool call", "tools"):
        return family in ("chatml", "marked", "qwen3", "qwen3-no-thinking")
    if name in ("system", "system and turns"):
        return family not in ("gemma", "mistral")
    return name != "thought" or family == "qwen3"


@pytest.mark.parametrize("loss_on", ["all", "last"])
@pytest.mark.parametrize("name", CONVERSATIONS)
@pytest.mark.parametrize("family_name", FAMILIES)
def test_tokens_are_those_of_apply_chat_template(family_name: str, name: str, loss_on: Any) -> None:
    family, (turns, tools) = FAMILIES[family_name], CONVERSATIONS[name]
    words = family.tokenizer()
    prompt = prompt_of(family, words, loss_on=loss_on)
    answer, row = turns[-1]["content"], stored(turns, tools)
    if not is_supported(family_name, name):
        with pytest.raises(PromptError):
            prompt.encode_example(words, "", answer, row)
        return
    if family_name.startswith("qwen3") and loss_on == "all" and sum(turn["role"] == "assistant" for turn in turns) > 1:
        with pytest.raises(PromptError, match="not prefix-stable"):
            prompt.encode_example(words, "", answer, row)
        return
    example = prompt.encode_example(words, "", answer, row)
    complete = reference(words, family, turns, tools)
    inference = reference(words, family, turns[:-1], tools, add_generation_prompt=True)
    assert list(example.tokens) == complete[: len(example.tokens)]
    assert prompt.encode(words, "", row) == inference == list(example.tokens[: example.prompt_tokens])
    assert words.decode(complete[len(example.tokens) :]).strip() == ""
    # Each target ends with an end token, and only an end token ends it.
    ends = set(family.end_ids(words))
    assert example.loss_mask[-1] and example.tokens[-1] in ends
    answers = [turn for turn in turns if turn["role"] == "assistant"]
    runs = targets(words, example.tokens, example.loss_mask)
    assert len(runs) == (len(answers) if loss_on == "all" else 1)
    for turn, text in zip(answers[-len(runs) :], runs, strict=True):
        expected = turn["content"].strip() or '"arguments": {"a": 1, "b": 2}}\n</tool_call>'
        assert text.endswith(expected + words.convert_ids_to_tokens([example.tokens[-1]])[0])


def test_generation_blocks_give_the_mask_of_transformers() -> None:
    family = FAMILIES["marked"]
    words = family.tokenizer()
    for turns, tools in CONVERSATIONS.values():
        if "reasoning_content" in turns[-1]:
            continue
        encoded = words.apply_chat_template(
            turns, tools=tools, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        example = prompt_of(family, words).encode_example(words, "", turns[-1]["content"], stored(turns, tools))
        mask = encoded["assistant_masks"]
        assert [int(target) for target in example.loss_mask] == mask[: len(example.loss_mask)]
        assert not any(mask[len(example.loss_mask) :])


@pytest.mark.parametrize("family_name", ["chatml", "marked"])
def test_a_turn_of_weight_0_is_no_target(family_name: str) -> None:
    """`weight: 0` of OpenAI's format: such rows were rejected."""
    family = FAMILIES[family_name]
    words = family.tokenizer()
    turns = [
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "content": "It is 3.", "is_untrained": True},
        {"role": "user", "content": "Sure?"},
        {"role": "assistant", "content": "It is 2."},
    ]
    example = prompt_of(family, words).encode_example(words, "", "It is 2.", stored(turns))
    assert targets(words, example.tokens, example.loss_mask) == ["It is 2.<|im_end|>"]


def test_a_block_that_ends_before_the_end_token_is_extended() -> None:
    family = FAMILIES["marked"]
    words = family.tokenizer()
    words.chat_template = family.template.replace("<|im_end|>{% endgeneration %}", "{% endgeneration %}<|im_end|>")
    example = prompt_of(family, words).encode_example(words, "", "It is 2.", stored([USER, ANSWER]))
    assert targets(words, example.tokens, example.loss_mask) == ["It is 2.<|im_end|>"]


@pytest.mark.parametrize("family_name", FAMILIES)
def test_there_is_one_bos_at_most(family_name: str) -> None:
    family = FAMILIES[family_name]
    words = family.tokenizer()
    tokens = prompt_of(family, words).encode(words, "Hello")
    assert tokens.count(words.bos_token_id) == (1 if "bos_token" in family.template else 0)
    assert tokens[0] == words.bos_token_id or "bos_token" not in family.template


def test_a_problem_is_one_user_turn_after_the_system_turn_of_the_recipe() -> None:
    family = FAMILIES["chatml"]
    words = family.tokenizer()
    prompt = prompt_of(family, words, system="Be brief.")
    assert prompt.render("Hi") == "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n" + (
        "<|im_start|>assistant\n"
    )
    # A row's own system turn replaces it.
    assert "Be brief" not in prompt.render("", stored([{**SYSTEM, "content": "Be long."}, USER, ANSWER]))
    with pytest.raises(PromptError):
        prompt_of(FAMILIES["gemma"], FAMILIES["gemma"].tokenizer(), system="Be brief.")


def test_parts_that_a_template_leaves_out_are_errors() -> None:
    family = FAMILIES["chatml"]
    words = family.tokenizer()
    words.chat_template = (
        "{% for message in messages %}{% if message.role in ('user', 'assistant') %}<|im_start|>{{ message.role }}\n"
        "{{ message.content }}<|im_end|>\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    prompt = prompt_of(family, words)
    for turns, tools, part in (
        ([SYSTEM, USER, ANSWER], None, "turn 1 (system)"),
        ([USER, ANSWER], TOOLS, "the tools"),
        ([USER, CALLING, RESULT, ANSWER], None, "turn 2 (assistant)"),
        ([USER, {**ANSWER, "reasoning_content": "hm"}], None, "turn 2 (assistant)"),
    ):
        with pytest.raises(PromptError) as caught:
            prompt.encode_example(words, "", turns[-1]["content"], stored(turns, tools))
        assert f"leaves out {part}" in str(caught.value).replace("a part of ", "")


def test_a_template_without_an_end_of_turn_is_an_error() -> None:
    family = FAMILIES["chatml"]
    words = family.tokenizer()
    words.chat_template = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}" + (
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    with pytest.raises(PromptError, match="no end token"):
        prompt_of(family, words).encode_example(words, "Hi", "Ho")


def test_an_answer_that_merges_with_its_prompt_is_an_error() -> None:
    """The tiny tokenizer merges two line ends after a colon into one token less than apart."""
    family = FAMILIES["chatml"]
    words = family.tokenizer()
    words.chat_template = (
        "{% for message in messages %}{{ message.role }}{{ message.content }}<|im_end|>{% endfor %}"
        + ("{% if add_generation_prompt %}assistant{% endif %}")
    )
    vocabulary = words.backend_tokenizer.get_vocab()
    merged = next(token for token in vocabulary if token.startswith("t") and len(token) > 1 and token.isalpha())
    with pytest.raises(PromptError, match="merges"):
        prompt_of(family, words).encode_example(words, "Hi", merged[1:] + " x")


@pytest.mark.parametrize(
    ("template", "eos", "expected"),
    [(CHATML, "<|endoftext|>", ["<|im_end|>"]), (None, "<|endoftext|>", ["<|endoftext|>"])],
)
def test_the_end_of_a_turn_is_found_in_the_template(template: str | None, eos: str, expected: list[str]) -> None:
    words = FAMILIES["chatml"].tokenizer()
    words.chat_template, words.eos_token = template, eos
    assert words.convert_ids_to_tokens(turn_end(words)) == expected
    configured = words.convert_tokens_to_ids("<|im_start|>")
    assert end_token_ids(words, configured) == sorted({configured, words.eos_token_id, *turn_end(words)})


def test_the_fingerprint_covers_what_determines_the_text() -> None:
    family = FAMILIES["qwen3"]
    words = family.tokenizer()
    prompts = [prompt_of(family, words)]
    prompts += [chat_prompt(words, [], {"enable_thinking": False}), chat_prompt(words, [], {}, system="Be brief.")]
    words.chat_template = family.template.replace("<think>\n\n", "<think>\n")
    prompts.append(chat_prompt(words, [], {}))
    words.bos_token = "<|im_start|>"
    prompts.append(chat_prompt(words, [], {}))
    assert len({prompt.sha256 for prompt in prompts}) == len(prompts)
    last = chat_prompt(words, [], {}, loss_on="last")
    assert last.sha256 == prompts[-1].sha256  # the targets change no rendering
    with pytest.raises(PromptError) as caught:
        prompts[0].require_same(prompts[1], "adapter")
    assert prompts[0].sha256 in str(caught.value) and prompts[1].sha256 in str(caught.value)
    assert "arguments, generation prompt" in str(caught.value)
    with pytest.raises(PromptError):
        prompts[0].require_same(Prompt("Q: {problem}\n"), "adapter")
    with pytest.raises(PromptError):
        Prompt("Q: {problem}\n").require_same(prompts[0], "adapter")


@pytest.mark.parametrize("prompt", [Prompt("Q: {problem}\n"), ChatPrompt(CHATML, {"eos_token": "x"}, {"a": 1}, "s")])
def test_a_prompt_is_stored_and_read_again(prompt: Prompt | ChatPrompt) -> None:
    tree = json.loads(json.dumps(prompt.to_json()))
    assert parse_stored_prompt(tree) == prompt
    assert tree["sha256"] == prompt.sha256 and tree["template"] == prompt.template


@pytest.mark.parametrize("template", [None, {"default": CHATML, "rag": CHATML}])
def test_a_tokenizer_without_one_chat_template_is_an_error(template: Any) -> None:
    words = FAMILIES["chatml"].tokenizer()
    words.chat_template = template
    with pytest.raises(ModelError, match="chat template"):
        chat_prompt(words, [], {})


def test_the_date_of_a_template_is_fixed() -> None:
    words = FAMILIES["chatml"].tokenizer()
    words.chat_template = "{{ strftime_now('%d %b %Y') }}" + CHATML
    assert chat_prompt(words, [], {}).render("Hi").startswith("26 Jul 2024<|im_start|>")


def test_a_worker_counts_and_checks_without_transformers() -> None:
    family = FAMILIES["chatml"]
    words = family.tokenizer()
    counter = TokenCounter.of(words, prompt_of(family, words))
    row = stored([USER, CALLING], TOOLS)
    [(prompt_tokens, answer_tokens)] = counter([("", "", row)])
    example = counter.prompt.encode_example(words, "", "", row)
    assert (prompt_tokens, prompt_tokens + answer_tokens) == (example.prompt_tokens, len(example.tokens))
    assert counter.chat is not None
    # The expected answer to a row that ends with a call is the template's text of the call, as answers are decoded.
    answer = counter.chat.expected_answer("", "", row)
    assert answer == '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'
    assert counter.chat.expected_answer("Hi", "Ho", None) == "Ho"
    assert TokenCounter.of(words, Prompt("{problem}")).chat is None


@pytest.mark.parametrize("name", ["one turn", "three turns", "system", "system and turns", "spaces"])
def test_the_embedded_tokenizer(name: str) -> None:
    words = load_tokenizer("smollm2-135m")
    turns, _ = CONVERSATIONS[name]
    prompt = chat_prompt(words, end_token_ids(words, None), {})
    example = prompt.encode_example(words, "", turns[-1]["content"], stored(turns))
    complete = words.apply_chat_template(turns, tokenize=True, return_dict=False)
    assert list(example.tokens) == complete[: len(example.tokens)]
    assert words.decode(complete[len(example.tokens) :]) == "\n"
    assert prompt.encode(words, "", stored(turns)) == words.apply_chat_template(
        turns[:-1], tokenize=True, return_dict=False, add_generation_prompt=True
    )
    assert targets(words, example.tokens, example.loss_mask) == [
        turn["content"] + "<|im_end|>" for turn in turns if turn["role"] == "assistant"
    ]
