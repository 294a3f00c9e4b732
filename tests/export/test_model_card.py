"""The model card of an adapter: what the hub's own reader finds in it, and what a person reads."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from export import published
from huggingface_hub import EvalResult, ModelCard, parse_eval_result_entries

from keeptune.config.recipe import Recipe
from keeptune.errors import ModelError, RunError
from keeptune.export.exporter import export
from keeptune.export.measurements import Measurements, SkillMeasurement, hub_datasets, read_measurements
from keeptune.export.model_card import CardFacts, header, write_eval_results
from keeptune.files import read_json, write_json
from keeptune.models import adapter_metadata
from keeptune.run_files.result import Share
from keeptune.run_files.retention import Gate, TaskScore


@pytest.fixture
def card(tmp_path: Path) -> ModelCard:
    """The card of a published adapter, as the hub's client reads it."""
    export(published.write(tmp_path / "sums"), "peft", tmp_path / "out")
    return ModelCard.load(tmp_path / "out" / "README.md")


def results(card: ModelCard) -> dict[str, EvalResult]:
    """The results of model-index, by the ability; the skill's under `None`."""
    return {str(one.dataset_config): one for one in card.data.eval_results}


def test_the_hub_reads_the_header(card: ModelCard) -> None:
    data = card.data.to_dict()
    assert data["base_model"] == published.HUB_ID
    assert data["base_model_relation"] == "adapter"
    assert data["library_name"] == "peft"
    assert data["pipeline_tag"] == "text-generation"
    assert data["language"] == ["zh"], "one of two problems is Chinese"
    assert data["tags"] == ["keeptune", "lora", "arithmetic"]
    assert data["license"] == "apache-2.0"
    assert "datasets" not in data, "the rows were generated"


def test_every_measurement_is_in_the_index(card: ModelCard) -> None:
    found = results(card)
    assert list(found) == ["None", *published.ABILITIES]
    assert (found["None"].metric_value, found["None"].metric_args["n"]) == (0.9, 50)
    for name, ability in published.ABILITIES.items():
        assert found[name].metric_value == ability["tuned"]
        assert found[name].metric_args["status"] == ability["status"]
        assert found[name].metric_args["counted"] == ability["counted"]
    assert found["grammar"].metric_args["tuned_over_base"] == 0.75
    assert found["chat"].metric_args["tuned_minus_base"] == 0.1
    assert found["chat"].metric_args["low95"] == 0.05
    assert "high95" not in found["chat"].metric_args, "an open interval has no upper end"
    assert "tuned_over_base" not in found["reading-zh"].metric_args


def test_losses_and_open_questions_are_said(card: ModelCard) -> None:
    assert "**fail**" in card.text
    assert "- Lost: grammar." in card.text
    assert "- Undecided: more questions are needed: code." in card.text
    assert "- Practised in training, so not counted: chat." in card.text
    assert "tuned 90.0% (95 %: 80.0% to 95.0%), base not measured" in card.text


def test_a_verdict_on_other_weights_is_refused(tmp_path: Path) -> None:
    adapter = published.write(tmp_path / "sums")
    with (adapter / "adapter_model.safetensors").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ModelError, match="judges other weights"):
        read_measurements(adapter)


def test_notes_of_the_folder_are_kept_once(tmp_path: Path) -> None:
    adapter = published.write(tmp_path / "sums")
    (adapter / "README.md").write_text("---\nlicense: mit\n---\n# Sums\n\nThe fourth attempt.\n", encoding="utf-8")
    export(adapter, "peft", tmp_path / "first")
    text = (tmp_path / "first" / "README.md").read_text(encoding="utf-8")
    assert "The fourth attempt." in text
    assert "# Sums\n" not in text
    export(tmp_path / "first", "peft", tmp_path / "second")
    assert "## Notes" not in (tmp_path / "second" / "README.md").read_text(encoding="utf-8"), "it was generated"


def test_what_peft_does_not_do_is_said(tmp_path: Path) -> None:
    adapter = published.write(tmp_path / "sums")
    metadata = adapter_metadata.load(adapter)
    adapter_metadata.save(replace(metadata, scale=0.5, quantization="int8"), adapter)
    export(adapter, "peft", tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "at the scale 0.5" in text
    assert "rounds the base to int8" in text
    assert adapter_metadata.load(tmp_path / "out") == adapter_metadata.load(adapter)


def test_files_of_the_export(tmp_path: Path) -> None:
    adapter = published.write(tmp_path / "sums")
    files = export(adapter, "peft", tmp_path / "out")
    assert files == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "export.json",
        "gate.json",
        "keeptune.json",
    ]
    for name in ("adapter_config.json", "adapter_model.safetensors", "keeptune.json"):
        assert (tmp_path / "out" / name).read_bytes() == (adapter / name).read_bytes()


def test_the_license_file_of_the_base_is_copied(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "LICENSE").write_text("Do what you want.\n", encoding="utf-8")
    export(published.write(tmp_path / "sums", str(base)), "peft", tmp_path / "out")
    assert (tmp_path / "out" / "LICENSE").read_text(encoding="utf-8") == "Do what you want.\n"


FACTS = CardFacts("sums", "peft", "acme/tiny", "mit", "arithmetic", ["acme/rows"], "LORA")


def test_only_the_measured_form_has_results(tmp_path: Path) -> None:
    measurements = read_measurements(published.write(tmp_path / "sums"))
    for form, library in (("merged", "transformers"), ("gguf", "gguf"), ("ollama", None)):
        data = yaml.safe_load(header(replace(FACTS, form=form), measurements).strip("-"))
        assert "model-index" not in data
        assert data.get("library_name") == library
        assert data["base_model_relation"] == "finetune"
        assert (data["license"], data["datasets"]) == ("mit", ["acme/rows"])


def test_a_base_in_a_folder_is_not_named(tmp_path: Path) -> None:
    data = yaml.safe_load(header(replace(FACTS, model=str(tmp_path)), None).strip("-"))
    assert "base_model" not in data


def test_data_sets_of_the_hub_are_named() -> None:
    files = ["hf:openai/gsm8k@main#train", "rows.jsonl", "hf:openai/gsm8k"]
    assert hub_datasets(Recipe.model_validate({"data": {"files": files}})) == ["openai/gsm8k"]
    assert hub_datasets(None) == []


def measured(n: int, test_files: list[str], tasks: dict[str, TaskScore]) -> Measurements:
    share = Share(accuracy=0.5, n=n, ci95=(0.4, 0.6))
    gate = Gate(threshold=0.9, verdict="pass", reason="")
    skill = SkillMeasurement(share, share, "test problems", test_files, False)
    return Measurements("result.json", "2026-11-30T18:26:49+00:00", skill, {}, None, tasks, gate)


def test_a_whole_benchmark_gets_an_eval_result(tmp_path: Path) -> None:
    write_eval_results(measured(1_319, ["hf:openai/gsm8k@main#test"], {}), tmp_path)
    (file,) = (tmp_path / ".eval_results").iterdir()
    (entry,) = parse_eval_result_entries(yaml.safe_load(file.read_text(encoding="utf-8")))
    assert (entry.dataset_id, entry.task_id, entry.value) == ("openai/gsm8k", "gsm8k", 50.0)
    assert entry.date == "2026-11-30T18:26:49+00:00"


def test_a_task_of_the_harness_gets_an_eval_result(tmp_path: Path) -> None:
    ratio = {"point": 1.1, "low95": 1.0, "high95": 1.2}
    task = TaskScore.model_validate({"metric": "exact_match", "n": 1_319, "base": 40, "tuned": 44, "ratio": ratio})
    write_eval_results(measured(10, [], {"gsm8k": task}), tmp_path)
    (entry,) = parse_eval_result_entries(yaml.safe_load((tmp_path / ".eval_results" / "gsm8k.yaml").read_text()))
    assert entry.value == 44.0
    assert "lm-evaluation-harness" in str(entry.notes)


@pytest.mark.parametrize(
    ("n", "test_file"),
    [(1_000, "hf:openai/gsm8k@main#test"), (1_319, "hf:openai/gsm8k@main#train"), (1_319, "gsm8k.jsonl")],
)
def test_a_part_or_another_set_gets_none(tmp_path: Path, n: int, test_file: str) -> None:
    write_eval_results(measured(n, [test_file], {}), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_verdict_is_named(tmp_path: Path) -> None:
    adapter = published.write(tmp_path / "sums")
    tree = read_json(adapter / "gate" / "gate.json")
    del tree["abilities"]
    write_json(adapter / "gate" / "gate.json", tree)
    with pytest.raises(RunError, match=r"gate\.json"):
        read_measurements(adapter)
