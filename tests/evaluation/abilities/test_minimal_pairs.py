"""Minimal pairs: reproducible, extensible, without duplicates, and not solvable by word frequency or length."""

import math
import re
from collections import Counter
from collections.abc import Callable
from random import Random

import pytest

from keeptune.errors import DataError
from keeptune.evaluation.abilities.minimal_pairs import PHENOMENA, MinimalPair, Phenomenon, load_lexicon, minimal_pairs

COUNT = 60
SEED = 2026


@pytest.fixture(scope="module")
def pairs() -> list[MinimalPair]:
    return minimal_pairs(COUNT, SEED)


def tokens(pair: MinimalPair, sentence: str) -> list[str]:
    """Words in English, characters in Chinese; no punctuation."""
    return re.findall(r"[\w']+" if pair.language == "en" else r"\w", sentence.casefold())


def accuracy(pairs: list[MinimalPair], score: Callable[[MinimalPair, str], float]) -> float:
    """The share of pairs whose good sentence scores higher; a tie counts as half."""
    points = 0.0
    for pair in pairs:
        difference = score(pair, pair.good) - score(pair, pair.bad)
        points += 0.5 if abs(difference) < 1e-9 else float(difference > 0)
    return points / len(pairs)


def test_the_same_arguments_give_the_same_pairs(pairs: list[MinimalPair]) -> None:
    assert minimal_pairs(COUNT, SEED) == pairs
    assert minimal_pairs(COUNT, SEED + 1) != pairs


def test_a_larger_call_extends_each_phenomenon(pairs: list[MinimalPair]) -> None:
    kept = [pair for pair in pairs if int(pair.id.rsplit("-", 1)[1]) <= 7]
    assert minimal_pairs(7, SEED) == kept


def test_counts_and_ids(pairs: list[MinimalPair]) -> None:
    assert sum(phenomenon.language == "en" for phenomenon in PHENOMENA) >= 24
    assert sum(phenomenon.language == "zh" for phenomenon in PHENOMENA) >= 8
    expected = [
        f"grammar-{phenomenon.language}-{phenomenon.name}-{number:03d}"
        for phenomenon in PHENOMENA
        for number in range(1, COUNT + 1)
    ]
    assert [pair.id for pair in pairs] == expected
    assert len(set(expected)) == len(expected)
    assert minimal_pairs(0, SEED) == []


@pytest.mark.parametrize("seed", [0, 1, SEED])
def test_no_sentence_occurs_twice(seed: int) -> None:
    sentences = [sentence for pair in minimal_pairs(COUNT, seed) for sentence in (pair.good, pair.bad)]
    assert len(set(sentences)) == len(sentences)


def test_sentences_are_finished(pairs: list[MinimalPair]) -> None:
    for pair in pairs:
        for sentence in (pair.good, pair.bad):
            pattern = r"[A-Z][A-Za-z', ]+[.?]" if pair.language == "en" else r"[\u4e00-\u9fff，]+[。？]"
            assert re.fullmatch(pattern, sentence), sentence


def test_a_pair_differs_in_at_most_two_words(pairs: list[MinimalPair]) -> None:
    for pair in pairs:
        good, bad = Counter(tokens(pair, pair.good)), Counter(tokens(pair, pair.bad))
        assert pair.good != pair.bad
        assert (good - bad).total() <= 2 and (bad - good).total() <= 2, pair


def test_articles_agree_with_the_next_word(pairs: list[MinimalPair]) -> None:
    for pair in pairs:
        if pair.language == "en":
            assert not re.search(r"\b[Aa] [aeio]|\b[Aa]n [^aeiou]", pair.good), pair.good


def test_no_word_decides_a_phenomenon(pairs: list[MinimalPair]) -> None:
    """Always preferring the sentence with a certain word gains at most 15 points over chance."""
    for phenomenon in PHENOMENA:
        chosen = [pair for pair in pairs if (pair.language, pair.phenomenon) == (phenomenon.language, phenomenon.name)]
        gains: Counter[str] = Counter()
        for pair in chosen:
            good, bad = Counter(tokens(pair, pair.good)), Counter(tokens(pair, pair.bad))
            gains.update((good - bad).keys())
            gains.subtract((bad - good).keys())
        assert all(abs(gain) / (2 * len(chosen)) <= 0.15 for gain in gains.values()), (phenomenon.name, gains)


def test_word_frequency_is_near_chance(pairs: list[MinimalPair]) -> None:
    counts = {language: Counter[str]() for language in ("en", "zh")}
    for pair in pairs:
        counts[pair.language].update(tokens(pair, pair.good) + tokens(pair, pair.bad))

    def log_counts(pair: MinimalPair, sentence: str) -> float:
        return sum(math.log(counts[pair.language][token]) for token in tokens(pair, sentence))

    assert 0.4 <= accuracy(pairs, log_counts) <= 0.6
    for language in ("en", "zh"):
        assert 0.4 <= accuracy([pair for pair in pairs if pair.language == language], log_counts) <= 0.6


def test_length_is_near_chance(pairs: list[MinimalPair]) -> None:
    assert 0.45 <= accuracy(pairs, lambda pair, sentence: -len(tokens(pair, sentence))) <= 0.55
    assert 0.45 <= accuracy(pairs, lambda _, sentence: -len(sentence)) <= 0.55


GOLDEN = [
    ("en", "The {person.singular} {routine.third|base} early.", r"The [a-z]+ [a-z]+s early\."),
    ("en", "There is [a|an] {device}.", r"There is a [a-z]+\."),
    ("zh", "{name}比{name2}[更|一样]高。", r"小.比小.更高。"),
]


@pytest.mark.parametrize(("language", "template", "good"), GOLDEN)
def test_templates(language: str, template: str, good: str) -> None:
    phenomenon = Phenomenon("sample", "zh" if language == "zh" else "en", (template,))
    first, second = phenomenon.generate(Random(1), 0)
    assert re.fullmatch(good, first) and not re.fullmatch(good, second)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{name} has [not|] slept.", ("David has not slept.", "David has slept.")),
        ("a(n) [old|new] house", ("An old house", "A new house")),
        ("a(n) [useful|ugly] umbrella", ("A useful umbrella", "An ugly umbrella")),
        ("[the|no] boy met [no|the] girl", ("The boy met no girl", "No boy met the girl")),
    ],
)
def test_notation(template: str, expected: tuple[str, str]) -> None:
    assert Phenomenon("sample", "en", (template.replace("{name}", "David"),)).generate(Random(1), 0) == expected


def test_slots_of_one_list_hold_different_entries() -> None:
    phenomenon = Phenomenon("sample", "en", ("{name} [met|meet] {name2}, and {name} smiled.",))
    for seed in range(50):
        first, _, second, _, again, _ = re.findall(r"\w+", phenomenon.generate(Random(seed), 0)[0])
        assert first == again != second


def test_variants_take_turns() -> None:
    phenomenon = Phenomenon("sample", "en", ("One [a|b].", "Two [a|b]."))
    assert [phenomenon.generate(Random(1), index)[0] for index in range(4)] == ["One a.", "Two a.", "One a.", "Two a."]


WOMEN = "girl|woman|mother|saleswoman|queen|princess|actress|waitress|grandmother"
WOMEN_NAMES = "Maria|Anna|Elena|Julia|Sofia|Laura|Nina|Clara|Emma|Alice|Helen|Lucy|Sarah|Rosa"


@pytest.mark.parametrize(
    ("name", "first", "second", "needs_first"),
    [
        ("anaphor-gender", "herself", "himself", rf"^(The ({WOMEN})|{WOMEN_NAMES}) "),
        ("anaphor-locality", "herself", "himself", rf"that ({WOMEN_NAMES}) "),
        ("article-a-an", "an", "a", r"\ban? ([aeio]|um|ug)"),
        ("since-for", "for", "since", r"(years|months|weeks)\.$"),
        ("correlative-conjunction", "and", "or", r"^Both"),
        ("polarity-so-neither", "neither", "so", r"not "),
        ("number-two", "二", "两", r"第"),
        ("question-particle", "呢", "吗", r"为什么"),
        ("negation-choice", "没", "不", r"过"),
        ("locative-aspect", "着", "在", r"^[^这那]"),
        ("degree-adverb", "有点", "一点", r"觉得"),
    ],
)
def test_golden_rules(pairs: list[MinimalPair], name: str, first: str, second: str, needs_first: str) -> None:
    """Each pair swaps the two forms, and the good sentence has the form that its context needs."""
    chosen = [pair for pair in pairs if pair.phenomenon == name]
    form = re.compile(rf"\b({first}|{second})\b" if first.isascii() else f"{first}|{second}")
    assert len(chosen) == COUNT
    for pair in chosen:
        assert form.sub(lambda match: second if match[0] == first else first, pair.good) == pair.bad
        assert (form.findall(pair.good) == [first]) == bool(re.search(needs_first, pair.good)), pair.good
    assert sum(first in form.findall(pair.good) for pair in chosen) == COUNT / 2


def test_the_lexicon_has_no_unused_entry() -> None:
    for language, lists in load_lexicon().items():
        text = "".join(variant for item in PHENOMENA if item.language == language for variant in item.variants)
        used = [entry for name in set(re.findall(r"\{([a-z_]+)", text)) for entry in lists[name]]
        assert all(entry in used for entries in lists.values() for entry in entries)


def test_too_few_words_are_reported() -> None:
    with pytest.raises(DataError, match=r"grammar-lexicon\.json"):
        minimal_pairs(5000, SEED)
