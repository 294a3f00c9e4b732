"""Graders against tables of hand-made answers, and properties that hold for every grader."""

from __future__ import annotations

import json
from importlib import import_module, util
from pathlib import Path
from typing import Any

import pytest
from grading.cases import function as function_cases
from grading.cases import sql as sql_cases
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from keeptune.errors import RecipeError
from keeptune.grading import timed_patterns
from keeptune.grading.answer_location import LOCATIONS, parse_location
from keeptune.grading.base import Grade, Grader, GraderError
from keeptune.grading.graders.user_function import ALLOW_CODE, allow_code
from keeptune.grading.registry import create_grader, grader_class, grader_names

LIBRARIES = {"math": "math_verify", "rouge": "rouge_score", "chrf": "sacrebleu"}
TABLES = ["number", "exact", "contains", "f1", "regex", "label", "choice", "json", "sql", "math", "rouge", "chrf"]
OPTIONS: dict[str, dict[str, Any]] = {
    "label": {"labels": ["red", "blue"]},
    "function": {"file": "x.py:score"},
    "judge": {"url": "http://localhost:8000/v1", "model": "m"},
}

Case = tuple[float | None, str, str]


def needs_library(name: str) -> None:
    if name in LIBRARIES and util.find_spec(LIBRARIES[name]) is None:
        pytest.skip(f"{LIBRARIES[name]} is not installed")


def faults(grader: Grader, cases: list[Case], problem: str = "") -> list[str]:
    """The cases whose score is not the expected one."""
    wrong = []
    for expected, truth, output in cases:
        score = grader.grade(output, truth, problem).score
        is_expected = 0 < score < 1 if expected is None else score == pytest.approx(expected)
        if not is_expected:
            wrong.append(f"truth {truth!r}, output {output!r}: {score}, expected {expected}")
    return wrong


@pytest.mark.parametrize("name", TABLES)
def test_tables(name: str) -> None:
    needs_library(name)
    groups = import_module(f"grading.cases.{name}").GROUPS
    problem = sql_cases.PROBLEM if name == "sql" else ""
    assert sum(len(cases) for _, cases in groups) >= 50
    wrong = [
        fault for options, cases in groups for fault in faults(create_grader({"name": name, **options}), cases, problem)
    ]
    assert not wrong, "\n".join(wrong)


def test_every_grader_has_a_table() -> None:
    assert {*TABLES, "function", "judge"} == set(grader_names()), "test_judge.py has the table of judge"


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "functions.py"
    path.write_text(function_cases.SOURCE, encoding="utf-8")
    monkeypatch.setenv(ALLOW_CODE, "0")
    return path


def test_functions_of_the_user(functions: Path) -> None:
    share, same = (
        create_grader({"name": "function", "file": f"{functions}:{name}"}) for name in ("share_of_words", "is_same")
    )
    with pytest.raises(RecipeError, match="--allow-code"):
        share.grade("x", "x")
    allow_code()
    assert len(function_cases.SHARES) + len(function_cases.SAME) >= 50
    wrong = faults(share, function_cases.SHARES) + faults(same, function_cases.SAME)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("source", "named"),
    [
        (None, "cannot be read"),
        ("def other(): ...", "no function score"),
        ("1 / 0", "ZeroDivisionError"),
        ("def score(output, truth): return 2", "got 2"),
        ("def score(output, truth): return 'x'", "'x'"),
        ("def score(output, truth): raise KeyError('k')", "KeyError('k')"),
    ],
)
def test_a_faulty_function_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, named: str) -> None:
    monkeypatch.setenv(ALLOW_CODE, "1")
    path = tmp_path / "mine.py"
    if source is not None:
        path.write_text(source, encoding="utf-8")
    with pytest.raises(RecipeError) as error:
        create_grader({"name": "function", "file": f"{path}:score"}).grade("x", "x")
    assert "mine.py" in str(error.value) and named in str(error.value)


@pytest.mark.parametrize(
    ("location", "text", "answer"),
    [
        ("whole", " a\nb ", "a\nb"),
        ("whole", " \n", None),
        ("last line", "a\nb\n\n", "b"),
        ("after '####'", "so\n#### 5", "5"),
        ("after '####'", "so #### 5", "5"),
        ("after '####'", "#### Step 1\nso\n#### 5", "5"),
        ("after '####'", "#### Step 1\nso 5", None),
        ("after '####'", "#### 5\nDone.", None),
        ("after '####'", "so\n####", None),
        ('after "The answer is"', "Hm. The answer is 5.", "5."),
        ("boxed", r"so \boxed{5}", "5"),
        ("boxed", r"so \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        ("boxed", r"\boxed{1} or \boxed{2}", "1, 2"),
        ("boxed", "\\boxed{1}\nso \\boxed{2}", "2"),
        ("boxed", "\\boxed{1}\n\nso two", None),
        ("boxed", "\\[\n\\boxed{1}\n\\]", "1"),
        ("boxed", r"\boxed{1", None),
        ("json", 'so {"a": 1}', '{"a": 1}'),
        ("json", '{"a": {"b": 1}}', '{"a": {"b": 1}}'),
        ("json", "{x} [1]", "[1]"),
        ("json", '{"a": 1} ok', None),
        ("json", "5", "5"),
        ("regex [0-9]+ km", "12 or 15 km\n", "15 km"),
        ("regex ([0-9]+) km", "so 15 km", "15"),
        ("regex ([0-9]+) km", "15 km or so", None),
        ("last number", "3 and 4 apples", "4"),
    ],
)
def test_an_answer_is_found_where_a_text_ends(location: str, text: str, answer: str | None) -> None:
    assert parse_location(location).find(text) == answer


@pytest.mark.parametrize("location", ["", "after", "after ''", "bxed", "regex", "regex (", "json 5"])
def test_an_unknown_location_is_refused(location: str) -> None:
    with pytest.raises(ValueError, match="must"):
        parse_location(location)


@given(st.text(max_size=60), st.sampled_from(["after '####'", "boxed", "last line", "whole"]))
def test_a_written_answer_is_found_again(answer: str, description: str) -> None:
    location = parse_location(description)
    answer = " ".join(answer.split())
    assume(answer and not set(answer) & set("{}\\#"))
    assert location.find(f"Some text\n{location.write(answer)}" if description != "whole" else answer) == answer


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("nubmer", "number?"),
        ("zzz", "choose one of"),
        ({"tolerance": 1}, "name"),
        ({"name": "number", "toleranc": 1}, "tolerance?"),
        ({"name": "number", "tolerance": -1}, "tolerance"),
        ({"name": "number", "tolerance": 1, "exact": True}, "only one of"),
        ({"name": "label"}, "labels"),
        ({"name": "label", "labels": ["a", "A"]}, "labels"),
        ({"name": "choice", "letters": "AAB"}, "letters"),
        ({"name": "regex", "pattern": "("}, "pattern"),
        ({"name": "json", "fields": {"price": "nubmer"}}, "fields.price"),
        ({"name": "exact", "answer": "after"}, "quote"),
        ({"name": "function", "file": "x"}, "FILE.py"),
        ({"name": "judge", "model": "m"}, "url is required"),
        ({"name": "judge", "model": "m", "url": "http://me:key@host/v1"}, "url: must be a base URL"),
        ({"name": "judge", "model": "m", "url": "http://host/v1", "mode": "points"}, "mode"),
    ],
)
def test_a_wrong_setting_is_named(setting: Any, named: str) -> None:
    with pytest.raises(GraderError) as error:
        create_grader(setting)
    assert named in str(error.value)


@pytest.mark.parametrize("name", sorted({*TABLES, "function", "judge"}))
def test_a_description_creates_the_same_grader(name: str) -> None:
    grader = create_grader({"name": name, **OPTIONS.get(name, {}), "answer": "last line"})
    assert create_grader(grader.describe()) == grader
    assert grader_class(name).name == name
    assert set(LOCATIONS) >= {"whole"}


@pytest.mark.parametrize("name", TABLES)
@given(answer=st.text(max_size=40), output=st.text(max_size=40), location=st.sampled_from(["whole", "after '####'"]))
@settings(max_examples=60, deadline=None)
def test_a_rows_own_solution_grades_as_right(name: str, answer: str, output: str, location: str) -> None:
    """Whatever `read_truth` accepts, the solution that states it is right; and every score is from 0 to 1."""
    needs_library(name)
    grader = create_grader({"name": name, **OPTIONS.get(name, {}), "answer": location})
    solution = f"Some steps.\n#### {answer}" if location != "whole" else answer
    try:
        truth = grader.read_truth(solution)
    except GraderError:
        return
    if name == "regex":  # the truth is a pattern, which rarely matches itself
        assume(grader.grade(solution, truth).is_right)
    assert grader.grade(solution, truth).is_right
    assert 0 <= grader.grade(output, truth).score <= 1


WORDS = st.sampled_from(["5", "-2", "1/3", "2 1/2", "$5", "1,200", "4.50", "６", "7 km", "A", "red", "BLUE", "[1, 2]"])


@pytest.mark.parametrize("name", ["number", "choice", "label", "json", "f1", "exact"])
@given(answer=WORDS, other=WORDS)
@settings(max_examples=40, deadline=None)
def test_graders_of_values_are_symmetric(name: str, answer: str, other: str) -> None:
    """If a is right for b, b is right for a, where the grader has no tolerance."""
    options = {"exact": True} if name == "number" else OPTIONS.get(name, {})
    grader = create_grader({"name": name, **options, "answer": "whole"})
    try:
        truths = [grader.read_truth(text) for text in (answer, other)]
    except GraderError:
        return
    assert grader.grade(answer, truths[1]).score == pytest.approx(grader.grade(other, truths[0]).score)


def test_label_figures_are_those_of_a_hand_count() -> None:
    grader = create_grader({"name": "label", "labels": ["a", "b", "c"]})
    pairs = [("a", "a"), ("a", "b"), ("b", "b"), ("b", "x"), ("a", "A.")]
    grades = [grader.grade(output, truth) for truth, output in pairs]
    figures = grader.aggregate([truth for truth, _ in pairs], grades)
    assert figures["f1_by_label"] == {"a": pytest.approx(0.8), "b": pytest.approx(0.5)}
    assert figures["macro_f1"] == pytest.approx(0.65)
    assert figures["confusion"] == {"a": {"a": 2, "b": 1}, "b": {"b": 1, "(none)": 1}}


def test_json_figures_name_the_fields() -> None:
    grader = create_grader("json")
    grades = [grader.grade(output, '{"a": 1, "b": [1, 2]}') for output in ('{"a": 1, "b": [1, 2]}', '{"b": [1]}', "x")]
    figures = grader.aggregate(["{}"] * 3, grades)
    assert figures["by_field"] == {"a": 0.5, "b[]": 0.75}
    assert (figures["usable"], figures["all_fields_right"]) == (pytest.approx(2 / 3), pytest.approx(1 / 3))


def test_json_schema_is_enforced() -> None:
    pytest.importorskip("jsonschema")
    schema = {"type": "object", "properties": {"price": {"type": "number"}}, "required": ["price"]}
    grader = create_grader({"name": "json", "schema": schema, "fields": {"price": "number"}})
    assert grader.grade('{"price": 5}', '{"price": 5}').score == 1
    assert grader.grade('{"price": "5"}', '{"price": 5}') == Grade(
        0.0, '{"price": "5"}', {"error": "violates the schema: $.price: '5' is not of type 'number'"}
    )
    with pytest.raises(GraderError, match="schema"):
        grader.read_truth('{"cost": 5}')
    with pytest.raises(GraderError, match="JSON Schema"):
        create_grader({"name": "json", "schema": {"type": 3}})


@pytest.mark.parametrize(
    ("truth", "named"),
    [
        ('{"price": "on request"}', "price"),
        ('{"items": [{"price": 1}, {"price": "?"}]}', "items[1].price"),
    ],
)
def test_a_field_that_its_grader_cannot_compare_rejects_the_row(truth: str, named: str) -> None:
    # Such a row was accepted, and no answer could be right, not even its own solution.
    grader = create_grader({"name": "json", "fields": {"price": "number", "items[].price": "number"}})
    with pytest.raises(GraderError) as error:
        grader.read_truth(truth)
    assert named in str(error.value)
    assert grader.read_truth('{"price": null, "items": [{"price": ""}]}')


@pytest.mark.parametrize(
    ("problem", "query", "named"),
    [
        ("no table", "SELECT 1", "CREATE TABLE"),
        ("CREATE TABLE t (a INT) Ask.", "SELECT b FROM t", "no such column"),
        ("CREATE TABLE t (a INT)\n\nINSERT INTO t VALUES (1, 2)", "SELECT a FROM t", "INSERT INTO t"),
        ("CREATE TABLE t (a INT); INSERT INTO t VALUES (1)", "SELECT a FROM t WHERE a > 1", "no row"),
    ],
)
def test_a_row_whose_query_cannot_be_graded_is_refused(problem: str, query: str, named: str) -> None:
    with pytest.raises(GraderError, match=named):
        create_grader("sql").read_truth(query, problem)


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("SELECT COUNT(*) FROM head WHERE age > 56", "SELECT COUNT(*) FROM head WHERE age >= 56"),
        ("SELECT name FROM head WHERE born = 'Ohio'", "SELECT name FROM head WHERE born <> 'Ohio'"),
        ("SELECT name FROM head WHERE born LIKE '%Oh%'", "SELECT name FROM head"),
        ("SELECT AVG(age) FROM head", "SELECT MAX(age) FROM head"),
        ("SELECT name FROM head WHERE age = 5 AND born = 'x'", "SELECT name FROM head WHERE age = 5 OR born = 'x'"),
        ("SELECT born FROM head GROUP BY born HAVING COUNT(*) > 2", "SELECT DISTINCT born FROM head"),
    ],
)
def test_filled_tables_tell_similar_queries_apart(query: str, wrong: str) -> None:
    problem = "CREATE TABLE head (name VARCHAR, born VARCHAR, age INTEGER)\n\nWhat is asked?"
    grader = create_grader("sql")
    assert grader.grade(query, grader.read_truth(query, problem), problem).is_right
    assert not grader.grade(wrong, query, problem).is_right


SLOW = "(?:a|aa)+"
"""Takes years on 60 letters and another character."""


@pytest.mark.parametrize(
    ("options", "truth"),
    [
        ({"name": "regex"}, SLOW),
        ({"name": "regex", "pattern": f"^({SLOW})$"}, "aaa"),
        ({"name": "exact", "answer": f"regex ^{SLOW}"}, "aaa"),
        ({"name": "json", "schema": {"type": "string", "pattern": f"^{SLOW}$"}}, '"aaa"'),
    ],
)
def test_a_slow_pattern_matches_nothing(options: Any, truth: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """F10 for patterns of rows, graders and schemas: an output decides on the text."""
    monkeypatch.setattr(timed_patterns, "MATCH_SECONDS", 0.05)
    grader = create_grader(options)
    assert grader.grade(truth.replace(SLOW, "aaa"), truth, "").score == 1
    output = "a" * 60 + "!"
    assert grader.grade(json.dumps(output) if options["name"] == "json" else output, truth, "").score == 0


@pytest.mark.parametrize("pattern", ["(", "a{99999999999999999999}", "(" * 5_000 + ")" * 5_000])
def test_a_text_that_is_no_pattern_is_an_error(pattern: str) -> None:
    """F12: deep nesting and huge numbers ended in tracebacks."""
    for options in ({"name": "regex", "pattern": pattern}, {"name": "exact", "answer": f"regex {pattern}"}):
        with pytest.raises(GraderError):
            create_grader(options)
    assert create_grader("regex").grade("a", pattern, "").score == 0


@pytest.mark.parametrize(
    ("pattern", "is_nested"),
    [
        (r"(a+)+", True),
        (r"(?:a|aa)*b", True),
        (r"(x(?=a*))+", True),
        (r"((ab)?c)*", True),
        (r"(?:.*\.)?(?:q_proj|v_proj)$", False),
        (r".*\.layers\.(0|1|12)\..*\.(q_proj|k_proj)", False),
        (r"^(?!.*visual).*?(?:self_attn|mlp).*?[qkv]_proj", False),
        (r"[a-z]{2,5}\d+", False),
    ],
)
def test_nested_repetition(pattern: str, is_nested: bool) -> None:
    assert timed_patterns.has_nested_repetition(pattern) == is_nested
