"""Generator of minimal pairs: a grammatical sentence and an ungrammatical one that differs in one place.

The method is that of BLiMP (Warstadt et al. 2020), and of CLiMP (Xiang et al. 2021) for Chinese. Lexicon and templates
are original. A phenomenon has one or more variants, which are used in turn. A variant is a template in this notation:

    {person.plural}      a field of a lexicon entry; equal slot names stand for the same entry
    {person2.plural}     another entry of the same list
    {person}             the first field of the entry
    {verb.third|base}    the first field in the good sentence, the second in the bad one
    [has not|not has]    the first text in the good sentence, the second in the bad one; either may be empty
    a(n)                 "a" or "an", as the next word requires
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from random import Random
from typing import Any

from keeptune.errors import DataError
from keeptune.evaluation.abilities import minimal_pairs_en, minimal_pairs_zh
from keeptune.evaluation.suite.loader import Language

LEXICON_FILE = "grammar-lexicon.json"
MAX_DRAWS = 1000
"""Maximum number of draws for one new pair. After that, the phenomenon is exhausted."""

_SLOT = re.compile(r"\{(?P<list>[a-z_]+)(?P<number>\d?)(?:\.(?P<good>[a-z_]+)(?:\|(?P<bad>[a-z_]+))?)?\}")
_CONTRAST = re.compile(r"\[([^|\]]*)\|([^|\]]*)\]")
_ARTICLE = re.compile(r"\b([Aa])\(n\) (?=(\w+))")
_VOWEL_SOUND = re.compile(r"[aeio]|u(?!s|ni)")

Entry = Mapping[str, str | Sequence[str]]
Lexicon = Mapping[str, Sequence[Entry]]


@dataclass(frozen=True, slots=True)
class MinimalPair:
    """Two sentences that differ in one place; only `good` is grammatical."""

    id: str
    phenomenon: str
    language: Language
    good: str
    bad: str


@dataclass(frozen=True, slots=True)
class Phenomenon:
    """A grammatical rule, and templates whose bad sentences violate it."""

    name: str
    language: Language
    variants: tuple[str, ...]

    def generate(self, random: Random, index: int) -> tuple[str, str]:
        """Draws the good and the bad sentence of pair number `index`, which selects the variant."""
        template = _Slots(load_lexicon()[self.language], random).fill(self.variants[index % len(self.variants)])
        good, bad = (_CONTRAST.sub(rf"\{side}", template) for side in (1, 2))
        return _finish(good), _finish(bad)


class _Slots:
    """The entries drawn for the slots of one template."""

    def __init__(self, lexicon: Lexicon, random: Random) -> None:
        self._lexicon = lexicon
        self._random = random
        self._entries: dict[str, Entry] = {}
        self._words: dict[tuple[str, str], str] = {}

    def fill(self, template: str) -> str:
        return _SLOT.sub(self._text, template)

    def _text(self, slot: re.Match[str]) -> str:
        name = slot["list"] + slot["number"]
        if name not in self._entries:
            unused = [entry for entry in self._lexicon[slot["list"]] if entry not in self._entries.values()]
            self._entries[name] = self._random.choice(unused)
        good = self._word(name, slot["good"] or next(iter(self._entries[name])))
        return f"[{good}|{self._word(name, slot['bad'])}]" if slot["bad"] else good

    def _word(self, name: str, field: str) -> str:
        if (name, field) not in self._words:
            value = self._entries[name][field]
            self._words[name, field] = value if isinstance(value, str) else self._random.choice(value)
        return self._words[name, field]


def _finish(sentence: str) -> str:
    """The sentence with its articles resolved, single spaces and a capital letter."""
    sentence = _ARTICLE.sub(lambda match: match[1] + ("n " if _VOWEL_SOUND.match(match[2]) else " "), sentence)
    sentence = " ".join(sentence.split())
    return sentence[0].upper() + sentence[1:]


@cache
def load_lexicon() -> Mapping[Language, Lexicon]:
    """Reads the lexicon. Every entry becomes a mapping from a field to a word or to several words.

    In the file, a list consists of words, of {"fields", "rows"}, or of "@name" for the entries of an earlier list.
    """
    data = json.loads((resources.files("keeptune.evaluation.suite") / LEXICON_FILE).read_text(encoding="utf-8"))
    lexicon: dict[Language, Lexicon] = {}
    for language, lists in data.items():
        entries: dict[str, list[Entry]] = {}
        for name, content in lists.items():
            entries[name] = _read_entries(content, entries)
        lexicon[language] = entries
    return lexicon


def _read_entries(content: Any, earlier: Mapping[str, Sequence[Entry]]) -> list[Entry]:
    if isinstance(content, dict):
        return [dict(zip(content["fields"], row, strict=True)) for row in content["rows"]]
    entries: list[Entry] = []
    for word in content:
        entries.extend(earlier[word[1:]] if word.startswith("@") else [{"word": word}])
    return entries


PHENOMENA: tuple[Phenomenon, ...] = (
    *(Phenomenon(name, "en", variants) for name, variants in minimal_pairs_en.TEMPLATES.items()),
    *(Phenomenon(name, "zh", variants) for name, variants in minimal_pairs_zh.TEMPLATES.items()),
)


def minimal_pairs(per_phenomenon: int, seed: int) -> list[MinimalPair]:
    """Generates `per_phenomenon` pairs for each of PHENOMENA, in their order.

    The result depends only on the arguments. No sentence occurs twice. A larger `per_phenomenon` only adds pairs at the
    end of each phenomenon.

    Raises:
        DataError: if a phenomenon has too few different pairs.
    """
    randoms = [Random(f"{seed} {phenomenon.language} {phenomenon.name}") for phenomenon in PHENOMENA]
    pairs: list[list[MinimalPair]] = [[] for _ in PHENOMENA]
    used: set[str] = set()
    # One pair per phenomenon and round, so that the set of used sentences does not depend on per_phenomenon.
    for index in range(per_phenomenon):
        for phenomenon, random, generated in zip(PHENOMENA, randoms, pairs, strict=True):
            generated.append(_new_pair(phenomenon, random, index, used))
    return [pair for generated in pairs for pair in generated]


def _new_pair(phenomenon: Phenomenon, random: Random, index: int, used: set[str]) -> MinimalPair:
    for _ in range(MAX_DRAWS):
        good, bad = phenomenon.generate(random, index)
        if good != bad and used.isdisjoint((good, bad)):
            used.update((good, bad))
            name = f"grammar-{phenomenon.language}-{phenomenon.name}-{index + 1:03d}"
            return MinimalPair(name, phenomenon.name, phenomenon.language, good, bad)
    raise DataError(
        f"{LEXICON_FILE}: {phenomenon.name} ({phenomenon.language}): no new pair number {index + 1} "
        f"after {MAX_DRAWS} draws; add words or request fewer pairs per phenomenon"
    )
