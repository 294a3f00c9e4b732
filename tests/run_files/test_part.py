"""Schemas of stored files: strict for writers, tolerant for readers."""

from math import inf, isnan

import pytest
from pydantic import ValidationError

from keeptune.run_files.part import Estimate, Part

ESTIMATE = {"point": 1.0, "low95": 0.9, "high95": 1.1}


class Outer(Part):
    inner: Estimate


def test_a_writer_must_not_add_a_key() -> None:
    with pytest.raises(ValidationError) as caught:
        Outer.checked({"inner": {**ESTIMATE, "median": 1.0}})
    assert caught.value.errors()[0]["loc"] == ("inner", "median")


def test_a_writer_must_not_leave_a_key_out() -> None:
    with pytest.raises(ValidationError) as caught:
        Outer.checked({"inner": {"point": 1.0, "low95": 0.9}})
    assert caught.value.errors()[0]["loc"] == ("inner", "high95")


def test_checked_returns_the_same_object() -> None:
    tree = {"inner": ESTIMATE}
    assert Outer.checked(tree) is tree


def test_a_reader_ignores_keys_of_later_versions() -> None:
    assert Outer.model_validate({"inner": ESTIMATE, "added_later": 1}).inner.low95 == 0.9


def test_null_is_no_value_or_no_upper_end() -> None:
    estimate = Estimate.model_validate({"point": None, "low95": 0.0, "high95": None})
    assert isnan(estimate.point)
    assert estimate.high95 == inf
