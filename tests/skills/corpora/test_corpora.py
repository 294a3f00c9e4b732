"""The generated rows of the example skills: usable, varied, repeatable, and different in the two splits."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any, get_args

import pytest

from keeptune.data.contamination import ContaminationFilter, Problem
from keeptune.errors import DataError, RecipeError
from keeptune.skills.corpora import customer_mail, order_texts
from keeptune.skills.corpora.corpus import Corpus
from keeptune.skills.corpora.phrases import SplitName, add_typing_error, fill, in_split, load_patterns
from keeptune.skills.corpora.registry import CORPORA, find_corpus

ROWS = 80
WORDS = {"en": order_texts._WORDS["en"], "zh": order_texts._WORDS["zh"]}

each_corpus = pytest.mark.parametrize("corpus", CORPORA.values(), ids=list(CORPORA))
each_split = pytest.mark.parametrize("split", get_args(SplitName))


def is_chinese(text: str) -> bool:
    return re.search(r"[\u4e00-\u9fff]", text) is not None


@cache
def rows_of(name: str, split: SplitName) -> list[dict[str, str]]:
    return list(CORPORA[name].generate(ROWS, 1, split))


def divided_lists(tree: Any) -> Iterator[dict[str, list[Any]]]:
    """All lists of a pattern file that are divided between the splits."""
    if isinstance(tree, dict):
        if tree.keys() == {"train", "both", "test"}:
            yield tree
        else:
            for part in tree.values():
                yield from divided_lists(part)


@each_split
@each_corpus
def test_the_skill_accepts_each_row_and_grades_its_solution_as_right(corpus: Corpus, split: SplitName) -> None:
    skill, rows = corpus.skill, rows_of(corpus.name, split)
    assert len({row["problem"] for row in rows}) == ROWS
    assert skill.grader is not None
    kinds = Counter[str]()
    for row in rows:
        question = skill.parse(row["problem"], row["solution"], row.get("kind"))
        assert question is not None
        assert skill.grader.grade(row["solution"], str(question.truth), row["problem"]).is_right
        assert "{" not in row["problem"] and "|" not in row["problem"] and "  " not in row["problem"]
        kinds[question.kind] += 1
    assert set(kinds) == set(skill.kinds) - {"(not in data.kinds)"}
    assert 0.1 * ROWS < sum(is_chinese(row["problem"]) for row in rows) < 0.6 * ROWS


@each_corpus
def test_the_seed_and_the_split_determine_the_rows(corpus: Corpus) -> None:
    rows = [list(corpus.generate(20, seed, split)) for seed, split in ((1, "train"), (1, "train"), (2, "train"))]
    assert rows[0] == rows[1] != rows[2]
    assert list(corpus.generate(5, 1, "test")) != rows[0][:5]
    assert list(corpus.generate(5, 1)) == rows[0][:5]


@each_corpus
def test_training_rows_hardly_overlap_with_test_rows(corpus: Corpus) -> None:
    """By the rule of the data stage: the same problem, or 13 consecutive words in common."""
    test = [Problem("any", row["problem"], row["problem"]) for row in rows_of(corpus.name, "test")]
    forbidden = ContaminationFilter(test, {"any"})
    train = [Problem("any", row["problem"], row["problem"]) for row in rows_of(corpus.name, "train")]
    assert sum(forbidden.match(problem) is not None for problem in train) <= 0.05 * ROWS


@pytest.mark.parametrize("name", ["customer_mail.json", "order_texts.json", "table_questions.json"])
def test_no_pattern_of_the_test_split_is_in_the_training_split(name: str) -> None:
    lists = list(divided_lists(load_patterns(name)))
    assert len(lists) > 20
    for entries in lists:
        train, test = ([str(entry) for entry in entries[split] if entry] for split in ("train", "test"))
        assert set(train).isdisjoint(test)


def test_facts_of_an_order_stand_in_its_text() -> None:
    splits: tuple[SplitName, ...] = get_args(SplitName)
    for split in splits:
        for row in rows_of("order-texts", split):
            text, facts = row["problem"], json.loads(row["solution"])
            assert facts.keys() == {"customer", "city", "items", "express"}
            assert facts["customer"] in text and facts["city"] in text
            for item in facts["items"]:
                words = WORDS[row["kind"]]
                count = item["quantity"]
                assert str(count) in text or (count <= len(words) and words[count - 1] in text), text
                stem = item["product"][:-4] if row["kind"] == "en" else item["product"]
                assert stem in text, text


def test_products_stand_in_the_singular() -> None:
    rows = list(order_texts.ORDER_TEXTS.generate(400, 5, "train"))
    products = [item["product"] for row in rows for item in json.loads(row["solution"])["items"]]
    assert not [product for product in products if product.endswith(("ves", "shes", "lamps"))]
    assert any("bread knives" in row["problem"] for row in rows)


def test_unmentioned_shipping_is_standard_shipping() -> None:
    patterns = load_patterns("order_texts.json")["en"]["express"]
    wishes = [fill(wish, random.Random(0)) for split in patterns.values() for wish in split]
    for row in rows_of("order-texts", "test"):
        facts = json.loads(row["solution"])
        if row["kind"] == "en" and "." in row["problem"]:
            assert facts["express"] == any(wish in row["problem"] for wish in wishes)


def test_a_label_is_that_of_the_request_and_not_of_a_remark() -> None:
    """Remarks mention other topics, so words of a topic do not decide."""
    rows = list(customer_mail.CUSTOMER_MAIL.generate(600, 1))
    mentions = [row for row in rows if "invoice of last month" in row["problem"]]
    assert len({row["solution"] for row in mentions}) > 1


@pytest.mark.parametrize(
    ("kind", "pattern"),
    [
        ("filter", r"SELECT \w+ FROM \w+ WHERE .+"),
        ("count", r"SELECT COUNT\(\*\) FROM \w+ WHERE .+"),
        ("aggregate", r"SELECT (AVG|SUM|MIN|MAX)\(\w+\) FROM \w+( WHERE .+)?"),
        ("top", r"SELECT \w+ FROM \w+ ORDER BY \w+( DESC)? LIMIT \d"),
        ("group", r"SELECT (DISTINCT \w+ FROM \w+|(\w+), (COUNT\(\*\)|AVG\(\w+\)) FROM \w+ GROUP BY \2)"),
        ("join", r"SELECT (COUNT\(\*\)|\w+\.\w+) FROM (\w+) JOIN (\w+) ON \2\.(\w+) = \3\.id WHERE \3\.\w+ .+"),
    ],
)
def test_a_kind_of_question_has_one_form_of_query(kind: str, pattern: str) -> None:
    rows = [row for row in rows_of("table-questions", "train") if row["kind"] == kind]
    assert len(rows) > 3
    for row in rows:
        assert re.fullmatch(pattern, row["solution"]), row["solution"]
        assert row["problem"].count("CREATE TABLE") == 1 + (kind == "join")


def test_test_questions_are_on_other_tables() -> None:
    def tables(split: SplitName) -> list[str]:
        return [re.findall(r"FROM (\w+)", row["solution"])[0] for row in rows_of("table-questions", split)]

    known = set(tables("train"))
    assert sum(table not in known for table in tables("test")) > 0.6 * ROWS


def test_excluded_problems_are_not_generated() -> None:
    corpus = CORPORA["customer-mail"]
    first = {row["problem"] for row in corpus.generate(30, 1)}
    others = [row["problem"] for row in corpus.generate(30, 1, is_excluded=lambda problem, _: problem in first)]
    assert len(others) == 30 and first.isdisjoint(others)
    with pytest.raises(DataError, match="no further problem"):
        next(corpus.generate(1, 1, is_excluded=lambda *_: True))


def test_a_typing_error_changes_one_word_and_no_slot() -> None:
    generator = random.Random(1)
    text = "Please send {products} to Norway quickly"
    changed = [add_typing_error(text, generator).split() for _ in range(50)]
    for words in changed:
        assert words[:-1] == text.split()[:-1]
        assert set(words[-1]) <= set("quickly") and abs(len(words[-1]) - len("quickly")) <= 1
    assert sum(words != text.split() for words in changed) > 40
    assert add_typing_error("To the sea {items}", generator) == "To the sea {items}"


def test_a_split_contains_its_own_and_the_common_entries() -> None:
    entries = {"train": ["a"], "both": ["b"], "test": ["c"]}
    assert (in_split(entries, "train"), in_split(entries, "test")) == (["a", "b"], ["c", "b"])


def test_an_unknown_corpus_is_named_with_a_suggestion() -> None:
    with pytest.raises(RecipeError, match="did you mean order-texts"):
        find_corpus("order-text")
