"""Grader `sql`: runs the answer and the true query on the row's SQLite schema and compares their results."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from keeptune.grading.answer_location import remove_fence
from keeptune.grading.base import Details, Grade, Grader, GraderError
from keeptune.grading.sql_database import QueryError, open_databases, run_query

_ORDERED = re.compile(r"\bORDER\s+BY\b", re.IGNORECASE)
_BRACKETS = re.compile(r"\([^()]*\)")

Rows = list[tuple[object, ...]]


class Sql(Grader):
    """Equality of query results. The schema is in the problem, or in the option `tables` for all rows.

    Rows are compared in order only if the true query ends with ORDER BY. Names of columns do not matter.
    """

    name: ClassVar[str] = "sql"

    tables: str = Field("", description="statements CREATE TABLE and INSERT INTO for all rows, before those of a row")

    def check_truth(self, truth: str, problem: str = "") -> None:
        try:
            results = self._results([truth], truth, problem)
        except QueryError as error:
            raise GraderError(f"the schema or the query of the row fails: {error}") from None
        if not any(rows for (rows,) in results):
            raise GraderError("the query returns no row, so that every empty result would be right")

    def compare(self, answer: str, truth: str, problem: str) -> Grade:
        try:
            results = self._results([truth, answer], truth, problem)
        except QueryError as error:
            return Grade(0.0, answer, {"error": str(error)})
        is_right = all(_are_equal(expected, rows, _is_ordered(truth)) for expected, rows in results)
        return Grade(float(is_right), answer, {"error": None})

    def aggregate(self, truths: Sequence[str], grades: Sequence[Grade]) -> Details:
        """Return the share of answers that run."""
        runs = sum(grade.answer is not None and grade.details.get("error") is None for grade in grades)
        return {"runs": runs / max(1, len(grades))}

    def _results(self, queries: Sequence[str], truth: str, problem: str) -> list[list[Rows]]:
        """Return the rows of each query, for each database."""
        with open_databases(f"{self.tables}\n\n{problem}", remove_fence(truth)) as connections:
            return [[run_query(connection, remove_fence(query)) for query in queries] for connection in connections]


def _is_ordered(query: str) -> bool:
    """Whether a query ends with ORDER BY, outside of subqueries."""
    outer = query
    while (shorter := _BRACKETS.sub("", outer)) != outer:
        outer = shorter
    return _ORDERED.search(outer) is not None


def _are_equal(expected: Rows, rows: Rows, is_ordered: bool) -> bool:
    return expected == rows if is_ordered else Counter(expected) == Counter(rows)
