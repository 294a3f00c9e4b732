"""Corpus `order-texts`: orders in free text, English and Chinese, and their facts as JSON.

The texts contain other numbers, names and places that are no part of the order. Quantities are digits or words, and
products stand in the singular in the JSON.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import cache
from typing import Any

from keeptune.skills.corpora.corpus import Corpus, Row
from keeptune.skills.corpora.phrases import SplitName, fill, in_split, load_patterns

LANGUAGES = ("en", "zh")

_CHINESE_SHARE = 0.35
_TWO_ITEMS_SHARE = 0.35
_WORDS = {
    "en": "one two three four five six seven eight nine ten eleven twelve".split(),
    "zh": "一 两 三 四 五 六 七 八 九 十 十一 十二".split(),
}
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")


@cache
def _patterns() -> Any:
    return load_patterns("order_texts.json")


def sample(generator: random.Random, split: SplitName) -> Row:
    """Return a random order text with its facts. The kind is the language."""
    language = "zh" if generator.random() < _CHINESE_SHARE else "en"
    patterns = _patterns()[language]

    def pick(name: str) -> str:
        return str(generator.choice(in_split(patterns[name], split)))

    given, family = pick("given"), pick("family")
    customer = f"{given} {family}" if language == "en" else f"{family}{given}"
    city, is_express = pick("cities"), generator.random() < 0.4
    items: list[dict[str, Any]] = []
    phrases: list[str] = []
    for _ in range(2 if generator.random() < _TWO_ITEMS_SHARE else 1):
        item, phrase = _item(generator, language, pick)
        if all(item["product"] != other["product"] for other in items):
            items.append(item)
            phrases.append(phrase)
    # Whoever does not mention the shipping gets the standard one.
    shipping = pick("express") if is_express else pick("standard") if generator.random() < 0.5 else ""
    separator, line_break = (" ", "\n") if language == "en" else ("", "")
    parts = [
        pick("greetings") + separator if generator.random() < 0.4 else "",
        pick("remarks") + separator if generator.random() < 0.25 else "",
        pick("orders"),
        line_break + pick("remarks") if generator.random() < 0.2 else "",
    ]
    slots = {
        "customer": customer,
        "city": city,
        "items": pick("joints").join(phrases),
        "shipping": fill(shipping, generator),
        "number": str(generator.randint(2, 19)),
        "weekday": generator.choice(_WEEKDAYS),
    }
    text = fill("".join(parts), generator, slots, error_share=0.25)
    facts = {"customer": customer, "city": city, "items": items, "express": is_express}
    return {
        "problem": _clean(text, language, generator),
        "solution": json.dumps(facts, ensure_ascii=False),
        "kind": language,
    }


def _item(generator: random.Random, language: str, pick: Callable[[str], str]) -> tuple[dict[str, Any], str]:
    """Return a product with its quantity, and the words for both."""
    count = generator.choice((1, 2, 2, 3, 3, 4, 5, 6, 8, 10, 12, generator.randint(13, 60)))
    adjective = pick("adjectives") if generator.random() < 0.6 else ""
    noun, measure = pick("products"), ""
    if language == "en":
        noun, _, irregular = noun.partition("|")
        plural = noun if count == 1 else irregular or f"{noun}s"
        adjective += " " if adjective else ""
    else:
        noun, _, measure = noun.partition("/")
        plural = noun
    product, plural = adjective + noun, adjective + plural
    word = _WORDS[language][count - 1] if count <= len(_WORDS[language]) else str(count)
    slots = {"count": str(count), "word": word, "plural": plural, "product": product, "measure": measure}
    return {"product": product, "quantity": count}, fill(pick("amounts"), generator, slots)


def _clean(text: str, language: str, generator: random.Random) -> str:
    """Return the text without the gaps of empty slots, and a few English texts with careless punctuation."""
    lines = (" ".join(line.split()) if language == "en" else line.strip() for line in text.split("\n"))
    text = "\n".join(line for line in lines if line).strip(" /")
    return text.replace(".", "") if language == "en" and generator.random() < 0.1 else text


ORDER_TEXTS = Corpus(
    "order-texts",
    {"skill": "extraction", "columns": {"kind": "kind"}, "kinds": list(LANGUAGES)},
    sample,
)
