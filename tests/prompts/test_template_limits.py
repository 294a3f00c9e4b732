"""Chat templates that would loop or grow without end are errors, and ordinary ones are as before."""

import time

import pytest

from keeptune.errors import PromptError
from keeptune.prompts import template_limits
from keeptune.prompts.chat_template import render_chat

TALK = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]


def rendered(template: str) -> str:
    return render_chat(template, TALK, None, True, {}).text


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(999) %}{% if 1 %}{% for b in range(999) %}-{% endfor %}{% endif %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(90) }}",
        "{{ 'x' * 10000000000 }}",
        "{{ 10000000000 * [1] }}",
        "{{ 9 ** 9 ** 9 ** 9 }}",
        "{{ '%10000000000d' % 1 }}",
        "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
        "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
    ],
)
def test_unbounded_work_is_refused(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_limits, "MAX_STEPS", 10_000)
    started = time.process_time()
    with pytest.raises(PromptError, match="rejects the conversation"):
        rendered(template)
    assert time.process_time() - started < 5


def test_ordinary_templates_are_as_before() -> None:
    template = (
        "{% macro turn(m, i) %}{{ i + 1 }}. {{ m['role'] ~ ': ' ~ m.content * 2 }}!{% endmacro %}"
        "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ turn(m, loop.index0) }}{% endfor %}"
        "{% for i in [] %}{% else %}none{% endfor %}"
        "{% for i in range(3) %}{{ i ** 2 }}{% if i == 1 %}{% break %}{% endif %}{% endfor %}{{ 7 % 4 }}"
    )
    assert rendered(template) == "2. assistant: twotwo!none013"
