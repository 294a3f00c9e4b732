"""Tests of the recipe: validation, error messages, overrides, and the stored form."""

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from keeptune.config.recipe import Recipe, dump, load, load_stored, parse, without_suite
from keeptune.errors import RecipeError
from keeptune.grading.registry import EMBEDDED_GRADERS, grader_class

SYNTH = {"data": {"synth": {"rows": 100}}}


def errors_of(tree: Any) -> list[str]:
    """The messages of a recipe that must be rejected, without the file name in front of the only or the first one."""
    with pytest.raises(RecipeError) as caught:
        parse(tree, "a.yaml")
    first, *listed = str(caught.value).splitlines()
    if not listed:
        return [first.removeprefix("a.yaml: ")]
    assert first == f"a.yaml: {len(listed)} errors"
    return [line.removeprefix("  - ") for line in listed]


def stored(folder: Path, text: str) -> Path:
    path = folder / "a.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_smallest_recipe_has_every_default() -> None:
    recipe = parse(SYNTH, "a.yaml")
    assert (recipe.seed, recipe.adapter.rank, recipe.retain.replay_share) == (0, 16, 0.1)
    assert recipe.prompt.template == "Question: {problem}\nAnswer:\n"


def test_all_errors_are_listed_at_once_with_their_keys() -> None:
    tree = {
        "seed": "many",
        "modell": {},
        "data": {"synth": {"rows": 0, "sed": 1}, "styles": {"add": "long"}, "max_token": 9},
        "adapter": {"ranks": 4, "dropout": 1.0},
        "train": {"learning_rat": 1e-3, "zzzzz": 1},
    }
    messages = {re.split(r":? ", line)[0]: line for line in errors_of(tree)}
    assert messages.keys() == {
        "seed",
        "modell",
        "data.synth.rows",
        "data.synth.sed",
        "data.styles.add",
        "data.max_token",
        "adapter.ranks",
        "adapter.dropout",
        "train.learning_rat",
        "train.zzzzz",
    }
    assert messages["modell"].startswith("modell: ") and messages["modell"].endswith("did you mean model?")
    assert messages["data.synth.sed"].startswith("data.synth.sed: ")
    assert messages["data.synth.sed"].endswith("did you mean seed?")
    assert messages["data.max_token"].endswith("did you mean max_tokens?")
    assert messages["adapter.ranks"].endswith("did you mean rank?")
    assert messages["train.learning_rat"].endswith("did you mean learning_rate?")
    assert "known here: epochs, tokens_per_step, " in messages["train.zzzzz"]
    assert "longhand" in messages["data.styles.add"]
    assert messages["seed"] == "seed must be an integer (got many)"
    assert messages["adapter.dropout"] == "adapter.dropout must be < 1 (got 1.0)"


@pytest.mark.parametrize("data", [{}, {"files": ["a.jsonl"], "synth": {"rows": 5}}])
def test_data_needs_exactly_one_source(data: dict[str, Any]) -> None:
    (message,) = errors_of({"data": data})
    assert "data.files" in message and "data.synth" in message


def test_only_arithmetic_is_generated() -> None:
    (message,) = errors_of({"data": {"synth": {"rows": 5}, "skill": "text"}})
    assert message.startswith("data.synth ")


def test_a_text_cannot_be_corrected() -> None:
    (message,) = errors_of({"data": {"files": ["a.jsonl"], "skill": "text", "wrong": "correct"}})
    assert message.startswith("data.wrong: correct needs")


@pytest.mark.parametrize(
    "choice", [{"train": {"score_every_steps": 9}}, {"select": {"scales": [0.5]}}, {"select": {"averages": ["ema"]}}]
)
def test_selection_needs_dev_questions(choice: dict[str, Any]) -> None:
    for none in ({"data": {**SYNTH["data"], "split": {"dev": 0}}}, {**SYNTH, "score": {"dev_limit": 0}}):
        assert "set data.split.dev > 0 and score.dev_limit > 0" in errors_of({**none, **choice})[0]


def test_an_unknown_key_in_a_list_has_a_suggestion() -> None:
    messages = errors_of({"data": {"files": ["a.jsonl"], "slices": [{"kind": "add", "row": [1, 2]}]}})
    assert "data.slices.0.row: no such key; did you mean rows?" in messages


def test_a_symbolic_link_keeps_its_own_name_and_suffix(tmp_path: Path) -> None:
    (tmp_path / "blob").touch()
    (tmp_path / "rows.csv").symlink_to(tmp_path / "blob")
    path = stored(tmp_path, "data: {files: [x/../rows.csv]}")
    assert load(path).data.files == (str(tmp_path / "rows.csv"),)


def test_spelling_is_checked_and_only_for_arithmetic() -> None:
    assert parse(SYNTH, "a.yaml").data.spelling == "plain"
    assert parse({"data": {**SYNTH["data"], "spelling": "spaced"}}, "a.yaml").data.spelling == "spaced"
    assert "grouped" in errors_of({"data": {**SYNTH["data"], "spelling": "roman"}})[0]
    rows = {"files": ["a.jsonl"], "skill": "text", "spelling": "spaced"}
    assert errors_of({"data": rows})[0].startswith("data.spelling needs data.skill: arithmetic")


@pytest.mark.parametrize("template", ["Question:", "{problem} {problem}"])
def test_a_template_has_one_placeholder(template: str) -> None:
    messages = errors_of({**SYNTH, "prompt": {"template": template}})
    assert messages[0].startswith("prompt.template: ")
    assert "{problem} exactly once" in messages[0]


@pytest.mark.parametrize("key", ["epochs", "learning_rate", "weight_decay", "clip_norm"])
@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_amounts_must_be_finite(key: str, value: float) -> None:
    (message,) = errors_of({**SYNTH, "train": {key: value}})
    assert message.startswith(f"train.{key} must be a finite number")


def test_files_are_relative_to_the_recipe(tmp_path: Path) -> None:
    path = stored(tmp_path, "data: {files: [rows.jsonl, ../more.json, /far/away.jsonl]}")
    assert load(path).data.files == (
        str((tmp_path / "rows.jsonl").resolve()),
        str((tmp_path.parent / "more.json").resolve()),
        "/far/away.jsonl",
    )


def test_reading_sets_and_texts_are_relative_to_the_recipe_unless_embedded(tmp_path: Path) -> None:
    score = "score: {retained: squad.json, general: notes.txt}\nretain: {replay: [embedded, more.json]}"
    recipe = load(stored(tmp_path, f"data: {{synth: {{rows: 100}}}}\n{score}"))
    squad, notes, more = (str((tmp_path / name).resolve()) for name in ("squad.json", "notes.txt", "more.json"))
    assert (recipe.score.retained, recipe.score.general, recipe.retain.replay) == (squad, (notes,), ("embedded", more))
    nothing = load(stored(tmp_path, "data: {synth: {rows: 100}}\nscore: {general: []}"))
    assert (nothing.score.retained, nothing.score.general) == ("embedded", ())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ("retain: {activation: invoked}", "set both or neither"),
        ("retain: {invocation: call}", "set both or neither"),
        ("retain: {activation: invoked, invocation: call}", "does not contain 'call' before"),
        ("retain: {activation: invoked, invocation: call, replay_share: 0.1}", "train nothing"),
        ("retain: {activation: invoked, invocation: call, kl_weight: 0.1}", "train nothing"),
        ("retain: {activation: invoked, invocation: 'Q: '}\nadapter: {family: dora}", "needs adapter.family: lora"),
        ("retain: {activation: invoked, invocation: 'Q: '}\nadapter: {dropout: 0.1}", "adapter.dropout: 0"),
        ("retain: {token_weighting: dtf}", "did you mean dft?"),
    ],
)
def test_an_invocation_without_effect_is_rejected(tmp_path: Path, changes: str, expected: str) -> None:
    text = f"data: {{synth: {{rows: 100}}}}\nprompt: {{template: 'Q: {{problem}} call'}}\n{changes}"
    with pytest.raises(RecipeError, match=re.escape(expected)):
        load(stored(tmp_path, text))


def test_an_invoked_adapter_replays_nothing_by_default(tmp_path: Path) -> None:
    invoked = "prompt: {template: 'call {problem}'}\nretain: {activation: invoked, invocation: call}"
    text = f"data: {{synth: {{rows: 100}}}}\n{invoked}"
    assert load(stored(tmp_path, text)).retain.replay_share == 0


def test_overrides_set_nested_keys_and_create_sections(tmp_path: Path) -> None:
    path = stored(tmp_path, "data: {synth: {rows: 100}}\ntrain: {epochs: 1}")
    overrides = (
        "seed=7",
        "train.epochs=2.5",
        "train.learning_rate=1e-3",
        "data.synth.rows=9",
        "adapter.targets=[q_proj, v_proj]",
        "data.styles.add=raw",
        "name=",
        "prompt.template=a=b {problem}",
    )
    with pytest.raises(RecipeError, match="name must be a string"):
        load(path, overrides)
    recipe = load(path, tuple(override for override in overrides if override != "name="))
    assert (recipe.seed, recipe.train.epochs, recipe.train.learning_rate) == (7, 2.5, 0.001)
    assert recipe.data.synth is not None
    assert recipe.data.synth.rows == 9
    assert recipe.adapter.targets == ("q_proj", "v_proj")
    assert recipe.data.styles == {"add": "raw"}
    assert recipe.prompt.template == "a=b {problem}"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epochs", "--set train.epochs: use section.key=value"),
        ("=5", "--set =5: use section.key=value"),
        ("seed.x=5", "--set seed.x=5: seed is a value, not a section"),
        ("train.epoch=5", "train.epoch: no such key; did you mean epochs?"),
        ("name=[", "--set name=[: not valid YAML"),
        ("name=2024-99-99", "--set name=2024-99-99: not valid YAML"),
    ],
)
def test_a_malformed_override_is_rejected(tmp_path: Path, override: str, message: str) -> None:
    path = stored(tmp_path, "seed: 1\ndata: {synth: {rows: 100}}")
    with pytest.raises(RecipeError) as caught:
        load(path, (override,))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a recipe is a mapping of sections"),
        (b"- a\n- b\n", "a recipe is a mapping of sections"),
        (b"a: [", "not valid YAML"),
        (b"name: 2024-99-99", "not valid YAML"),
        (b"name: \xff\xfe", "not UTF-8 text"),
        (b"name: a\x00b", "not valid YAML"),
    ],
)
def test_a_file_that_is_not_a_recipe_is_rejected(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}:")
    assert message in str(caught.value)


def test_a_missing_file_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"none\.yaml: .*No such file"):
        load(tmp_path / "none.yaml")
    with pytest.raises(RecipeError, match="cannot read the recipe"):
        load(tmp_path)


# Without the line breaks that only Unicode knows: PyYAML writes them as they are and reads them as spaces.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x85\u2028\u2029"), max_size=20)
TREES = st.fixed_dictionaries(
    {"data": st.fixed_dictionaries({"synth": st.fixed_dictionaries({"rows": st.integers(1, 10**9)})})},
    optional={
        "name": TEXT,
        "seed": st.integers(0, 2**63 - 1),
        "prompt": st.builds(lambda a, b: {"template": f"{a}{{problem}}{b}"}, TEXT, TEXT),
        "adapter": st.fixed_dictionaries({"targets": TEXT | st.lists(TEXT), "rank": st.integers(1, 999)}),
        "train": st.fixed_dictionaries({}, optional={"learning_rate": st.floats(1e-300, 1e30)}),
        "retain": st.fixed_dictionaries({}, optional={"replay": TEXT}),
    },
)


@given(TREES)
def test_a_stored_recipe_loads_as_the_same_recipe(tree: dict[str, Any]) -> None:
    recipe = parse(tree, "a.yaml")
    again = parse(yaml.safe_load(dump(recipe)), "stored")
    assert again == recipe
    assert dump(again) == dump(recipe)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXT | st.integers(), inner), max_leaves=6
)


@given(st.dictionaries(st.sampled_from([*Recipe.model_fields, "x"]) | st.integers(), VALUES))
def test_any_mapping_loads_or_raises_a_recipe_error(tree: dict[Any, Any]) -> None:
    try:
        parse(tree, "a.yaml")
    except RecipeError as error:
        assert str(error).startswith("a.yaml: ")


@given(st.text(max_size=40))
def test_any_text_loads_or_raises_a_recipe_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        load(path, (f"name={text}",))
    except RecipeError as error:
        assert str(error)


TEACHER = {"url": "http://localhost:8000/v1", "model": "m", "task": "reasoning"}


def test_a_teacher_has_defaults_and_no_stored_key() -> None:
    recipe = parse({"data": {"synth": {"rows": 100}, "teacher": TEACHER}}, "a.yaml")
    assert recipe.data.teacher is not None
    assert (recipe.data.teacher.samples, recipe.data.teacher.key_variable) == (2, "OPENAI_API_KEY")
    assert parse(yaml.safe_load(dump(recipe)), "stored") == recipe


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"url": "localhost:8000"}, "data.teacher.url must be a base URL"),
        ({"url": "http://name:secret@host/v1"}, "data.teacher.url must be a base URL"),
        ({"url": "https://host/v1?key=secret"}, "data.teacher.url must be a base URL"),
        ({"temperature": 0}, "data.teacher.samples must be 1 at"),
        ({"key_variable": "sk-secret"}, "data.teacher.key_variable must match"),
        ({"api_key": "secret"}, "data.teacher.api_key: no such key; "),
        ({"task": "translate"}, "data.teacher.task must be one of"),
        ({"prices": {"prompt_per_million": 1}}, "data.teacher.prices.completion_per_million is required"),
    ],
)
def test_error_messages_about_a_teacher_contain_no_secret(change: dict[str, Any], expected: str) -> None:
    (line,) = errors_of({"data": {"synth": {"rows": 100}, "teacher": {**TEACHER, **change}}})
    assert line.startswith(expected)
    assert "secret" not in line


@pytest.mark.parametrize(
    ("adapter", "expected"),
    [
        ({"family": "ia3", "rank": 4}, "adapter.rank: ia3 has no rank"),
        ({"family": "ia3", "alpha": 32}, "adapter.alpha: ia3 has no alpha"),
        ({"family": "ia3", "dropout": 0.1}, "adapter.dropout: ia3 has no dropout"),
        ({"family": "vera", "alpha": 8}, "adapter.alpha: vera has no alpha"),
        ({"family": "pissa", "dropout": 0.0}, "adapter.dropout: pissa has no dropout"),
        ({"family": "lorra"}, "adapter.family must be one of lora, rslora, dora, pissa, vera, ia3"),
        ({"family": ["lora"]}, "adapter.family must be one of lora, "),
        ({"famly": "dora"}, "adapter.famly: no such key; did you mean family?"),
        ({"layers": [5, 4]}, "adapter.layers must be [first, last]"),
        ({"layers": [-1, 4]}, "adapter.layers.0 must be ≥ 0 (got -1)"),
        ({"layers": [3]}, "adapter.layers.1 is required"),
        ({"layers": "all"}, "adapter.layers must be a list"),
    ],
)
def test_options_that_a_family_lacks_are_rejected(adapter: dict[str, Any], expected: str) -> None:
    (line,) = errors_of({**SYNTH, "adapter": adapter})
    assert line.startswith(expected)
    if "has no" in expected:
        assert "remove the key, or use lora, rslora, dora" in line


def test_all_unsupported_options_are_listed_at_once() -> None:
    (line,) = errors_of({**SYNTH, "adapter": {"family": "ia3", "rank": 4, "alpha": 8, "dropout": 0.1}})
    assert all(f"ia3 has no {option}: " in line for option in ("rank", "alpha", "dropout"))


@pytest.mark.parametrize(
    ("adapter", "train", "expected"),
    [
        ("vera", {"loraplus_ratio": 16}, "train.loraplus_ratio needs a family"),
        ("ia3", {"loraplus_ratio": 2}, "train.loraplus_ratio needs a family"),
        ("lora", {"loraplus_ratio": 0}, "train.loraplus_ratio must be > 0"),
        ("lora", {"loraplus_lr_ratio": 16}, "train.loraplus_lr_ratio: no such key; did you mean loraplus_ratio?"),
        ("ia3", {"weight_decay": 0.1}, "train.weight_decay "),
        ("pissa", {"weight_decay": 0.1}, "train.weight_decay "),
        ("dora", {"weight_decay": 0.1}, "train.weight_decay "),
    ],
)
def test_training_settings_that_a_family_lacks_are_rejected(adapter: str, train: dict[str, Any], expected: str) -> None:
    (line,) = errors_of({**SYNTH, "adapter": {"family": adapter}, "train": train})
    assert line.startswith(expected)


def test_family_defaults_and_stored_options() -> None:
    def stored_as(family: str) -> dict[str, Any]:
        recipe = parse({**SYNTH, "adapter": {"family": family}, "train": {"loraplus_ratio": 1.0}}, "a.yaml")
        tree = yaml.safe_load(dump(recipe))
        again = parse(tree, "stored")
        assert again == recipe and dump(again) == dump(recipe)
        adapter: dict[str, Any] = tree["adapter"]
        return adapter

    lora = {"family": "lora", "rank": 16, "alpha": 32, "dropout": 0.0, "targets": "all-linear", "layers": None}
    lora["start"] = None
    assert stored_as("lora") == {**lora, "start_rate_ratio": 1.0}
    assert stored_as("dora") == {**lora, "family": "dora"}
    assert stored_as("vera") == {
        "family": "vera", "rank": 256, "dropout": 0.0, "targets": "all-linear", "layers": None, "start": None
    }  # fmt: skip
    assert stored_as("ia3") == {"family": "ia3", "targets": "ia3", "layers": None, "start": None}
    assert parse({**SYNTH, "adapter": {"family": "vera", "rank": 64}}, "").adapter.rank == 64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": {"learning_rate": 1e38}}, "train.learning_rate"),
    ],
)
def test_a_rate_above_its_limit_is_rejected(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse({"data": {"files": ["a"]}, **changes}, "recipe.yaml")


def test_gate_contest_is_a_shorthand() -> None:
    recipe = parse({**SYNTH, "score": {"suite": "none"}, "gate": "contest"}, "r")
    assert recipe.gate.policy == "contest" and recipe.gate.threshold == 0.9


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({"score": {"suite": "none"}}, "score.suite"),
        ({"score": {"abilities": ["grammer"]}}, "did you mean grammar?"),
        ({"gate": {"thresholds": {"chatt": 0.9}}}, "did you mean chat?"),
        ({"gate": {"counted": ["code", "sql"]}}, "sql"),
        ({"gate": {"policy": "contst"}}, "contest"),
        ({"gate": {"resamples": 10**12}}, "gate.resamples"),
    ],
)
def test_a_gate_that_cannot_decide_is_rejected(sections: dict[str, Any], expected: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse({**SYNTH, **sections}, "r")
    assert expected in str(caught.value)


def test_a_stored_recipe_that_predates_the_suite_uses_the_contest_gate(tmp_path: Path) -> None:
    recipe = parse(SYNTH, "r")
    tree = yaml.safe_load(dump(recipe))
    del tree["score"]["suite"], tree["score"]["abilities"]
    tree["gate"] = {"threshold": 0.9, "resamples": 10_000}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    older = load_stored(path)
    assert (older.score.suite, older.gate.policy) == ("none", "contest")
    assert older == without_suite(recipe)
    path.write_text(dump(recipe), encoding="utf-8")
    assert load_stored(path) == recipe


@pytest.mark.parametrize(
    "name", ["../../x", "a/b", "/tmp/x", "a\\b", "..", ".", "", " ", "a\nb", "a\x1b[2Jb", "n" * 300]
)
def test_the_name_stays_below_runs(tmp_path: Path, name: str) -> None:
    """F13: `name: ../../x` wrote outside of runs/."""
    path = stored(tmp_path, yaml.safe_dump({**SYNTH, "name": name}))
    with pytest.raises(RecipeError, match="name must be a plain") as caught:
        load(path)
    assert str(caught.value).isprintable()
    assert load(path, is_stored=True).name == name


@pytest.mark.parametrize(
    "override",
    [
        "seed=-1",
        "seed=9223372036854775808",
        "train.epochs=1e9",
        "train.tokens=1000000000000000000",
        "train.tokens_per_step=10000000000000",
        "data.synth.rows=1000000000000000",
        "data.max_repeats=1000000000",
        "adapter.rank=1000000000",
        "gate.resamples=1000000000000",
    ],
)
def test_numbers_are_bounded(tmp_path: Path, override: str) -> None:
    """F3 and F9: such numbers failed only after training, or asked for unbounded work."""
    key = override.partition("=")[0]
    with pytest.raises(RecipeError, match=rf"{key} must be [<≥≤]"):
        load(stored(tmp_path, "data: {synth: {rows: 100}}"), (override,))


def numbers_of(schema: Any, definitions: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yields each number in a JSON schema: its key, and the schema with its bounds."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    if schema.get("type") in ("integer", "number"):
        yield key, schema
    inner = [(key, part) for part in schema.get("anyOf", ())]
    inner += [(f"{key}[]", part) for part in schema.get("prefixItems", ())]
    inner += [(f"{key}[]", schema["items"])] if isinstance(schema.get("items"), dict) else []
    inner += [(f"{key}.{name}", part) for name, part in schema.get("properties", {}).items()]
    if isinstance(schema.get("additionalProperties"), dict):
        inner.append((f"{key}.*", schema["additionalProperties"]))
    for name, part in inner:
        yield from numbers_of(part, definitions, name)


@pytest.mark.parametrize("name", ["recipe", *EMBEDDED_GRADERS])
def test_every_number_has_bounds(name: str) -> None:
    """F3: the kind of fault, not only the keys that were reported."""
    schema = (Recipe if name == "recipe" else grader_class(name)).model_json_schema()
    numbers = dict(numbers_of(schema, schema.get("$defs", {})))
    assert len(numbers) > 50 or name != "recipe"
    for key, bounds in numbers.items():
        assert bounds.keys() & {"minimum", "exclusiveMinimum"}, key
        assert bounds.keys() & {"maximum", "exclusiveMaximum"}, key


def test_a_recipe_is_a_regular_file(tmp_path: Path) -> None:
    """F11: a pipe waited for a writer, and a device never ended."""
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    for name in ("pipe.yaml", "zero.yaml"):
        with pytest.raises(RecipeError, match=rf"{name}.*not a regular file"):
            load(tmp_path / name)


def test_a_key_that_stands_twice_is_rejected(tmp_path: Path) -> None:
    """F16: the last of two equal keys won."""
    path = stored(tmp_path, "data: {synth: {rows: 100}}\ntrain:\n  epochs: 1\n  epochs: 2\n")
    with pytest.raises(RecipeError, match=r"a\.yaml:4: .*'epochs'.*line 3"):
        load(path)
