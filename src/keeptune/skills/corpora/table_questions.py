"""Corpus `table-questions`: questions about small SQLite tables, English and some Chinese, and their queries.

Each problem states another schema: one table with three to six columns in random order, or two tables with a foreign
key. Five of the seven tables of the test split do not occur in the training split.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from keeptune.skills.corpora.corpus import Corpus, Row
from keeptune.skills.corpora.phrases import SplitName, fill, in_split, load_patterns

KINDS = ("filter", "count", "aggregate", "top", "group", "join")

_CHINESE_SHARE = 0.2
_QUESTIONS = {
    "filter": ("list",),
    "count": ("count",),
    "aggregate": ("average", "sum", "maximum", "minimum"),
    "top": ("top", "bottom", "ranking"),
    "group": ("group_count", "group_average", "distinct"),
    "join": ("join_list", "join_count"),
}
_FUNCTIONS = {"average": "AVG", "sum": "SUM", "maximum": "MAX", "minimum": "MIN"}
_OPERATORS = {"equal": "=", "above": ">", "below": "<"}
_ARTICLE = re.compile(r"\ba (?=[aeiou])")


@cache
def _patterns() -> Any:
    return load_patterns("table_questions.json")


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes one question and its query about a domain."""

    generator: random.Random
    split: SplitName
    language: str
    domain: Mapping[str, Any]
    texts: tuple[str, ...]
    """The text columns of the table, the foreign key not included."""
    numbers: tuple[str, ...]

    def pick(self, entries: Mapping[str, Any]) -> str:
        return str(self.generator.choice(in_split(entries[self.language], self.split)))

    def spoken(self, column: str) -> str:
        """Return the words for a column."""
        return str(_patterns()["columns"][column][self.language == "zh"])

    def measured(self) -> str:
        """Return a numeric column that is no year."""
        return self.generator.choice([column for column in self.numbers if not column.endswith("year")])

    def condition(self, phrases: str, owner: Mapping[str, Any], columns: tuple[str, ...]) -> tuple[str, str]:
        """Return a condition on one of the columns in words and in SQL."""
        column = self.generator.choice(columns)
        if column in owner["text"]:
            operator, value = "equal", self.generator.choice(owner["text"][column])
            literal = f"'{value}'"
        else:
            operator = self.generator.choice(("above", "below"))
            low, high = owner["number"][column]
            literal = value = str(_round(self.generator.randint(low + 1, high)))
        slots = {"column": self.spoken(column), "value": value}
        words = fill(self.pick(_patterns()[phrases][operator]), self.generator, slots)
        return words, f"{column} {_OPERATORS[operator]} {literal}"

    def conditions(self, target: str) -> tuple[str, str]:
        """Return one or two conditions on different columns in words and in SQL, none of them on the target."""
        columns = tuple(column for column in (*self.texts, *self.numbers) if column != target)
        words, query = self.condition("conditions", self.domain, columns)
        if len(columns) > 1 and self.generator.random() < 0.3:
            others = tuple(column for column in columns if column != query.split()[0])
            more_words, more = self.condition("conditions", self.domain, others)
            words += (" and " if self.language == "en" else "且") + more_words
            query += f" AND {more}"
        return words, query

    def write(self, kind: str) -> tuple[str, str]:
        """Return a question of a kind and its query."""
        form = self.generator.choice(_QUESTIONS[kind])
        target = self.domain["name"] if self.generator.random() < 0.75 else self.generator.choice(self.texts)
        match kind:
            case "filter":
                slots, query = self._select(target)
            case "count":
                slots, query = self._select("COUNT(*)")
            case "aggregate":
                slots, query = self._aggregate(form)
            case "top":
                slots, query = self._top(form, target)
            case "group":
                slots, query = self._group(form)
            case _:
                slots, query = self._join("COUNT(*)" if form == "join_count" else f"{self.domain['table']}.{target}")
        slots |= {"one": self.domain["one"], "many": self.domain["many"], "entity": self.domain["zh"]}
        slots |= {"target": self.spoken(target), "targets": _plural(self.spoken(target))}
        pattern = self.pick(_patterns()["questions"][form])
        question = fill(pattern, self.generator, slots, error_share=0.15)
        return _ARTICLE.sub("an ", self.pick(_patterns()["openings"]) + question), query

    def _select(self, value: str) -> tuple[dict[str, str], str]:
        words, condition = self.conditions(value)
        return {"condition": words}, f"SELECT {value} FROM {self.domain['table']} WHERE {condition}"

    def _aggregate(self, form: str) -> tuple[dict[str, str], str]:
        column = self.measured()
        query = f"SELECT {_FUNCTIONS[form]}({column}) FROM {self.domain['table']}"
        slots = {"column": self.spoken(column), "with": "", "of": ""}
        if self.generator.random() < 0.5:
            words, condition = self.condition("conditions", self.domain, self.texts)
            slots |= {"with": f" {words}", "of": f"{words}的"}
            query += f" WHERE {condition}"
        return slots, query

    def _top(self, form: str, target: str) -> tuple[dict[str, str], str]:
        column, limit = self.measured(), 1
        if form == "ranking":
            limit = self.generator.randint(2, 9)
        order = "" if form == "bottom" else " DESC"
        query = f"SELECT {target} FROM {self.domain['table']} ORDER BY {column}{order} LIMIT {limit}"
        return {"column": self.spoken(column), "limit": str(limit)}, query

    def _group(self, form: str) -> tuple[dict[str, str], str]:
        group, column, table = self.generator.choice(self.texts), self.measured(), self.domain["table"]
        slots = {"group": self.spoken(group), "groups": _plural(self.spoken(group)), "column": self.spoken(column)}
        if form == "distinct":
            return slots, f"SELECT DISTINCT {group} FROM {table}"
        value = "COUNT(*)" if form == "group_count" else f"AVG({column})"
        return slots, f"SELECT {group}, {value} FROM {table} GROUP BY {group}"

    def _join(self, value: str) -> tuple[dict[str, str], str]:
        parent, table = self.domain["parent"], self.domain["table"]
        words, condition = self.condition("parent_conditions", parent, (*parent["text"], *parent["number"]))
        join = f"JOIN {parent['table']} ON {table}.{parent['column']}_id = {parent['table']}.id"
        slots = {"parent": self.spoken(parent["column"]), "parent_condition": words}
        return slots, f"SELECT {value} FROM {table} {join} WHERE {parent['table']}.{condition}"


def sample(generator: random.Random, split: SplitName) -> Row:
    """Return a random schema with a question, and its query. The kind is the form of the query."""
    kind = generator.choice(KINDS)
    domain = generator.choice(in_split(_patterns()["domains"], split))
    parent = domain["parent"]
    texts = [column for column in domain["text"] if kind != "join" or column != parent["column"]]
    texts = generator.sample(texts, generator.randint(1, len(texts)))
    # The first two numeric columns of each domain are no years.
    measure = generator.choice(list(domain["number"])[:2])
    others = [column for column in domain["number"] if column != measure]
    numbers = [measure, *generator.sample(others, generator.randint(0, len(others)))]
    keys = [f"{parent['column']}_id"] if kind == "join" else []
    tables = [_create_table(domain["table"], [domain["name"], *texts], [*numbers, *keys], generator)]
    if kind == "join":
        columns = ["name", *parent["text"]], ["id", *parent["number"]]
        tables.append(_create_table(parent["table"], *columns, generator))
        generator.shuffle(tables)
    language = "zh" if generator.random() < _CHINESE_SHARE else "en"
    question, query = _Writer(generator, split, language, domain, tuple(texts), tuple(numbers)).write(kind)
    return {"problem": "\n".join((*tables, question)), "solution": query, "kind": kind}


def _create_table(name: str, texts: Sequence[str], numbers: Sequence[str], generator: random.Random) -> str:
    """Return the statement that creates a table, with its columns in random order."""
    columns = [f"{column} TEXT" for column in texts] + [f"{column} INTEGER" for column in numbers]
    return f"CREATE TABLE {name} ({', '.join(generator.sample(columns, len(columns)))})"


def _round(number: int) -> int:
    """Return a large number without its last two digits, as people name limits. Years stay."""
    return number if number < 3000 else number // 100 * 100


def _plural(noun: str) -> str:
    """Return the plural of an English noun; Chinese nouns do not change."""
    if not noun.isascii():
        return noun
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith("s") else f"{noun}s"


TABLE_QUESTIONS = Corpus("table-questions", {"skill": "sql", "columns": {"kind": "kind"}, "kinds": list(KINDS)}, sample)
