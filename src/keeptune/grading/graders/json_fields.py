"""Grader `json`: the share of the fields of a JSON value that are right, each by its declared rule."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import ConfigDict, Field, field_validator

from keeptune.errors import RecipeError
from keeptune.grading.base import Details, Grade, Grader, GraderError, LocationName
from keeptune.grading.registry import AnyGrader
from keeptune.grading.timed_patterns import pattern_fault, search

_MAXIMUM_DEPTH = 40
_MISSING = object()


class JsonFields(Grader):
    """Compares JSON values field by field. The score is the mean over all fields of the truth and of the answer.

    The order of keys does not matter. A field without a rule must be equal in value and type: `"5"` is not 5. A field
    that only one side has scores 0. An answer that is no JSON, or violates the schema, scores 0.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True)

    name: ClassVar[str] = "json"
    is_binary: ClassVar[bool] = False

    answer: LocationName = Field("json", description="as for the other graders")
    fields_: dict[str, AnyGrader] = Field(
        default_factory=dict,
        alias="fields",
        description="path → grader of that field, such as `price: number`; `address.city` is a nested field, and "
        "`items[].price` a field of each element of a list",
    )
    unordered: tuple[str, ...] = Field((), description="paths of lists whose elements may come in any order")
    schema_: dict[str, Any] | None = Field(
        None, alias="schema", description="JSON Schema that the answer must satisfy (needs `keeptune[graders]`)"
    )

    @field_validator("schema_")
    @classmethod
    def _check_schema(cls, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        if schema is not None and (fault := _schema_fault(schema)):
            raise ValueError(f"must be a valid JSON Schema: {fault}")
        return schema

    def check_truth(self, truth: str, problem: str = "") -> None:
        value = _parse(truth)
        if value is _MISSING:
            raise GraderError(f"the answer is not JSON: {truth[:80]!r}")
        if violation := self._violation(value):
            raise GraderError(f"the answer violates the schema: {violation}")
        self._check_fields("", "", value)

    def _check_fields(self, path: str, rule: str, value: Any) -> None:
        """Check that the grader of each field can compare the value that the truth has there.

        Raises:
            GraderError: it cannot, so that no answer would get the full score.
        """
        if grader := self.fields_.get(rule):
            try:
                if not _is_blank(value):
                    grader.read_truth(_to_text(value))
            except GraderError as error:
                raise GraderError(
                    f"the field {path or '(value)'} does not fit its grader {grader.name}: {error}"
                ) from None
        elif isinstance(value, dict):
            for key, item in value.items():
                below, below_rule = (f"{path}.{key}", f"{rule}.{key}") if path else (key, key)
                self._check_fields(below, below_rule, item)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                self._check_fields(f"{path}[{index}]", f"{rule}[]", item)

    def compare(self, answer: str, truth: str, problem: str) -> Grade:
        value = _parse(answer)
        if value is _MISSING:
            return Grade(0.0, answer, {"error": "not JSON"})
        if violation := self._violation(value):
            return Grade(0.0, answer, {"error": f"violates the schema: {violation}"})
        scores = dict(self._score("", "", _parse(truth), value))
        return Grade(sum(scores.values()) / len(scores), answer, {"fields": scores})

    def aggregate(self, truths: Sequence[str], grades: Sequence[Grade]) -> Details:
        """Return the mean score per field, the share of answers with all fields right, and that of usable answers."""
        by_field: dict[str, list[float]] = defaultdict(list)
        for grade in grades:
            for path, score in grade.details.get("fields", {}).items():
                by_field[_without_indices(path)].append(score)
        count = max(1, len(grades))
        return {
            "all_fields_right": sum(grade.is_right for grade in grades) / count,
            "usable": sum("fields" in grade.details for grade in grades) / count,
            "by_field": {path: sum(scores) / len(scores) for path, scores in by_field.items()},
        }

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, **self.model_dump(mode="json", by_alias=True)}

    def _score(self, path: str, rule: str, expected: Any, value: Any) -> Iterator[tuple[str, float]]:
        """Yield the score of each field below `path`. `rule` is the path with `[]` in place of indices."""
        if rule in self.fields_ or not isinstance(expected, (dict, list)) or not expected:
            yield path or "(value)", self._score_field(rule, expected, value)
        elif isinstance(expected, dict):
            fields = value if isinstance(value, dict) else {}
            for key in [*expected, *(key for key in fields if key not in expected)]:
                below, below_rule = (f"{path}.{key}", f"{rule}.{key}") if path else (key, key)
                left, right = expected.get(key, _MISSING), fields.get(key, _MISSING)
                yield from self._score_child(below, below_rule, left, right)
        elif rule in self.unordered:
            yield path or "(value)", self._score_unordered(rule, expected, value)
        else:
            elements = value if isinstance(value, list) else []
            for index in range(max(len(expected), len(elements))):
                left, right = (side[index] if index < len(side) else _MISSING for side in (expected, elements))
                yield from self._score_child(f"{path}[{index}]", f"{rule}[]", left, right)

    def _score_child(self, path: str, rule: str, expected: Any, value: Any) -> Iterator[tuple[str, float]]:
        if expected is _MISSING:
            yield path, 0.0
        else:
            yield from self._score(path, rule, expected, value)

    def _score_field(self, rule: str, expected: Any, value: Any) -> float:
        if value is _MISSING:
            return 0.0
        if _is_blank(expected) or value is None:  # no grader reads an absent value
            return float(_are_equal(expected, value))
        if grader := self.fields_.get(rule):
            return grader.grade(_to_text(value), _to_text(expected)).score
        return float(_are_equal(expected, value))

    def _score_unordered(self, rule: str, expected: list[Any], value: Any) -> float:
        """Return the share of elements with a partner of full score, relative to the longer list."""
        rest = list(value) if isinstance(value, list) else []
        size, matched = max(len(expected), len(rest)), 0
        for element in expected:
            partner = next((place for place, other in enumerate(rest) if self._is_equal(rule, element, other)), None)
            if partner is not None:
                matched += 1
                del rest[partner]
        return matched / size

    def _is_equal(self, rule: str, expected: Any, value: Any) -> bool:
        return all(score == 1 for _, score in self._score("x", f"{rule}[]", expected, value))

    def _violation(self, value: Any) -> str | None:
        if self.schema_ is None:
            return None
        jsonschema, registry = _import_jsonschema()
        validator = jsonschema.validators.validator_for(self.schema_, default=jsonschema.Draft202012Validator)
        timed = jsonschema.validators.extend(validator, {"pattern": _pattern_errors})
        error = jsonschema.exceptions.best_match(timed(self.schema_, registry=registry).iter_errors(value))
        return None if error is None else f"{error.json_path}: {error.message[:120]}"


def _pattern_errors(validator: Any, pattern: str, value: Any, _: Any) -> Iterator[Any]:
    """Yield the violation of the keyword `pattern`: that of jsonschema has no time limit."""
    if validator.is_type(value, "string"):
        try:
            match = None if pattern_fault(pattern) else search(pattern, value)
        except TimeoutError:
            match = None
        if match is None:
            yield _import_jsonschema()[0].ValidationError(f"{value!r} does not match {pattern!r}")


def _parse(text: str) -> Any:
    """Return the JSON value of a text, or `_MISSING` if it is no JSON or nested too deeply."""
    try:
        value = json.loads(text, parse_constant=_reject_constant)
    except (ValueError, RecursionError):
        return _MISSING
    return value if _has_depth(value, _MAXIMUM_DEPTH) else _MISSING


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _has_depth(value: Any, limit: int) -> bool:
    """Whether a value is nested at most `limit` times."""
    if not isinstance(value, (dict, list)):
        return True
    children = value.values() if isinstance(value, dict) else value
    return limit > 0 and all(_has_depth(child, limit - 1) for child in children)


def _are_equal(expected: Any, value: Any) -> bool:
    """Whether two JSON values are equal. 1 equals 1.0, but neither equals true or "1"."""
    if isinstance(expected, bool) or isinstance(value, bool):
        return expected is value
    if isinstance(expected, (int, float)) and isinstance(value, (int, float)):
        return expected == value
    if isinstance(expected, str) and isinstance(value, str):
        return unicodedata.normalize("NFC", expected) == unicodedata.normalize("NFC", value)
    return type(expected) is type(value) and expected == value


def _is_blank(value: Any) -> bool:
    """Whether a field has no value: null or a blank text."""
    return value is None or (isinstance(value, str) and not value.strip())


def _to_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _without_indices(path: str) -> str:
    return re.sub(r"\[[0-9]+\]", "[]", path)


def _schema_fault(schema: Mapping[str, Any]) -> str | None:
    jsonschema, _ = _import_jsonschema()
    validator = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        validator.check_schema(schema)
    except jsonschema.exceptions.SchemaError as error:
        return str(error.message)[:120]
    return None


def _import_jsonschema() -> tuple[Any, Any]:
    """Return the library and an empty registry, so that no schema is fetched from the network."""
    try:
        import jsonschema
        import referencing
    except ImportError:
        raise RecipeError("schema needs the library jsonschema: pip install 'keeptune[graders]'") from None
    return jsonschema, referencing.Registry()
