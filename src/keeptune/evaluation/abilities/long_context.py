"""Ability `long-context`: retrieve a planted fact from a text of 512 to 4,096 tokens.

Each text contains six facts about different people and gives one question per fact. The filler is the general text of
the suite. Lengths are estimated from the number of words, so that the items do not depend on a tokenizer.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from keeptune.evaluation.abilities.base import Ability, Progress, Subject, paired_measurement
from keeptune.evaluation.abilities.conversation import written_answers
from keeptune.evaluation.gate import Measurement
from keeptune.evaluation.suite.loader import Prose, Size, Split, load
from keeptune.files import Record
from keeptune.prompts.chat import Message
from keeptune.prompts.reading import is_answer_complete

TOKENS_PER_WORD = 1.35
"""Estimated tokens per English word."""

CHANCE = 0.1
"""Accuracy of a model that picks one of the ten words of the right kind."""

BUDGET_TOKENS = 16

TEXTS: dict[Size, dict[int, int]] = {
    "quick": {512: 10},
    "standard": {512: 18, 1024: 2, 2048: 1, 4096: 1},
    "full": {512: 20, 1024: 16, 2048: 12, 4096: 8},
}
"""Number of texts by length in tokens. Most are short, because questions on one text share its difficulty."""

DEV_TEXTS = {512: 4}

NAMES = tuple(
    "Amara Bastian Dalia Emeric Farida Goran Halima Ingrid Jovan Keziah Leocadia Mirko Nadira Odalys Pavel Quilla "
    "Rasmus Saoirse Tomasz Ulrika Valentin Wanjiru Xiomara Yusuf".split()
)


@dataclass(frozen=True, slots=True)
class Fact:
    """A template of facts: the sentence, the question, and the words that can complete it."""

    sentence: str
    question: str
    words: tuple[str, ...]


FACTS = (
    Fact(
        "The object that {name} keeps in the blue box is the {word}.",
        "Which object does {name} keep in the blue box?",
        ("lantern", "compass", "teapot", "umbrella", "ladder", "telescope", "anchor", "candle", "hammer", "basket"),
    ),
    Fact(
        "The animal that {name} feeds every morning is the {word}.",
        "Which animal does {name} feed every morning?",
        ("donkey", "parrot", "rabbit", "goose", "turtle", "pony", "goat", "hedgehog", "squirrel", "swan"),
    ),
    Fact(
        "The colour that {name} chose for the front door is {word}.",
        "Which colour did {name} choose for the front door?",
        ("yellow", "purple", "orange", "turquoise", "white", "green", "brown", "pink", "silver", "black"),
    ),
    Fact(
        "The instrument that {name} plays on Sundays is the {word}.",
        "Which instrument does {name} play on Sundays?",
        ("violin", "trumpet", "harp", "flute", "cello", "accordion", "clarinet", "banjo", "oboe", "piano"),
    ),
    Fact(
        "The fruit that {name} sells at the market is the {word}.",
        "Which fruit does {name} sell at the market?",
        ("apricot", "mango", "cherry", "lemon", "papaya", "plum", "banana", "melon", "quince", "peach"),
    ),
    Fact(
        "The tree that {name} planted behind the house is the {word}.",
        "Which tree did {name} plant behind the house?",
        ("willow", "maple", "birch", "cedar", "poplar", "beech", "cypress", "larch", "acacia", "chestnut"),
    ),
)
_INSTRUCTION = "Read the text and answer the question with one word."


@dataclass(frozen=True, slots=True)
class PlantedFact:
    """A text with a question about one of its facts. `tokens` is the estimated length of the text."""

    id: str
    cluster: str
    tokens: int
    text: str
    question: str
    answer: str


class LongContext(Ability):
    """Questions about planted facts in generated texts."""

    name = "long-context"
    is_in_quick_suite = False

    def items(self, split: Split, size: Size) -> list[PlantedFact]:
        texts = DEV_TEXTS if split == "dev" else TEXTS[size]
        return [
            fact
            for tokens, count in texts.items()
            for number in range(count)
            for fact in plant_facts(tokens, f"long-context-{split}-{tokens}-{number + 1:02}")
        ]

    def item_fields(self, item: PlantedFact) -> Record:
        return {
            "id": item.id,
            "language": "en",
            "cluster": item.cluster,
            "tokens": item.tokens,
            "question": item.question,
            "answer": item.answer,
        }

    def evaluate(
        self, subject: Subject, items: Sequence[PlantedFact], base: Sequence[Record] | None, progress: Progress
    ) -> list[Record]:
        conversations = [[Message(role="user", content=f"{item.text}\n\n{item.question}")] for item in items]
        answers = written_answers(subject, conversations, BUDGET_TOKENS, progress, is_answer_complete)
        for answer in answers:
            del answer["prompt"]  # thousands of words, which can be generated from the id
        return answers

    def grade_record(self, record: Record) -> Record:
        written = set(re.findall(r"[a-z]+", record["output"].lower()))
        candidates = next(fact.words for fact in FACTS if record["answer"] in fact.words)
        return {"correct": written.intersection(candidates) == {record["answer"]}}

    def measurements(self, base: Sequence[Record], tuned: Sequence[Record]) -> list[Measurement]:
        return [paired_measurement("accuracy", base, tuned, lambda record: record["correct"], chance=CHANCE)]


def plant_facts(tokens: int, name: str) -> list[PlantedFact]:
    """Generates a text of about `tokens` tokens with a question on each of its facts.

    `name` is the id of the text and the seed of the generator.
    """
    draw = random.Random(name)
    people, words = draw.sample(NAMES, len(FACTS)), [draw.choice(fact.words) for fact in FACTS]
    facts = list(zip(FACTS, people, words, strict=True))
    fact_sentences = [fact.sentence.format(name=person, word=word) for fact, person, word in facts]
    filler_words = round(tokens / TOKENS_PER_WORD) - sum(len(sentence.split()) for sentence in fact_sentences)
    sentences = _filler_sentences(filler_words, draw)
    places = sorted(draw.sample(range(len(sentences)), len(facts)), reverse=True)
    for sentence, place in zip(fact_sentences, places, strict=True):
        sentences.insert(place, sentence)
    text = f"{_INSTRUCTION}\n\n{' '.join(sentences)}"
    return [
        PlantedFact(f"{name}-{number}", name, tokens, text, fact.question.format(name=person), word)
        for number, (fact, person, word) in enumerate(facts, start=1)
    ]


def _filler_sentences(words: int, draw: random.Random) -> list[str]:
    """Sentences of the suite's English general text, about `words` words in total."""
    texts = [prose.text for prose in load("general-text.jsonl", Prose) if prose.language == "en"]
    sentences: list[str] = []
    total_words = 0
    while total_words < words:
        draw.shuffle(texts)
        for text in texts:
            for sentence in text.replace("\n", " ").split(". "):
                if total_words < words:
                    sentences.append(sentence.rstrip(".") + ".")
                    total_words += len(sentence.split())
    return sentences
