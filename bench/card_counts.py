"""The work of a card in training and generation: launches, and waits of the host.

    python bench/card_counts.py --label after
    git worktree add ../before COMMIT && PYTHONPATH=../before/src python bench/card_counts.py --label before

No card is needed: the tests' emulated CUDA device counts (tests/emulated_card/). It has the launches of PyTorch's own
operators, with attention in one launch. The counts of two models, of two and four layers, give those of one layer.
Times cannot be measured in this way.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from emulated_card.card import Card, activate

CARD: Card = activate()  # before anything imports PyTorch

import tiny  # noqa: E402
import torch  # noqa: E402
from common import RESULTS, write_result  # noqa: E402
from transformers import LlamaForCausalLM  # noqa: E402

from keeptune.config.adapter import AdapterSection  # noqa: E402
from keeptune.generation.engine import Generator  # noqa: E402
from keeptune.models import adapters, load  # noqa: E402
from keeptune.training.loop import Trainer  # noqa: E402

WORDS = tiny.tokenizer()
ROWS = [row for row in tiny.examples(WORDS, 40) if len(row.tokens) < 200][:16]
PROMPTS = [list(row.tokens[: 9 + number]) for number, row in enumerate(ROWS[:8])]
LAYERS = (2, 4)
SHOWN_LAYERS = 32
"""The layers of Llama 3 8B."""


def tuned_model(folder: Path, layers: int) -> Any:
    """A tiny Llama in bfloat16 on the card, with a LoRA adapter on all linear layers."""
    torch.manual_seed(0)
    config = tiny.config(len(WORDS), num_hidden_layers=layers, head_dim=8)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return adapters.attach(load.load_model(str(folder)), AdapterSection(rank=4, alpha=8), 1)


def training(model: Any, folder: Path) -> dict[str, Any]:
    """One step, after another one: its batches, its launches, and the host's waits by line."""
    folder.mkdir()
    trainer = Trainer(model, ROWS, tiny.settings(tokens_per_step=600, tokens_per_batch=300), 0, folder)
    trainer._step(0)
    CARD.reset()
    trainer._step(1)
    return {**counts(), "batches": len(trainer.plan[1])}


def generation(model: Any) -> dict[str, Any]:
    """One token of all rows, the fourth."""
    steps: list[dict[str, Any]] = []
    step = Generator._step

    def counted(self: Generator, *args: Any) -> list[int]:
        CARD.reset()
        tokens = step(self, *args)
        steps.append(counts())
        return tokens

    Generator._step = counted  # type: ignore[method-assign]
    try:
        Generator(model.eval(), WORDS, stop_ids=[]).answer(PROMPTS, [8] * len(PROMPTS), lambda _: False)
    finally:
        Generator._step = step  # type: ignore[method-assign]
    return steps[3]


def counts() -> dict[str, Any]:
    """The counts of the card."""
    return {
        "launches": CARD.launches.total(),
        "casts": CARD.launches["aten::copy_ to another type"],
        "attention": dict(CARD.attention),
        "waits": CARD.waits.total(),
        "waits_by_line": dict(CARD.waits.most_common()),
        "transfers": CARD.transfers.total(),
    }


def per_layer(small: dict[str, Any], large: dict[str, Any], parts: int) -> dict[str, float]:
    """Launches and casts of one layer and of all else, and their sum for 32 layers, per batch or token."""
    figures: dict[str, float] = {}
    for name in ("launches", "casts"):
        each = (large[name] - small[name]) / (LAYERS[1] - LAYERS[0])
        other = small[name] - LAYERS[0] * each
        figures |= {
            f"{name}_per_layer": each / parts,
            f"{name}_of_{SHOWN_LAYERS}_layers": (other + SHOWN_LAYERS * each) / parts,
        }
    return figures


def main() -> None:
    """Prints the figures and puts them under their label in results/gpu_emulated.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--label", choices=["before", "after"], default="after")
    label = parser.parse_args().label
    trained, answered = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for layers in LAYERS:
            model = tuned_model(Path(scratch) / f"model-{layers}", layers)
            trained.append(training(model, Path(scratch) / f"run-{layers}"))
            answered.append(generation(model))
    batches = trained[0]["batches"]
    assert batches == trained[1]["batches"]
    figures = {
        "training": {
            **per_layer(*trained, batches),
            "waits_per_batch": trained[0]["waits"] / batches,
            "batches_of_the_step": batches,
            "waits_of_the_step_by_line": trained[0]["waits_by_line"],
            "attention": trained[0]["attention"],
        },
        "generation": {
            **per_layer(*answered, 1),
            "waits_per_token": answered[0]["waits"],
            "waits_by_line": answered[0]["waits_by_line"],
            "attention": answered[0]["attention"],
        },
    }
    path = RESULTS / "gpu_emulated.json"
    earlier = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    kept = {name: earlier[name] for name in ("before", "after") if name in earlier}
    write_result("gpu_emulated", {"command": "python bench/card_counts.py", **kept, label: figures})
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
