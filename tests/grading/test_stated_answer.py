"""Boxed and marked answers are found, and read as numbers where they are numbers."""

import json
import os
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeptune.grading.stated_answer import (
    find_boxed,
    find_marked,
    normalize_answer,
    parse_normalized_number,
    parse_stated_truth,
)
from keeptune.skills.arithmetic.kinds import find_kind

SHARED = Path(os.environ.get("KEEPTUNE_SHARED", Path(__file__).resolve().parents[2] / ".." / "shared" / "data"))
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="the public contest and GSM8K rows are not at hand")


@needs_shared
def test_the_real_english_rows() -> None:
    lines = (SHARED / "contest" / "raw_sample.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if find_kind(row["problem"]) is None]
    assert [parse_stated_truth(row["solution"]) for row in rows] == [11, 180, 18, 4, 18, Fraction(3, 4)]


@needs_shared
@pytest.mark.parametrize(("name", "rows"), [("test.jsonl", 1319), ("train_head.jsonl", 2000)])
def test_every_answer_of_gsm8k_is_a_number(name: str, rows: int) -> None:
    lines = (SHARED / "gsm8k" / name).read_text(encoding="utf-8").splitlines()
    assert len(lines) == rows
    for line in lines:
        solution = json.loads(line)["answer"]
        assert parse_stated_truth(solution) == int(solution.split("#### ")[-1].replace(",", ""))


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("18", "18"),
        ("-3", "-3"),
        ("+5", "5"),
        ("- 5", "-5"),
        ("2.50", "5/2"),
        (".5", "1/2"),
        ("5.", "5"),
        ("$5$", "5"),
        (r"\dfrac{1}{16}", "1/16"),
        (r"\dfrac12", "1/2"),
        (r"\frac 59", "5/9"),
        (r"\frac{10}3", "10/3"),
        (r"\tfrac{-3}{4}", "-3/4"),
        (r"-\frac{3}{4}", "-3/4"),
        (r"-\frac{-3}{4}", "3/4"),
        (r"2\frac{1}{3}", "7/3"),
        (r"-2\frac13", "-7/3"),
        ("3/4", "3/4"),
        ("1,000", "1000"),
        ("1{,}000", "1000"),
        (r"10,\!000", "10000"),
        (r"1\,234\,567", "1234567"),
        (r"\$32{,}348.50", "64697/2"),
        (r"\$18.90", "18.9"),
        (r"50\%", "50"),
        ("50%", "50"),
        (r"180^\circ", "180"),
        (r"180^{\circ}", "180"),
        (r"90^\circ\text{ C}", "90"),
        (r"5\text{ cm}", "5"),
        (r"5 \mbox{ cm}^2", "5"),
        (r"5\text{ m}/\text{s}^{2}", "5"),
        (r"\frac{3}{4}\text{ inches}", "3/4"),
        ("x = 5", "5"),
    ],
)
def test_numbers(answer: str, value: str) -> None:
    assert parse_stated_truth(rf"So it is $\boxed{{{answer}}}$, of 99.") == Fraction(value)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (r"7\sqrt{5}", r"7\sqrt{5}"),
        (r"7\sqrt5", r"7\sqrt{5}"),
        (r"5\sqrt{3}\text{ cm}", r"5\sqrt{3}"),
        (r"\dfrac{\sqrt{3}}2", r"\frac{\sqrt{3}}{2}"),
        (r"\frac\pi2", r"\frac{\pi}{2}"),
        (r"\left( \dfrac12, -\frac 35 \right)", r"(\frac{1}{2},-\frac{3}{5})"),
        (r"\left(-\infty,\, 3\right]", r"(-\infty,3]"),
        (r"\leftarrow", r"\leftarrow"),
        (r"\text{(C)}", "(C)"),
        (r"\text{Friday}.", "Friday"),
        (r"\{1,2\}", r"\{1,2\}"),
        (r"2516_{8}", "2516_8"),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
        (r"5\text{ million}", "5million"),
        ("1, 234", "1,234"),
        ("1 234", "1 234"),
        ("3 1/2", "3 1/2"),
        ("0,123", "0,123"),
        ("x = y = 5", "x=y=5"),
        (r"\frac{1}{0}", r"\frac{1}{0}"),
        ("--3/4", "--3/4"),
        ("٣", "٣"),
        ("1_000", "1_000"),
        ("1e5", "1e5"),
    ],
)
def test_other_answers_are_texts(answer: str, text: str) -> None:
    assert parse_stated_truth(rf"So it is $\boxed{{{answer}}}$.") == text


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        (r"$\boxed 5$.", "5"),
        (r"$\boxed5$", "5"),
        (r"\boxed 3.5, for sure", "3.5"),
        (r"$\fbox{7}$ of 8", "7"),
        (r"\boxed {7}", "7"),
        (r"\boxed{1} and then \boxed{2}, not 3", "2"),
        (r"\boxed{\boxed{3}}", "3"),
        (r"\boxed{\frac{1}{\sqrt{2}}}", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{\{x \mid x > 1\}}", r"\{x \mid x > 1\}"),
        (r"\boxed{1 \\{2}}", r"1 \\{2}"),
        (r"\boxed{1} and \boxed{2", None),
        (r"\boxedanswer{5}", None),
        ("the answer is 5", None),
        ("ends in \\boxed", None),
    ],
)
def test_the_last_box_is_taken(solution: str, answer: str | None) -> None:
    assert find_boxed(solution) == answer


@pytest.mark.parametrize(
    ("solution", "answer"),
    [("a\n#### 5", "5"), ("#### 4\n#### 1,080 \r\n", "1,080"), ("####6", "6"), ("a #### 5", None), ("####\n7", None)],
)
def test_the_last_marked_line_is_taken(solution: str, answer: str | None) -> None:
    assert find_marked(solution) == answer


def test_a_box_goes_before_a_mark() -> None:
    assert parse_stated_truth("\\boxed{3}\n#### 4") == 3


@pytest.mark.parametrize("solution", ["", "no answer", r"\boxed{}", r"\boxed{$ $}"])
def test_no_answer(solution: str) -> None:
    assert parse_stated_truth(solution) is None


def test_a_number_without_end_is_not_read() -> None:
    assert parse_normalized_number("9" * 65) is None
    assert parse_normalized_number("1." + "9" * 65) is None
    assert parse_normalized_number("9" * 64) == int("9" * 64)


@given(st.fractions(-(10**30), 10**30, max_denominator=10**30))
def test_every_fraction_is_read_back(value: Fraction) -> None:
    latex = rf"\frac{{{value.numerator}}}{{{value.denominator}}}"
    for answer in (str(value), latex, latex.replace("frac", "dfrac"), rf"\$ {latex}\text{{ kg}}"):
        assert parse_stated_truth(rf"\boxed{{{answer}}}") == value


@given(st.integers(-(10**15), 10**15), st.sampled_from([",", "{,}", r",\!", r"\,"]))
def test_every_grouped_integer_is_read_back(value: int, comma: str) -> None:
    assert parse_stated_truth("#### " + f"{value:,}".replace(",", comma)) == value


@given(st.text(alphabet=r"\{}$%^_.,-=/ 01ab" + "\n", max_size=40))
def test_no_text_breaks_the_reader(text: str) -> None:
    normal = normalize_answer(text)
    assert "\n" not in normal
    truth = parse_stated_truth(f"\\boxed{{{text}}}")
    assert truth is None or truth != ""
