"""Builds the in-memory SQLite databases of a text-to-SQL problem and runs queries on them, read-only and bounded.

The schema is what the problem states: its statements CREATE TABLE and INSERT INTO. Tables without rows are filled with
pseudo-random rows that contain the constants of the true query, because on empty tables most wrong queries would be
right (Zhong et al. 2020, "Semantic Evaluation for Text-to-SQL with Distilled Test Suites").
"""

from __future__ import annotations

import random
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

FILLED_DATABASES = 4
"""The number of databases with different pseudo-random rows. A query must be right on all of them."""

ROWS_PER_TABLE = 24

_MAXIMUM_STEPS = 5_000_000
"""Virtual-machine steps per query. Unlike seconds, they give the same result on every machine."""

_STEPS_PER_CHECK = 10_000
_MAXIMUM_RESULT_ROWS = 10_000
_MAXIMUM_VALUE_BYTES = 1_000_000
_MAXIMUM_STATEMENT_BYTES = 100_000

_STATEMENT = re.compile(r"\b(?:CREATE\s+TABLE|INSERT\s+INTO)\b", re.IGNORECASE)
_IDENTIFIER = r"[A-Za-z_][A-Za-z_0-9]*"
_CONSTANT = r"(?:'(?:[^']|'')*'|\"[^\"]*\"|-?[0-9]+(?:\.[0-9]+)?)"
_CONDITION = re.compile(
    rf"({_IDENTIFIER})[\"`\]]?\s*(?:=|==|<>|!=|<=|>=|<|>|\bLIKE\b|\bIN\s*\(|\bBETWEEN\b)\s*({_CONSTANT})", re.IGNORECASE
)
_ANY_CONSTANT = re.compile(_CONSTANT)
_WORDS = ("amber", "birch", "cedar", "delta", "ember", "flint", "grove", "haven")

_ALLOWED_ACTIONS = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}
_FORBIDDEN_FUNCTIONS = {"load_extension", "random", "randomblob", "readfile", "writefile", "fts3_tokenizer"}


class QueryError(Exception):
    """A statement fails, or exceeds a limit."""


def find_statements(text: str) -> list[str]:
    """Return the statements CREATE TABLE and INSERT INTO of a text, which may contain other words."""
    statements = []
    for match in _STATEMENT.finditer(text):
        is_table = match[0].upper().startswith("CREATE")
        end = _statement_end(text, match.end(), stop_at_bracket=is_table)
        statements.append(text[match.start() : end].strip())
    return statements


def _statement_end(text: str, start: int, stop_at_bracket: bool) -> int:
    """Return the end of a statement: its closing bracket, or the next semicolon or empty line outside of quotes."""
    depth, quote = 0, ""
    for position in range(start, len(text)):
        character = text[position]
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"`":
            quote = character
        elif character == "(":
            depth += 1
        elif character == ")":
            depth -= 1
            if depth == 0 and stop_at_bracket:
                return position + 1
        elif depth == 0 and (character == ";" or text.startswith("\n\n", position)):
            return position
    return len(text)


@contextmanager
def open_databases(schema: str, query: str) -> Iterator[list[sqlite3.Connection]]:
    """Open the databases of a problem, closed to changes. `query` is the true one, whose constants rows contain.

    If the schema inserts rows into all tables, there is one database. Otherwise there are `FILLED_DATABASES`.

    Raises:
        QueryError: the text has no table, or a statement fails.
    """
    statements = find_statements(schema)
    connections: list[sqlite3.Connection] = []
    try:
        for seed in range(FILLED_DATABASES):
            connection = sqlite3.connect(":memory:", isolation_level=None)
            connections.append(connection)
            _create(connection, statements)
            is_filled = _fill(connection, query, random.Random(seed))
            connection.set_authorizer(_authorize)
            if not is_filled:
                break
        yield connections
    finally:
        for connection in connections:
            connection.close()


def _create(connection: sqlite3.Connection, statements: Sequence[str]) -> None:
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAXIMUM_VALUE_BYTES)
    connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, _MAXIMUM_STATEMENT_BYTES)
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    if not any(statement[:6].upper() == "CREATE" for statement in statements):
        raise QueryError("the problem has no CREATE TABLE statement")
    for statement in statements:
        try:
            with _bounded(connection):
                connection.execute(statement)
        except (sqlite3.Error, sqlite3.Warning, UnicodeError) as error:
            raise QueryError(f"{error}: {' '.join(statement.split())[:120]}") from None


def run_query(connection: sqlite3.Connection, query: str) -> list[tuple[object, ...]]:
    """Return the rows of one query.

    Raises:
        QueryError: the query fails, is no single SELECT, or exceeds a limit.
    """
    try:
        with _bounded(connection):
            rows = connection.execute(query.strip().rstrip(";")).fetchmany(_MAXIMUM_RESULT_ROWS + 1)
    except (sqlite3.Error, sqlite3.Warning, UnicodeError, MemoryError) as error:
        raise QueryError(str(error)) from None
    if len(rows) > _MAXIMUM_RESULT_ROWS:
        raise QueryError(f"more than {_MAXIMUM_RESULT_ROWS} rows")
    return [tuple(_rounded(value) for value in row) for row in rows]


@contextmanager
def _bounded(connection: sqlite3.Connection) -> Iterator[None]:
    """Interrupt the statements of this block after `_MAXIMUM_STEPS`."""
    checks = iter(range(_MAXIMUM_STEPS // _STEPS_PER_CHECK))
    connection.set_progress_handler(lambda: next(checks, None) is None, _STEPS_PER_CHECK)
    try:
        yield
    finally:
        connection.set_progress_handler(None, 0)


def _authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:  # noqa: ARG001
    is_allowed = action in _ALLOWED_ACTIONS and (
        action != sqlite3.SQLITE_FUNCTION or (second or "").lower() not in _FORBIDDEN_FUNCTIONS
    )
    return sqlite3.SQLITE_OK if is_allowed else sqlite3.SQLITE_DENY


def _rounded(value: object) -> object:
    """Return floats with nine significant digits, because the order of a sum changes its last bits."""
    return float(f"{value:.9g}") if isinstance(value, float) else value


def _fill(connection: sqlite3.Connection, query: str, generator: random.Random) -> bool:
    """Fill the tables without rows; return whether there was any."""
    by_column, constants = _constants(query)
    is_filled = False
    for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        quoted = _quote(table)
        if connection.execute(f"SELECT 1 FROM {quoted} LIMIT 1").fetchone():
            continue
        is_filled = True
        columns = connection.execute(f"PRAGMA table_info({quoted})").fetchall()
        marks = ", ".join("?" * len(columns))
        for number in range(ROWS_PER_TABLE):
            row = [
                _value(number, kind or "", by_column.get(name.lower(), []), constants, generator)
                for _, name, kind, *_ in columns
            ]
            connection.execute(f"INSERT OR IGNORE INTO {quoted} VALUES ({marks})", row)
    return is_filled


def _constants(query: str) -> tuple[dict[str, list[str]], list[str]]:
    """Return the constants of a query by the column that they are compared with, and all of them."""
    by_column: dict[str, list[str]] = {}
    for name, constant in _CONDITION.findall(query):
        by_column.setdefault(name.lower(), []).append(_unquote(constant))
    return by_column, [_unquote(constant) for constant in _ANY_CONSTANT.findall(query)]


def _value(number: int, kind: str, compared: list[str], constants: list[str], generator: random.Random) -> object:
    """Return a value for a column. The first rows meet all conditions of the query, or miss them by one."""
    is_numeric = re.search(r"INT|REAL|NUM|DEC|FLOA|DOUB|BOOL", kind, re.IGNORECASE) is not None
    if compared and (number < 3 or generator.random() < 0.5):
        constant = compared[number % len(compared)] if number < 3 else generator.choice(compared)
        value = _to_number(constant)
        if value is None:
            return constant
        return value + (number if number < 3 else generator.choice((-1, 0, 1)))
    if is_numeric:
        pool = [value for value in map(_to_number, constants) if value is not None]
        return generator.choice(pool) if pool and generator.random() < 0.2 else generator.randint(1, 12)
    if re.search(r"DATE|TIME", kind, re.IGNORECASE):
        return f"20{generator.randint(18, 24)}-{generator.randint(1, 12):02}-{generator.randint(1, 28):02}"
    return generator.choice(constants) if constants and generator.random() < 0.2 else generator.choice(_WORDS)


def _unquote(constant: str) -> str:
    if constant[0] in "'\"":
        return constant[1:-1].replace("''", "'").strip("%")
    return constant


def _to_number(constant: str) -> int | float | None:
    if re.fullmatch(r"-?[0-9]{1,15}", constant):
        return int(constant)
    return float(constant) if re.fullmatch(r"-?[0-9]{1,15}\.[0-9]{1,15}", constant) else None


def _quote(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'
