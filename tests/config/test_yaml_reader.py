"""YAML within bounds: the same values as PyYAML's, and an error for inputs that ask for unbounded work (F9)."""

import pytest
import yaml
from cpu_time import bounded_work

from keeptune.config.yaml_reader import MAX_BYTES, YamlError, parse_yaml


@pytest.mark.parametrize(
    "text",
    [
        "a: {b: [1, 2.5, ~, yes, 2024-01-02, 0x1f, 1:30]}",
        "base: &base {x: 1, y: 2}\na: {<<: *base, y: 3}",
        "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], z: 3}",
        "a: &a {x: 1}\nb: &b {<<: *a, y: 2}\nc: {<<: *b}\nd: {<<: *b, x: 4}",
        "a: &a [1, 2]\nb: *a",
        "=: 1",
        "",
    ],
)
def test_values_are_those_of_pyyaml(text: str) -> None:
    assert parse_yaml(text) == yaml.safe_load(text)


def bomb(form: str, leaf: str) -> str:
    """Nine levels, each of which names the level before nine times."""
    levels = "\n".join(form.format(n, ", ".join([f"*l{n - 1}"] * 9)) for n in range(1, 10))
    return f"l0: &l0 {leaf}\n{levels}"


@pytest.mark.parametrize(
    "text",
    [
        bomb("l{0}: &l{0} {{{{<<: [{1}]}}}}".replace("{{{{", "{{").replace("}}}}", "}}"), "{x: 1}"),
        bomb("l{0}: &l{0} [{1}]", "[1]"),
        "a: &a {b: *a}",
        "a: &a [*a, *a]",
        "[" * 100_000,
        "a: " + "9" * 5_000,
        "a: " + "1:" * 100_000 + "1",
        "a: {<<: 1}",
        "a: !!int ''",
        "a: !!bool x",
        "a: !!python/object/apply:os.system [ls]",
        "#" * (MAX_BYTES + 1),
    ],
)
def test_unbounded_work_is_refused(text: str) -> None:
    with bounded_work(), pytest.raises(YamlError):
        parse_yaml(text)


@pytest.mark.parametrize("text", ["a: 1\na: 2", "b:\n- {a: 1,\n   a: 2}", "a: {x: 1, 'x': 2}\n"])
def test_equal_keys(text: str) -> None:
    with pytest.raises(YamlError, match="again"):
        parse_yaml(text)
    assert parse_yaml(text, unique_keys=False) == yaml.safe_load(text)


def test_the_line_is_named() -> None:
    with pytest.raises(YamlError) as caught:
        parse_yaml("a: 1\nb: 2\na: 3")
    assert caught.value.line == 3
