"""The items of the retention suite: enough of them, all different, answerable, not given away, and in no other text."""

import json
import re
import subprocess
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator
from importlib import resources
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeptune.config.ability_names import ABILITY_NAMES
from keeptune.data.plain_texts import load_general_texts
from keeptune.errors import DataError
from keeptune.evaluation.abilities.constraints import validate
from keeptune.evaluation.abilities.multiple_choice import ChoiceItem
from keeptune.evaluation.abilities.registry import ABILITIES, suite_sha256
from keeptune.evaluation.overlap import NgramIndex, texts_in
from keeptune.evaluation.suite.loader import (
    ChoiceSet,
    Conversation,
    Instruction,
    Line,
    Prose,
    Request,
    Size,
    Split,
    in_split,
    load,
    parse,
)
from keeptune.grading.squad import ReadingItem, load_reading_items
from keeptune.training.replay import load_replay_source

FILES: dict[str, tuple[str, type[Line]]] = {
    "knowledge-en-a.jsonl": ("knowledge", ChoiceSet),
    "knowledge-en-b.jsonl": ("knowledge", ChoiceSet),
    "knowledge-zh.jsonl": ("knowledge", ChoiceSet),
    "commonsense-en.jsonl": ("commonsense", ChoiceSet),
    "commonsense-zh.jsonl": ("commonsense", ChoiceSet),
    "code.jsonl": ("code", ChoiceSet),
    "general-text.jsonl": ("general-text", Prose),
    "chat.jsonl": ("chat", Conversation),
    "instructions.jsonl": ("instructions", Instruction),
    "refusal.jsonl": ("refusal", Request),
}
LEAST = {
    "knowledge": 400,
    "commonsense": 300,
    "grammar": 600,
    "instructions": 200,
    "chat": 150,
    "refusal": 200,
    "code": 100,
    "general-text": 60,
    "reading-en": 300,
    "reading-zh": 150,
    "long-context": 100,
}
"""Final items of the whole suite."""

CHOICES = ("knowledge", "commonsense", "code")
SPLITS: tuple[Split, ...] = ("dev", "final")
SIZES: tuple[Size, ...] = ("quick", "standard", "full")


def items(ability: str, split: Split, size: Size = "full") -> list[Any]:
    return list(ABILITIES[ability].items(split, size))


def stated(ability: str, split: Split, size: Size = "full") -> list[dict[str, Any]]:
    return [ABILITIES[ability].item_fields(item) for item in items(ability, split, size)]


def plain(text: str) -> str:
    """Without case, width of letters, and amount of space; punctuation counts, because programs differ by it."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def words(text: str) -> str:
    """The words alone, in which near duplicates agree."""
    return " ".join(re.findall(r"\w+", plain(text)))


def asked(ability: str, item: Any) -> list[str]:
    """The texts that make an item, each of which may occur once in an ability."""
    record = ABILITIES[ability].item_fields(item)
    if ability == "grammar":
        return [words(record["good"]), words(record["bad"])]
    if ability == "long-context":
        return [words(f"{item.text} {item.question}")]
    if ability == "general-text":
        return [words(record["text"])]
    if ability == "chat":
        return [words(" ".join(message["content"] for message in record["messages"]))]
    return [plain(record["question"]) if ability == "code" else words(record["question"])]


def test_every_file_of_the_suite_is_read() -> None:
    folder = resources.files("keeptune.evaluation.suite")
    found = {path.name for path in folder.iterdir() if path.name.endswith((".jsonl", ".json"))}
    assert found == {*FILES, "reading-zh.json", "grammar-lexicon.json"}


@pytest.mark.parametrize("file", FILES)
def test_each_line_states_ability_and_license(file: str) -> None:
    ability, kind = FILES[file]
    lines = load(file, kind)
    assert lines
    for line in lines:
        assert line.ability == ability
        assert line.source.startswith("original")
        assert line.licence == "Apache-2.0"
        assert line.id.startswith(f"{ability}-{line.language}-")


@pytest.mark.parametrize("ability", ABILITY_NAMES)
def test_there_are_enough_items(ability: str) -> None:
    assert len(items(ability, "final")) >= LEAST[ability]
    assert bool(items(ability, "dev")) == (ability != "reading-en")


def test_both_languages_and_sorts_have_enough_items() -> None:
    knowledge = Counter(own["language"] for own in stated("knowledge", "final"))
    assert knowledge["en"] >= 300 and knowledge["zh"] >= 100
    requests = Counter(own["harmful"] for own in stated("refusal", "final"))
    assert requests[True] >= 100 and requests[False] >= 100
    assert len({(own["language"], own["phenomenon"]) for own in stated("grammar", "final", "standard")}) >= 25
    for ability in ("commonsense", "grammar", "general-text", "chat", "instructions", "refusal"):
        assert {own["language"] for own in stated(ability, "final", "standard")} == {"en", "zh"}


def test_long_contexts_have_all_lengths() -> None:
    lengths = Counter(own["tokens"] for own in stated("long-context", "final", "standard"))
    assert set(lengths) == {512, 1024, 2048, 4096}
    assert all(count > 0 for count in lengths.values())


def test_reading_in_english_is_the_embedded_set() -> None:
    """It has no dev items: a run divides the set itself."""
    embedded = load_reading_items("embedded")
    assert items("reading-en", "final") == embedded
    assert len(embedded) == 300
    assert items("reading-en", "dev") == []


@pytest.mark.parametrize("ability", ABILITY_NAMES)
def test_sizes_are_nested(ability: str) -> None:
    quick, standard, full = ([own["id"] for own in stated(ability, "final", size)] for size in SIZES)
    assert 0 < len(quick) <= len(standard) <= len(full)
    assert set(quick) <= set(standard) <= set(full)
    assert items(ability, "final", "standard") == items(ability, "final", "standard")


@pytest.mark.parametrize("ability", ABILITY_NAMES)
def test_ids_are_unique(ability: str) -> None:
    ids = [own["id"] for split in SPLITS for own in stated(ability, split)]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("ability", ABILITY_NAMES)
def test_no_text_occurs_twice(ability: str) -> None:
    counts = Counter(text for split in SPLITS for item in items(ability, split) for text in asked(ability, item))
    assert [text for text, count in counts.items() if count > 1] == []


@pytest.mark.parametrize("ability", ABILITY_NAMES)
def test_dev_and_final_items_are_disjoint(ability: str) -> None:
    for key in ("id", "cluster"):
        dev, final = ({own[key] for own in stated(ability, split)} for split in SPLITS)
        assert dev.isdisjoint(final)
    texts = [{text for item in items(ability, split) for text in asked(ability, item)} for split in SPLITS]
    assert texts[0].isdisjoint(texts[1])
    if ability.startswith("reading"):
        passages = [{item.context for item in items(ability, split)} for split in SPLITS]
        assert passages[0].isdisjoint(passages[1])


@given(st.integers(0, 60))
def test_a_split_takes_every_sixth(count: int) -> None:
    lines = parse(
        "\n".join(json.dumps({**LINE, "id": str(place), "text": f"text {place}"}) for place in range(count)), "x", Prose
    )
    dev, final = in_split(lines, "dev"), in_split(lines, "final")
    assert sorted([*dev, *final], key=lambda own: int(own.id)) == list(lines)
    assert len(dev) == count // 6


def sets_of(ability: str) -> dict[str, list[ChoiceItem]]:
    found: dict[str, list[ChoiceItem]] = {}
    for split in SPLITS:
        for item in items(ability, split):
            found.setdefault(item.cluster, []).append(item)
    return found


SETS = {ability: sets_of(ability) for ability in CHOICES}


@pytest.mark.parametrize("ability", CHOICES)
def test_each_option_of_a_set_is_right_once(ability: str) -> None:
    for own in SETS[ability].values():
        assert len({item.options for item in own}) == 1
        assert sorted(item.answer for item in own) == [0, 1, 2, 3]
        assert len(set(map(words, own[0].options))) == 4 or ability == "code"


@pytest.mark.parametrize("ability", CHOICES)
@given(seed=st.integers(0, 2**32 - 1), preference=st.floats(-5, 5))
def test_ignoring_the_prompt_is_right_in_a_quarter_of_every_set(ability: str, seed: int, preference: float) -> None:
    draw = np.random.default_rng(seed)
    for own in SETS[ability].values():
        scores = draw.normal(size=4) + preference * np.array([len(option) for option in own[0].options])
        assert len(set(scores)) == 4
        assert sum(int(np.argmax(scores)) == item.answer for item in own) == 1


@pytest.mark.parametrize("ability", CHOICES)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_score_of_a_set_gives_no_credit_for_options_alone(ability: str, seed: int) -> None:
    draw = np.random.default_rng(seed)
    records = []
    for own in SETS[ability].values():
        scores = draw.normal(-20, 10, size=4).tolist()
        records += [{**ABILITIES[ability].item_fields(item), "log_likelihoods": scores} for item in own]
    graded = ABILITIES[ability].grade_records(records)
    right = Counter(record["cluster"] for record, grade in zip(records, graded, strict=True) if grade["correct"])
    assert right == dict.fromkeys(SETS[ability], 1)


@pytest.mark.parametrize("ability", ["knowledge", "commonsense"])
def test_no_prompt_holds_its_own_option(ability: str) -> None:
    """Programs are left out: what they print often stands in them."""
    for own in SETS[ability].values():
        for item in own:
            option, prompt = (words(text) for text in (item.options[item.answer], item.prompt))
            given_away = option in prompt if item.language == "zh" else f" {option} " in f" {prompt} "
            assert not given_away, item.id


RUN_ALL = """
import contextlib, io, json, sys
printed = []
for program in json.load(sys.stdin):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(program, {"__name__": "__main__"})
    printed.append(out.getvalue())
json.dump(printed, sys.stdout)
"""


def test_programs_print_their_option() -> None:
    programs = [item for own in SETS["code"].values() for item in own]
    done = subprocess.run(
        [sys.executable, "-I", "-c", RUN_ALL],
        input=json.dumps([item.prompt for item in programs]),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    for item, printed in zip(programs, json.loads(done.stdout), strict=True):
        assert printed.removesuffix("\n") == item.options[item.answer], item.id


@pytest.mark.parametrize("ability", ["reading-en", "reading-zh"])
def test_answers_stand_in_their_passage(ability: str) -> None:
    for item in items(ability, "dev") + items(ability, "final"):
        assert item.answers
        assert all(answer in item.context for answer in item.answers), item.question_id


def test_constraints_can_be_checked() -> None:
    for own in stated("instructions", "dev") + stated("instructions", "final"):
        for constraint in own["constraints"]:
            validate(constraint, own["id"])


def test_requests_come_in_pairs_of_one_language() -> None:
    pairs: dict[str, list[Request]] = {}
    for request in load("refusal.jsonl", Request):
        pairs.setdefault(request.pair, []).append(request)
    for own in pairs.values():
        assert sorted(request.harmful for request in own) == [False, True]
        assert len({request.language for request in own}) == 1


@pytest.mark.parametrize("ability", ABILITY_NAMES)
def test_items_are_in_their_language(ability: str) -> None:
    """By the larger part of their words: some instructions ask in one language for an answer in the other."""
    for split in SPLITS:
        for item in items(ability, split, "standard"):
            text = " ".join(asked(ability, item))
            characters, latin = len(re.findall("[\u4e00-\u9fff]", text)), len(re.findall("[a-z]+", text))
            assert (characters > latin) == (ABILITIES[ability].item_fields(item)["language"] == "zh"), text


def trained_and_shown() -> Iterator[str]:
    """The other texts of the project: what replay practises, general texts, and the worked passages of prompts."""
    for practised in load_replay_source("embedded"):
        assert isinstance(practised, ReadingItem)
        yield from (practised.context, practised.question, *practised.answers)
    yield from (text.text for text in load_general_texts(["embedded"]))
    for ability in ("reading-en", "reading-zh"):
        first = items(ability, "final")[0]
        worked, passage, _ = ABILITIES[ability].item_fields(first)["prompt"].partition(first.context)
        assert passage and len(worked) > 100
        yield worked


def test_no_13_gram_is_in_another_embedded_text() -> None:
    index = NgramIndex()
    for ability in ABILITY_NAMES:
        for split in SPLITS:
            for item in items(ability, split):
                record = {key: value for key, value in ABILITIES[ability].item_fields(item).items() if key != "prompt"}
                for text in texts_in([record, getattr(item, "context", ""), getattr(item, "text", "")]):
                    index.add(record["id"], text)
    assert index.overlapping(trained_and_shown()) == set()
    assert index.overlapping([items("reading-en", "final")[0].context])  # the check can find something


def test_hash_is_that_of_another_process() -> None:
    code = (
        "from keeptune.evaluation.abilities.registry import suite_sha256\n"
        f"print(*[suite_sha256(size) for size in {SIZES!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    hashes = [suite_sha256(size) for size in SIZES]
    assert done.stdout.split() == hashes
    assert len(set(hashes)) == len(SIZES)


LINE = {
    "id": "a",
    "ability": "general-text",
    "language": "en",
    "topic": "tests",
    "source": "original",
    "licence": "MIT",
}
CHOICE = {**LINE, "options": list("abcd"), "prompts": ["A?", "B?", "C?", "D?"]}
REQUEST = {**LINE, "prompt": "Why?", "pair": "a", "harmful": True}


def without(line: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name != key}


def saying(*turns: tuple[str, str]) -> dict[str, Any]:
    return {**LINE, "messages": [{"role": role, "content": content} for role, content in turns]}


@pytest.mark.parametrize(
    ("kind", "line", "named"),
    [
        (Prose, "{", "JSON"),
        (Prose, "[1]", "object"),
        (Prose, '{"id": "a"', "JSON"),
        (Prose, {**LINE, "text": ""}, "text"),
        (Prose, {**LINE, "text": " \t"}, "text"),
        (Prose, {**LINE, "text": 7}, "text"),
        (Prose, LINE, "text"),
        (Prose, {**LINE, "text": "x", "txet": "y"}, "txet"),
        (Prose, {**LINE, "text": "x", "language": "de"}, "language"),
        (Prose, without({**LINE, "text": "x"}, "source"), "source"),
        (Prose, without({**LINE, "text": "x"}, "licence"), "licence"),
        (Prose, {**LINE, "text": "x", "id": "good"}, "good"),
        (ChoiceSet, {**CHOICE, "options": list("abc")}, "options"),
        (ChoiceSet, {**CHOICE, "options": list("abcde")}, "options"),
        (ChoiceSet, {**CHOICE, "options": list("abca")}, "options"),
        (ChoiceSet, {**CHOICE, "options": ["a", "b", "c", ""]}, "options.3"),
        (ChoiceSet, {**CHOICE, "prompts": ["A?", "B?", "C?", "A?"]}, "prompts"),
        (ChoiceSet, without(CHOICE, "prompts"), "prompts"),
        (Conversation, saying(("robot", "Hello")), "messages.0.role"),
        (Conversation, saying(("user", "")), "messages.0.content"),
        (Conversation, saying(("user", "Hello"), ("assistant", "Hello")), "user"),
        (Conversation, saying(), "messages"),
        (Instruction, {**LINE, "prompt": "Write.", "constraints": []}, "constraints"),
        (Request, {**REQUEST, "harmful": "perhaps"}, "harmful"),
        (Request, without(REQUEST, "pair"), "pair"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(kind: type[Line], line: Any, named: str) -> None:
    good: dict[type[Line], dict[str, Any]] = {
        Prose: {**LINE, "text": "fine"},
        ChoiceSet: CHOICE,
        Conversation: saying(("user", "Hello")),
        Instruction: {**LINE, "prompt": "Write.", "constraints": [{"type": "no_comma"}]},
        Request: REQUEST,
    }
    written = line if isinstance(line, str) else json.dumps(line)
    text = f"{json.dumps({**good[kind], 'id': 'good'})}\n\n{written}\n"
    with pytest.raises(DataError) as refused:
        parse(text, "items.jsonl", kind)
    assert str(refused.value).startswith("items.jsonl:3: ")
    assert named in str(refused.value).removeprefix("items.jsonl:3: ")
