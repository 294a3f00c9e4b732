"""Card, bill of materials and signature of a real run: they state its figures, and show what was changed."""

import json
import shutil
from pathlib import Path

import pytest
from end_to_end.command import keeptune, ok, refused
from huggingface_hub import ModelCard

pytest.importorskip("model_signing", reason="needs the extra evidence")
pytest.importorskip("cyclonedx", reason="needs the extra evidence")

from cryptography.hazmat.primitives.asymmetric import ec
from export.test_signature import write_key


@pytest.fixture
def own(finished: Path, tmp_path: Path) -> Path:
    """A finished run that a test may change."""
    return Path(shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints")))


def test_the_card_states_the_figures_of_the_run(own: Path, tmp_path: Path) -> None:
    ok("export", own, "--to", "peft", "--out", tmp_path / "out")
    result = json.loads((own / "result.json").read_text(encoding="utf-8"))
    card = ModelCard.load(tmp_path / "out" / "README.md")
    skill = next(one for one in card.data.eval_results if one.dataset_config is None)
    assert skill.metric_value == round(result["skill"]["tuned"]["accuracy"], 4)
    assert skill.metric_args["base"] == round(result["skill"]["base"]["accuracy"], 4)
    assert f"**{result['gate']['verdict']}**" in card.text
    assert (tmp_path / "out" / "result.json").read_bytes() == (own / "result.json").read_bytes()


def test_the_bill_counts_the_rows_of_the_run(own: Path) -> None:
    path = Path(ok("bom", own).out.strip())
    assert path == own / "bom.cdx.json"
    tree = json.loads(path.read_text(encoding="utf-8"))
    card = json.loads((own / "data" / "card.json").read_text(encoding="utf-8"))
    hashes = json.loads((own / "manifest.json").read_text(encoding="utf-8"))["hashes"]
    data = {one["name"]: one for one in tree["components"] if one["type"] == "data"}
    for split, part in card["splits"].items():
        component = data[f"data/{split}.parquet"]
        assert component["hashes"][0]["content"] == hashes[f"data/{split}.parquet"]
        assert {"name": "keeptune:rows", "value": str(part["rows"])} in component["properties"]
    for source in card["files"]:
        assert data[Path(source["file"]).name]["hashes"][0]["content"] == source["sha256"]
    files = {one["name"]: one["hashes"][0]["content"] for one in tree["metadata"]["component"]["components"]}
    assert files["adapter/adapter_model.safetensors"] == hashes["adapter"]
    assert not any(name.startswith("checkpoints/") for name in files)


def test_a_signed_run_is_verified_with_its_figures(own: Path, tmp_path: Path) -> None:
    key = write_key(tmp_path / "key.pem", ec.generate_private_key(ec.SECP256R1()))
    ok("bom", own)
    ok("sign", own, "--key", key)
    done = ok("verify", own, "--key", key.with_suffix(".pub"))
    assert "signature: valid" in done.out
    assert done.out.rstrip().endswith("all of it follows")
    (own / "report.md").write_text("All is well.\n", encoding="utf-8")
    done = keeptune("verify", own, "--key", key.with_suffix(".pub"))
    assert done.code == 3
    assert done.out.splitlines()[0] == "changed since it was signed: report.md"
    assert "SHA256SUMS, report.md" in done.out


def test_a_base_in_a_local_folder_is_not_published(own: Path) -> None:
    message = refused(2, "push", own, "acme/sums")
    assert "keeptune.json:" in message
    assert "a path of this machine" in message
