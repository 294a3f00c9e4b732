"""The commands that bring a MindFormers configuration in, as they are typed."""

from pathlib import Path

import kit
import yaml
from end_to_end.command import ok, refused

from keeptune import recipe as recipes


def test_a_configuration_is_imported_by_its_ending(tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(kit.team("all in one")), encoding="utf-8")
    (tmp_path / "predict.yml").write_text(yaml.safe_dump(kit.stock()), encoding="utf-8")
    told = ok(
        "import", tmp_path / "train.yaml", "--out", tmp_path / "a.yaml", "--evaluation", tmp_path / "predict.yml"
    ).out
    assert "only_save_strategy: True writes the strategy files and exits" in told
    assert "predict.yml: there is no pet_config" in told
    assert recipes.load(tmp_path / "a.yaml").train.optimizer == "mindformers"
    assert "it has no pet_config" in refused(2, "import", tmp_path / "predict.yml", "--out", tmp_path / "b.yaml")
    (tmp_path / "x.ckpt").write_bytes(b"")
    assert "give --pet-config and --prompt" in refused(2, "import", tmp_path / "x.ckpt", "--out", tmp_path / "c")
