"""Formatting of figures, against exact values."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeptune.report import text
from keeptune.run_files.part import Estimate
from keeptune.run_files.result import Share


@given(st.fractions())
def test_finite_decimals_are_exact(value: Fraction) -> None:
    written = text.truth(str(value))
    exact, _, approximation = written.partition("≈ ")
    if exact:
        assert Fraction(exact.strip()) == value
    if approximation:
        assert abs(Fraction(approximation) - value) <= abs(value) / 10**9
    assert exact or approximation


@pytest.mark.parametrize(
    ("exact", "written"),
    [
        ("2467/2", "1233.5"),
        ("-133995857/5", "-26799171.4"),
        ("20/39", "20/39 ≈ 0.5128205128"),
        ("-1", "-1"),
        ("2\\sqrt{5}", "2\\sqrt{5}"),
        ("1/0", "1/0"),
        (f"{10**40 + 1}/3", "≈ 3.333333333E+39"),
        ("(3/4, 1)", "(3/4, 1)"),
    ],
)
def test_truths(exact: str, written: str) -> None:
    assert text.truth(exact) == written


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (61.4, "1 min 1 s"),
        (119.7, "2 min 0 s"),
        (3600, "1 h 0 min"),
        (7384, "2 h 3 min"),
        (90_000, "25 h 0 min"),
    ],
)
def test_durations(seconds: float, written: str) -> None:
    assert text.duration(seconds) == written


@pytest.mark.parametrize(
    ("byte_count", "written"), [(999, "999 B"), (1000, "1.0 kB"), (2_345_678_901, "2.3 GB"), (5 * 10**15, "5000.0 TB")]
)
def test_sizes(byte_count: int, written: str) -> None:
    assert text.size(byte_count) == written


def test_shares_ratios_and_differences_have_intervals() -> None:
    assert text.share_interval(Share(accuracy=0.5, n=4, ci95=(0.15, 0.85))) == "15.0% to 85.0%"
    assert text.ratio_interval(Estimate(point=1, low95=0.957, high95=float("inf"))) == "95.7% to ∞"
    assert text.gain(Estimate(point=-0.05, low95=-0.1, high95=0.002)) == "-5.0 points (95 %: -10.0 to +0.2)"


@pytest.mark.parametrize(("value", "written"), [(0.0, "p < 0.0001"), (0.03217, "p = 0.032"), (1.0, "p = 1")])
def test_p_values(value: float, written: str) -> None:
    assert text.p_value(value) == written


def test_non_finite_numbers() -> None:
    assert [text.percent(value) for value in (float("nan"), float("inf"), float("-inf"))] == ["–", "∞", "−∞"]
    assert text.decimal(float("nan")) == "–"


def test_settings_have_dotted_names() -> None:
    tree = {"files": ["a", "b"], "synth": None, "quota": {}, "split": {"dev": 100, "test": 300}, "flag": True}
    assert list(text.settings(tree)) == [
        ("files", "a, b"),
        ("synth", "–"),
        ("quota", "–"),
        ("split.dev", "100"),
        ("split.test", "300"),
        ("flag", "yes"),
    ]


def test_language_of_chinese_texts() -> None:
    assert text.language("计算 1 + 1") == "zh"
    assert text.language("√5 ≈ 2.236 °C") is None
