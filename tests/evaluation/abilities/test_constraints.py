"""Constraint checks of the ability `instructions`, and the items of instructions.jsonl."""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any

import pytest

from keeptune.errors import DataError
from keeptune.evaluation.abilities import constraints
from keeptune.evaluation.abilities.constraints import check, satisfied, validate

FILE = resources.files("keeptune.evaluation.suite") / "instructions.jsonl"
ITEMS: list[dict[str, Any]] = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
TYPES = constraints._TYPES

# Per group: the constraint, responses that meet it, responses that do not.
CASES: list[tuple[dict[str, Any], list[str], list[str]]] = [
    (
        {"type": "word_count", "min": 2, "max": 4},
        ["Snow is white.", "two words", "It's a well-known fact", "雪是白", "3.5 metres"],
        ["Snow", "one two three four five", "well-known", "雪是白色的", "... !"],
    ),
    ({"type": "word_count", "min": 3}, ["a b c", "a b c d"], ["a b", "a-b c"]),
    ({"type": "word_count", "max": 2}, ["Yes.", "Yes, sir!"], ["Yes, sir, sure.", "好的呀"]),
    (
        {"type": "sentence_count", "min": 2, "max": 2},
        [
            "Snow is white. Grass is green.",
            "Mr. Smith is here! He paid 3.5 coins.",
            "雪是白的。草是绿的！",
            '"Stop!" They all stopped.',
            "1. Wash it.\n2. Dry it.",
            "A heading\n\nOne sentence.",
        ],
        ["Snow is white.", "One. Two. Three.", "雪是白的", "One sentence\nover two lines.", "He has 3.5 coins."],
    ),
    ({"type": "sentence_count", "max": 1}, ["Yes", "It is so..."], ["Yes. No.", "是。不是。"]),
    (
        {"type": "character_count_zh", "min": 2, "max": 4},
        ["雪是白", "雪是白的。", "雪 is 白", "雪，白！"],
        ["雪", "雪是白色的", "snow is white", "12，34"],
    ),
    (
        {"type": "paragraph_count", "count": 2},
        ["One.\n\nTwo.", "One.\nStill one.\n\nTwo.", "一。\n \n二。", "One.\n\n\n\nTwo.\n\n"],
        ["One.", "One.\nTwo.", "One.\n\nTwo.\n\nThree.", "One.\n\n***", "One.\n\none."],
    ),
    (
        {"type": "line_count", "min": 2, "max": 3},
        ["a\nb", "a\nb\nc", "a\n\nb", "一\n二\n三\n"],
        ["a", "a\nb\nc\nd", "a\n\n", "一 二"],
    ),
    (
        {"type": "bullet_count", "count": 2},
        ["- a\n- b", "* a\n* b", "List:\n- a\n- b\n", "  - a\n  * b"],
        ["- a", "- a\n- b\n- c", "-a\n-b", "1. a\n2. b", "- \n- b", "**a**\n**b**", "- a\n- A"],
    ),
    (
        {"type": "numbered_list", "count": 2},
        ["1. a\n2. b", "1) a\n2) b", "1、一\n2、二", "Steps:\n1.一\n\n2.二"],
        ["1. a", "1. a\n2. b\n3. c", "1. a\n1. b", "2. a\n1. b", "1.5 m\n2.5 m", "1.\n2.", "1. 2.", "1. a\n2. a"],
    ),
    (
        {"type": "keywords", "words": ["sea", "old man"]},
        ["The old man and the sea", "SEA and OLD MAN", "sea: old\nman", "An old man's sea.", "海sea海old man"],
        ["The sea", "The old man", "seas and old man", "old woman and sea", "overseas old man"],
    ),
    ({"type": "keywords", "words": ["苹果"]}, ["我吃苹果树的果", "苹果"], ["苹 果", "apple"]),
    ({"type": "keywords", "words": ["don't"]}, ["I don’t", "Don't!"], ["dont", "do not"]),
    (
        {"type": "forbidden", "words": ["cat", "猫"]},
        ["A dog", "concatenate", "cats", "狗"],
        ["A cat.", "CAT", "cat-like", "小猫"],
    ),
    (
        {"type": "keyword_frequency", "word": "rain", "min": 2},
        ["rain, rain", "Rain and RAIN", "rain rain rain", "rain.\nMore rain!"],
        ["rain", "rain and rainy", "raining train", "snow"],
    ),
    ({"type": "keyword_frequency", "word": "雨", "min": 2}, ["大雨小雨", "雨，雨"], ["雨", "雪"]),
    (
        {"type": "all_lowercase"},
        ["snow is white.", "it's 5 o'clock", "a", "ünter der brücke"],
        ["Snow is white.", "SNOW", "123", "雪是白的。"],
    ),
    (
        {"type": "all_uppercase"},
        ["SNOW IS WHITE.", "IT'S 5 O'CLOCK", "A", "ÜBER"],
        ["Snow", "snow", "123", "雪是白的。"],
    ),
    (
        {"type": "title_case_first"},
        ["Snow", "  Snow is white", "SNOW", "Été"],
        ["snow", '"Snow"', "1 Snow", "雪"],
    ),
    (
        {"type": "starts_with", "text": "Dear friend,"},
        ["Dear friend, hello", "dear friend,\nhello", "  Dear  friend, x", "DEAR FRIEND，你好"],
        ["Dear friend", "My dear friend, hello", "Hello", '"Dear friend, hello"'],
    ),
    ({"type": "starts_with", "text": "从前"}, ["从前有座山", "从前"], ["很久从前", "以前"]),
    (
        {"type": "ends_with", "text": "the end"},
        ["This is the end", "It is the end.", "THE END!", "(the end)", "That was the\nend…"],
        ["the end of it", "the end. Bye", "end", "the ends"],
    ),
    ({"type": "ends_with", "text": "See you!"}, ["Bye. See you!", "See you！"], ["See you.", "See you"]),
    ({"type": "ends_with", "text": "回家"}, ["我回家", "我回家。”"], ["我回家了", "回 家"]),
    (
        {"type": "quoted"},
        ['"Hello."', "“你好。”", "「你好」", ' "Two\nlines" '],
        ['"Hello', 'Hello"', '"Hello" and "bye"', "'Hello'", '"Hello".', '“Hello"', '""'],
    ),
    (
        {"type": "json_object", "keys": ["name", "age"]},
        [
            '{"name": "Ann", "age": 3}',
            '{"age": 0,\n "name": ["Ann"]}',
            '```json\n{"name": "Ann", "age": 3}\n```',
            '```\n{"name": "安", "age": false}\n```',
        ],
        [
            '{"name": "Ann"}',
            '{"name": "Ann", "age": 3, "city": "x"}',
            '{"name": "", "age": 3}',
            '{"name": "Ann", "age": null}',
            "{'name': 'Ann', 'age': 3}",
            'Here: {"name": "Ann", "age": 3}',
            '["name", "age"]',
            '{"name": "Ann", "age": 3',
            "[" * 100_000 + "a",
        ],
    ),
    (
        {"type": "no_comma"},
        ["Snow is white.", "苹果、梨。", "a; b", "1.5"],
        ["Yes, it is", "是，对", "1,000", "a,"],
    ),
    (
        {"type": "postscript", "marker": "P.S."},
        ["Hi.\nP.S. Bye", "Hi.\n\np.s. bye", "Hi.\n  P.S.: call me", "a\nP.S. b\nc"],
        ["Hi.", "P.S. Bye", "Hi. P.S. Bye", "Hi.\nP.S.", "Hi.\nPS Bye"],
    ),
    (
        {"type": "postscript", "marker": "附言："},
        ["你好。\n附言：再见", "你好\n附言: 好"],
        ["附言：再见", "你好。\n附言："],
    ),
    (
        {"type": "placeholder_brackets", "min": 2},
        ["[name] and [date]", "[a][b]", "[姓名]，[日期]", "x [a] y [b] z [c]"],
        ["[name]", "[name] [Name]", "name and date", "[] []", "[ ] [...]", "(name) (date)", "[name\n] [date"],
    ),
    (
        {"type": "highlighted", "min": 2},
        ["*a* and *b*", "**a** and *b*", "***a*** **b c**", "这是*重点*和*要点*"],
        ["*a*", "*a* **A**", "a * b * c * d", "* a\n* b\n* c", "****", "*a * b*", "* a* *b *", "*!* *?*"],
    ),
    (
        {"type": "language", "language": "en"},
        ["Snow is white.", "Été", "I drink green tea. 茶", "OK 123"],
        ["雪是白的。", "我说 OK", "123", "Снег белый"],
    ),
    (
        {"type": "language", "language": "zh"},
        ["雪是白的。", "我经常用 Java", "「好」", "3个苹果"],
        ["Snow is white.", "123", "很 good idea", "ゆきはしろい"],
    ),
    (
        {"type": "one_of", "options": ["yes", "no", "not sure"]},
        ["yes", "No.", " NOT  SURE!\n", "yes。"],
        ["maybe", "yes or no", "Yes, it can", '"yes"', "sure"],
    ),
    (
        {"type": "contains_question"},
        ["Why?", "你好吗？", "Hm. Is it? Yes.", '"Why" ?'],
        ["Why", "?", "Why !?", "Yes. No."],
    ),
    (
        {"type": "no_digits"},
        ["three cats", "三只猫", "No.", "half"],
        ["3 cats", "3只猫", "３只猫", "room B2"],
    ),
    (
        {"type": "letter_frequency", "letter": "z", "min": 2},
        ["zz", "Zoo, lazy", "pizza", "ZZZ"],
        ["z", "zoo", "sss", "雪"],
    ),
    (
        {"type": "two_responses", "separator": "***"},
        ["Hello\n***\nBye", "a b\n\n***\n\nc", "一\n *** \n二", "x\ny\n***\nz"],
        ["Hello", "Hello *** Bye", "Hello\n***", "Hello\n***\nhello", "a\n***\nb\n***\nc", "a\n******\nb"],
    ),
]

# Responses that need no reading of the prompt.
CANNED = [
    "",
    "Yes.",
    "OK",
    "Sure!",
    "The name of the name of the name.",
    "5-1*2=1",
    "1. 2. 3.",
    "I don't know.",
    "好的。",
    "Lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut labore et dolore magna "
    "aliqua ut enim ad minim veniam quis nostrud exercitation ullamco laboris nisi ut aliquip ex ea commodo consequat "
    "duis aute irure dolor in reprehenderit in voluptate velit esse cillum dolore eu fugiat nulla",
    "This is a short answer with exactly twenty common words that could follow almost every question which people may "
    "ask.",
    "I am sorry, but I cannot help with that request.",
    "{}",
    "the the the the the the the the the the the the",
    "1. First point\n2. Second point\n3. Third point",
    "抱歉，我无法回答这个问题。",
    "这是一个很好的问题，我会尽力给出一个清楚而有用的回答。",
]


def test_each_type_has_at_least_four_cases_on_either_side() -> None:
    met, unmet = Counter[str](), Counter[str]()
    for constraint, good, bad in CASES:
        met[constraint["type"]] += len(good)
        unmet[constraint["type"]] += len(bad)
    assert set(met) == set(TYPES)
    assert min(met.values()) >= 4 and min(unmet.values()) >= 4


@pytest.mark.parametrize(("constraint", "response"), [(case[0], text) for case in CASES for text in case[1]])
def test_met(constraint: dict[str, Any], response: str) -> None:
    assert check(constraint, response)


@pytest.mark.parametrize(("constraint", "response"), [(case[0], text) for case in CASES for text in case[2]])
def test_not_met(constraint: dict[str, Any], response: str) -> None:
    assert not check(constraint, response)


@pytest.mark.parametrize("constraint", [case[0] for case in CASES])
@pytest.mark.parametrize("response", ["", " \n", "...", "***\n***", "？"])
@pytest.mark.parametrize("loose", [False, True])
def test_an_empty_response_meets_nothing(constraint: dict[str, Any], response: str, loose: bool) -> None:
    assert satisfied([constraint], response, loose=loose) == (False,)


@pytest.mark.parametrize(
    ("constraint", "response"),
    [
        ({"type": "one_of", "options": ["yes", "no"]}, "The answer is:\nYes."),
        ({"type": "one_of", "options": ["yes", "no"]}, "Yes.\nLet me know if you need more."),
        ({"type": "one_of", "options": ["yes", "no"]}, "Sure!\n\nyes\n\nIs that all?"),
        ({"type": "one_of", "options": ["yes", "no"]}, "**Yes**"),
        ({"type": "one_of", "options": ["yes", "no"]}, "Here it is:\n**Yes**"),
        ({"type": "json_object", "keys": ["a"]}, 'Here you are:\n{"a": 1}\nDone.'),
        ({"type": "starts_with", "text": "Dear"}, "*Dear* Ann"),
        ({"type": "all_lowercase"}, "Sure:\nsnow is white."),
    ],
)
def test_loose_accepts_what_strict_rejects(constraint: dict[str, Any], response: str) -> None:
    assert satisfied([constraint], response, loose=False) == (False,)
    assert satisfied([constraint], response, loose=True) == (True,)


def test_loose_keeps_the_original_variant() -> None:
    bullets = {"type": "bullet_count", "count": 2}
    assert satisfied([bullets, {"type": "highlighted", "min": 1}], "* *a*\n* b", loose=True) == (True, True)


def test_loose_does_not_remove_lines_from_the_middle() -> None:
    yes: dict[str, Any] = {"type": "one_of", "options": ["yes", "no"]}
    assert satisfied([yes], "One.\nTwo.\nyes\nThree.", loose=True) == (False,)


def test_satisfied_keeps_the_order_of_the_constraints() -> None:
    rules: list[dict[str, Any]] = [{"type": "all_lowercase"}, {"type": "no_digits"}, {"type": "word_count", "max": 2}]
    assert satisfied(rules, "two words", loose=False) == (True, True, True)
    assert satisfied(rules, "Two 2", loose=False) == (False, False, True)
    assert satisfied([], "Two 2", loose=True) == ()


@pytest.mark.parametrize(
    ("constraint", "names"),
    [
        ({"type": "word_cuont", "max": 3}, ["word_cuont", "word_count"]),
        ({"type": "xyzzy"}, ["xyzzy", "all_lowercase"]),
        ({"type": 3}, ["3"]),
        ({}, ["None"]),
        ({"type": "word_count", "maks": 3}, ["maks", "max"]),
        ({"type": "no_comma", "count": 3}, ["no_comma", "count"]),
        ({"type": "word_count"}, ["word_count", "min", "max"]),
        ({"type": "word_count", "min": 5, "max": 3}, ["min", "5", "3"]),
        ({"type": "word_count", "min": 0}, ["word_count.min", "0"]),
        ({"type": "word_count", "max": "3"}, ["word_count.max", "'3'"]),
        ({"type": "bullet_count", "count": True}, ["bullet_count.count", "True"]),
        ({"type": "bullet_count"}, ["bullet_count", "count"]),
        ({"type": "keywords", "words": "sea"}, ["keywords.words", "sea"]),
        ({"type": "keywords", "words": []}, ["keywords.words"]),
        ({"type": "keywords", "words": ["a", "a"]}, ["keywords.words"]),
        ({"type": "forbidden", "words": ["a", ""]}, ["forbidden.words"]),
        ({"type": "keyword_frequency", "word": "rain"}, ["keyword_frequency", "min"]),
        ({"type": "starts_with", "text": " a"}, ["starts_with.text"]),
        ({"type": "one_of", "options": ["yes"]}, ["one_of.options", "two"]),
        ({"type": "letter_frequency", "letter": "ab", "min": 1}, ["letter_frequency.letter", "ab"]),
        ({"type": "language", "language": "fr"}, ["language.language", "fr"]),
    ],
)
def test_an_invalid_constraint_is_named(constraint: dict[str, Any], names: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        validate(constraint, "items.jsonl:7")
    message = str(caught.value)
    assert message.startswith("items.jsonl:7: ")
    assert [name for name in names if name not in message] == []
    with pytest.raises(DataError):
        check(constraint, "Some text")


def test_each_type_states_its_rule_in_one_line() -> None:
    assert [name for name, kind in TYPES.items() if not kind.check.__doc__ or "\n" in kind.check.__doc__] == []


def test_items_are_complete_and_run_in_order() -> None:
    keys = ["id", "ability", "language", "topic", "source", "licence", "prompt", "constraints"]
    expected = [
        f"instructions-{name}-{n:03d}" for name, total in (("en", 168), ("zh", 84)) for n in range(1, total + 1)
    ]
    assert [item["id"] for item in ITEMS] == expected
    assert all(list(item) == keys and item["ability"] == "instructions" for item in ITEMS)
    assert all(item["language"] == item["id"].split("-")[1] for item in ITEMS)
    assert len({item["prompt"] for item in ITEMS}) == len(ITEMS)


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: str(item["id"]))
def test_constraints_of_an_item_are_valid(item: dict[str, Any]) -> None:
    assert 1 <= len(item["constraints"]) <= 3
    assert len({constraint["type"] for constraint in item["constraints"]}) == len(item["constraints"])
    for index, constraint in enumerate(item["constraints"]):
        validate(constraint, f"{item['id']}: constraints[{index}]")


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: str(item["id"]))
def test_the_prompt_names_each_text_that_it_demands(item: dict[str, Any]) -> None:
    prompt = item["prompt"].casefold()
    for constraint in item["constraints"]:
        texts = [value for value in constraint.values() if isinstance(value, str)][1:]
        texts += [text for value in constraint.values() if isinstance(value, list) for text in value]
        named = [text for text in texts if text.rstrip(".").casefold() in prompt]
        assert named == texts or constraint["type"] == "language"


def test_each_constraint_type_has_at_least_five_items() -> None:
    counts = Counter(constraint["type"] for item in ITEMS for constraint in item["constraints"])
    assert {name: counts[name] for name in TYPES if counts[name] < 5} == {}


def test_half_of_the_items_are_easy() -> None:
    for name in ("en", "zh"):
        levels = Counter(item["source"].split("; ")[-1] for item in ITEMS if item["language"] == name)
        assert set(levels) == {"easy", "medium", "hard"}
        assert levels["easy"] == levels["medium"] + levels["hard"]


# Responses that copy the prompt.
COPIES: dict[str, Callable[[str], str]] = {
    "whole": lambda prompt: prompt,
    "upper case": str.upper,
    "in quotes": lambda prompt: f'"{prompt}"',
    "twice": lambda prompt: f"{prompt}\n\n{prompt}",
    "three lines": lambda prompt: "\n".join([prompt] * 3),
    "three paragraphs": lambda prompt: "\n\n".join([prompt] * 3),
    "first sentence": lambda prompt: re.split(r"(?<=[.?!。？！])", prompt)[0],
    "last sentence": lambda prompt: re.split(r"(?<=[.?!。？！])(?=.)", prompt)[-1],
}


def share_met(responses: Mapping[str, str], language: str, loose: bool) -> float:
    """The share of the items of a language whose constraints are all met by the response of the same id."""
    items = [item for item in ITEMS if item["language"] == language]
    return sum(all(satisfied(item["constraints"], responses[item["id"]], loose=loose)) for item in items) / len(items)


@pytest.mark.parametrize("loose", [False, True])
@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("response", CANNED, ids=lambda text: text[:20])
def test_a_canned_response_meets_few_items(response: str, language: str, loose: bool) -> None:
    assert share_met({item["id"]: response for item in ITEMS}, language, loose) <= 0.1


@pytest.mark.parametrize("loose", [False, True])
@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_of_the_prompt_meets_few_items(copy: str, language: str, loose: bool) -> None:
    assert share_met({item["id"]: COPIES[copy](item["prompt"]) for item in ITEMS}, language, loose) <= 0.1
