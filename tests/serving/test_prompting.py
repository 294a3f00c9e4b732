"""Only what the stored prompt renders reaches the tuned model."""

import pytest
import tiny
from prompts.chat_templates import FAMILIES

from keeptune.models.invocation import Invocation
from keeptune.prompts.chat_prompt import chat_prompt, end_token_ids
from keeptune.prompts.template import Prompt
from keeptune.serving.api_error import ApiError
from keeptune.serving.prompting import StoredPrompt
from keeptune.serving.requests import Message

WORDS = tiny.tokenizer()
TEMPLATE = StoredPrompt(tiny.PROMPT, WORDS, None)
TURNS = [
    Message(role="system", content="Be brief."),
    Message(role="user", content="What is 1 + 1?"),
    Message(role="assistant", content="2"),
    Message(role="user", content="再加一？"),
]


def chat(family: str = "chatml", system: str | None = None) -> StoredPrompt:
    words = FAMILIES[family].tokenizer()
    return StoredPrompt(chat_prompt(words, end_token_ids(words, None), {}, system), words, None)


def user(text: str) -> list[Message]:
    return [Message(role="user", content=text)]


@pytest.mark.parametrize("is_tuned", [True, False])
def test_a_question_is_encoded_as_in_training(is_tuned: bool) -> None:
    assert TEMPLATE.encode_chat(user(" 1 + 1\n"), is_tuned) == tiny.PROMPT.encode(WORDS, "1 + 1")
    stored = chat(system="Answer.")
    assert stored.encode_chat(user("1 + 1"), is_tuned) == stored.prompt.encode(stored.tokenizer, "1 + 1")


@pytest.mark.parametrize("family", ["chatml", "llama3", "bos-twice"])
def test_a_conversation_is_encoded_as_transformers_does(family: str) -> None:
    stored = chat(family)
    turns = [turn.model_dump(include={"role", "content"}) for turn in TURNS]
    expected = stored.tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False, add_generation_prompt=True)
    assert stored.encode_chat(TURNS, True) == expected


def test_a_template_takes_one_question() -> None:
    for turns in (TURNS, TURNS[:2], TURNS[1:]):
        with pytest.raises(ApiError) as caught:
            TEMPLATE.encode_chat(turns, False)
        assert (caught.value.code, caught.value.param) == ("prompt_mismatch", "messages")


def test_the_answer_follows_a_user() -> None:
    with pytest.raises(ApiError, match="role user"):
        chat().encode_chat(TURNS[:3], True)


def test_a_conversation_that_the_template_rejects_is_an_error() -> None:
    with pytest.raises(ApiError, match="system role"):
        chat("gemma").encode_chat(TURNS[:2], True)


def test_a_rendered_text_is_encoded_as_the_question() -> None:
    text = tiny.PROMPT.render("1 + 1")
    assert TEMPLATE.encode_text(text, True) == tiny.PROMPT.encode(WORDS, "1 + 1")
    stored = chat()
    question = stored.prompt.render("1 + 1")
    assert stored.encode_text(question, True) == stored.prompt.encode(stored.tokenizer, "1 + 1")


@pytest.mark.parametrize("text", ["1 + 1", "Question: 1 + 1", "1 + 1\nAnswer:\n", "Question: \nAnswer:", ""])
def test_any_other_text_is_for_the_base_alone(text: str) -> None:
    with pytest.raises(ApiError) as caught:
        TEMPLATE.encode_text(text, True)
    assert (caught.value.code, caught.value.param) == ("prompt_mismatch", "prompt")
    if text:
        assert TEMPLATE.encode_text(text, False) == WORDS.encode(text)
    else:
        with pytest.raises(ApiError, match="empty"):
            TEMPLATE.encode_text(text, False)


def test_parts_of_the_template_must_not_overlap() -> None:
    stored = StoredPrompt(Prompt("a{problem}a"), WORDS, None)
    with pytest.raises(ApiError):
        stored.encode_text("a", True)
    assert stored.encode_text("aa", True) == WORDS.encode("aa")


def test_the_adapter_must_be_invoked() -> None:
    tokens = WORDS.encode("Answer:")
    stored = StoredPrompt(tiny.PROMPT, WORDS, Invocation(tokens))
    assert stored.encode_chat(user("1 + 1"), True)
    absent = StoredPrompt(tiny.PROMPT, WORDS, Invocation([5, 5, 5]))
    with pytest.raises(ApiError, match="invoke"):
        absent.encode_chat(user("1 + 1"), True)
    assert absent.encode_chat(user("1 + 1"), False)


def test_a_lone_surrogate_is_an_error() -> None:
    for encode in (lambda: TEMPLATE.encode_chat(user("\ud800"), True), lambda: TEMPLATE.encode_text("\ud800", False)):
        with pytest.raises(ApiError, match="surrogate"):
            encode()
