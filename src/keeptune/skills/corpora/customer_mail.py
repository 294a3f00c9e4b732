"""Corpus `customer-mail`: mails to a shop in English and Chinese, and the label of what the sender wants.

Mails have greetings, signatures, typing errors, and remarks that mention other topics ("the invoice of last month was
correct"). The label depends on the request only.
"""

from __future__ import annotations

import random
from functools import cache
from typing import Any

from keeptune.skills.corpora.corpus import Corpus, Row
from keeptune.skills.corpora.phrases import SplitName, fill, in_split, load_patterns

LABELS = ("delivery", "return", "defect", "invoice", "account", "cancel", "question")

_CHINESE_SHARE = 0.35
_WEEKDAYS = {
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday"),
    "zh": ("周一", "周二", "周三", "周四", "周五"),
}


@cache
def _patterns() -> Any:
    return load_patterns("customer_mail.json")


def sample(generator: random.Random, split: SplitName) -> Row:
    """Return a random mail with its label."""
    language = "zh" if generator.random() < _CHINESE_SHARE else "en"
    label = generator.choice(LABELS)
    patterns = _patterns()[language]

    def pick(name: str) -> str:
        return str(generator.choice(in_split(patterns[name], split)))

    def maybe(name: str, share: float) -> str:
        return pick(name) if generator.random() < share else ""

    request = generator.choice(in_split(patterns["topics"][label], split))
    parts = [maybe("greetings", 0.6), maybe("remarks", 0.3), request, maybe("remarks", 0.25), maybe("closings", 0.6)]
    slots = {
        "item": pick("items"),
        "name": pick("names"),
        "order": _order_number(generator),
        "days": str(generator.randint(2, 14)),
        "amount": _amount(generator, language),
        "weekday": generator.choice(_WEEKDAYS[language]),
    }
    separator = " " if language == "en" else ""
    mail = fill(separator.join(part for part in parts if part), generator, slots, error_share=0.35)
    return {"problem": _roughen(mail, language, generator), "solution": label}


def _order_number(generator: random.Random) -> str:
    number = generator.randint(10_000, 99_999)
    return generator.choice((f"#{number}", str(number), f"{generator.choice('ABKR')}-{number}"))


def _amount(generator: random.Random, language: str) -> str:
    amount = generator.randint(5, 180)
    if language == "zh":
        return f"{amount}元"
    return generator.choice((f"{amount}.{generator.choice(('50', '90', '99'))} euros", f"${amount}", f"{amount} EUR"))


def _roughen(mail: str, language: str, generator: random.Random) -> str:
    """Return some mails without capitals or without punctuation, as people type them."""
    style = generator.random()
    if language == "zh":
        return mail.replace("，", " ").rstrip("。") if style < 0.15 else mail
    if style < 0.12:
        return mail.lower()
    return mail.replace(",", "").rstrip(".") if style < 0.2 else mail


CUSTOMER_MAIL = Corpus(
    "customer-mail", {"skill": "labels", "grader": {"name": "label", "labels": list(LABELS)}}, sample
)
