"""Questions reach a model through its own chat template, or through the recipe's prompt where it has none."""

from typing import Any

import pytest
import tiny
from evaluation.pairs import CHAT_TEMPLATE

from keeptune.errors import ModelError
from keeptune.prompts.chat import FALLBACK, ChatLayout, Message
from keeptune.prompts.template import Prompt, encode_prompt

SYSTEM, FIRST, ANSWER, LAST = (
    Message(role="system", content="Be brief."),
    Message(role="user", content="Hello"),
    Message(role="assistant", content="Good day."),
    Message(role="user", content="Why?"),
)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system message') }}{% endif %}"
ALTERNATING = (
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}"
)
BROKEN = "{{ raise_exception('never') }}"


def layout(template: str | None, before: tuple[str, ...] = (), **options: Any) -> ChatLayout:
    words = tiny.tokenizer(before=before)
    words.chat_template = template
    return ChatLayout(words, **options)


def test_a_chat_template_is_used() -> None:
    own = layout(CHAT_TEMPLATE)
    assert (own.is_chat, own.name) == (True, "chat")
    assert own.conversation([SYSTEM, FIRST, ANSWER, LAST]) == (
        "<|begin|>system: Be brief.<|end|>\n<|begin|>user: Hello<|end|>\n"
        "<|begin|>assistant: Good day.<|end|>\n<|begin|>user: Why?<|end|>\n<|begin|>assistant: "
    )


def test_a_question_is_a_conversation_of_one_turn() -> None:
    for template in (CHAT_TEMPLATE, None):
        own = layout(template)
        assert own.question("Why?") == own.conversation([LAST])


def test_a_system_message_is_put_into_the_first_turn_where_it_is_refused() -> None:
    refusing, plain = layout(NO_SYSTEM + CHAT_TEMPLATE), layout(CHAT_TEMPLATE)
    folded = Message(role="user", content="Be brief.\n\nHello")
    assert refusing.conversation([SYSTEM, FIRST, ANSWER, LAST]) == plain.conversation([folded, ANSWER, LAST])
    assert refusing.conversation([FIRST, ANSWER, LAST]) == plain.conversation([FIRST, ANSWER, LAST])


def test_a_system_message_is_put_into_the_first_turn_where_roles_must_alternate() -> None:
    made = layout(ALTERNATING + CHAT_TEMPLATE).conversation([SYSTEM, FIRST])
    assert made == "<|begin|>user: Be brief.\n\nHello<|end|>\n<|begin|>assistant: "


@pytest.mark.parametrize(
    ("template", "messages"),
    [
        (BROKEN, [FIRST]),
        (BROKEN, [SYSTEM, FIRST]),
        (BROKEN, [SYSTEM]),
        ("{{ messages[9]['content'] }}", [FIRST]),
        ("{% if %}", [FIRST]),
        (ALTERNATING, [FIRST, LAST]),
    ],
)
def test_a_template_that_cannot_render_is_named(template: str, messages: list[Message]) -> None:
    with pytest.raises(ModelError, match="chat template"):
        layout(template).conversation(messages)


def test_without_a_template_the_fallback_is_used() -> None:
    own = layout(None)
    assert (own.is_chat, own.name) == (False, "template")
    assert own.question("Why?") == FALLBACK.render("Why?")
    assert own.conversation([SYSTEM, FIRST, ANSWER, LAST]) == FALLBACK.render("Be brief.\nHello\nGood day.\nWhy?")
    other = layout(None, fallback=Prompt("### {problem}\n### "))
    assert other.question("Why?") == "### Why?\n### "


def test_a_chat_template_writes_its_own_begin_token() -> None:
    own = layout(CHAT_TEMPLATE, before=(tiny.BEGIN,))
    begin = own.tokenizer.bos_token_id
    assert own.tokens(own.question("Why?")).count(begin) == 2  # of the user's turn and of the assistant's
    plain = layout(None, before=(tiny.BEGIN,))
    tokens = plain.tokens(plain.question("Why?"))
    assert tokens == encode_prompt(plain.tokenizer, FALLBACK.render("Why?"))
    assert tokens.count(begin) == 1
