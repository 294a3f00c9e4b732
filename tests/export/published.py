"""A published adapter without a run or a base model on this machine, with a verdict and a score."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from keeptune.files import file_sha256
from keeptune.models import adapter_metadata
from keeptune.prompts.template import Prompt
from keeptune.run_files.manifest import BaseModelRecord

HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
ROOT = Path(__file__).parents[2]


def ability(status: str, kind: str = "score", **figures: Any) -> dict[str, Any]:
    """An ability as in gate.json; figures replace the defaults."""
    measure = {
        "kind": kind,
        "n": 100,
        "base": 0.8,
        "tuned": 0.6,
        "point": 0.75,
        "low95": 0.65,
        "high95": 0.85,
        "limit": 0.9,
        "more_questions": None,
        "status": status,
        "reason": f"the reason why it is {status}",
        **figures,
    }
    counted = status in ("retained", "lost", "undecided")
    practised = "replay has its task" if status == "practised" else None
    return {**measure, "counted": counted, "practised": practised, "measures": {"accuracy": measure}}


ABILITIES = {
    "knowledge": ability("retained", tuned=0.8, point=1.0, low95=0.95, high95=1.04),
    "grammar": ability("lost"),
    "code": ability("undecided", high95=0.95, more_questions=200),
    "chat": ability("practised", "loss", base=0.9, tuned=1.0, point=0.1, low95=0.05, high95=None),
    "reading-zh": ability("nothing to lose", point=None, low95=None, high95=None),
}


def write(folder: Path, model: str = "smollm2-135m") -> Path:
    """Writes the adapter with `gate/`, `scores/`, a manifest and a recipe that replays a file."""
    (folder / "gate").mkdir(parents=True)
    (folder / "scores").mkdir()
    weights = folder / "adapter_model.safetensors"
    save_file({"base_model.model.layer.lora_A.weight": np.zeros((2, 2), np.float32)}, weights)
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": HUB_ID}
    write_json(folder / "adapter_config.json", config)
    base = BaseModelRecord(weights_sha256="a" * 64, config_sha256="b" * 64)
    prompt = Prompt("Q: {problem}\nA:")
    adapter_metadata.save(
        adapter_metadata.AdapterMetadata(model, "arithmetic", prompt, {"add": 30}, scale=1.0, base=base), folder
    )
    write_json(folder / "gate" / "request.json", {"adapter": ["0" * 64, file_sha256(weights)]})
    gate = {"policy": "suite", "threshold": 0.9, "margin": 0.1, "verdict": "fail", "reason": "Lost: grammar."}
    suite = {"version": "1", "size": "standard", "sha256": "c" * 64}
    finished = "2026-11-30T18:26:49+00:00"
    write_json(
        folder / "gate" / "gate.json", {"finished": finished, "suite": suite, "abilities": ABILITIES, "gate": gate}
    )
    skill = {"file": "test.jsonl", "accuracy": 0.9, "n": 50, "ci95": [0.8, 0.95]}
    write_json(folder / "scores" / "scores.json", {"skill": skill})
    answers = [{"problem": "计算 1 + 1"}, {"problem": "1 + 2 = ?"}]
    text = "".join(json.dumps(answer) + "\n" for answer in answers)
    (folder / "scores" / "skill.jsonl").write_text(text, encoding="utf-8")
    source = ROOT / "adapters" / "smollm2-135m-arithmetic"
    for name in ("recipe.yaml", "manifest.json"):
        (folder / name).write_bytes((source / name).read_bytes())
    (folder / "texts.txt").write_text("A replayed text.\n", encoding="utf-8")
    return folder


def write_json(path: Path, tree: dict[str, Any]) -> None:
    path.write_text(json.dumps(tree), encoding="utf-8")
