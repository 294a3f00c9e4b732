"""Every model family trains on the loss of transformers, answers as `generate` does, is saved, loaded and merged."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import model_families
import pytest
import tiny
import torch
from peft import PeftModel
from torch.nn import functional

from keeptune.config.adapter import AdapterSection
from keeptune.errors import ModelError
from keeptune.generation.engine import Generator, never_stop
from keeptune.generation.self_test import check_model
from keeptune.models import adapters
from keeptune.models.load import load_model
from keeptune.training.batches import TokenizedExample
from keeptune.training.loop import StepRecord, Trainer
from keeptune.training.objective import Objective
from keeptune.training.packing import are_packed_rows_independent

WORDS = tiny.tokenizer()
EXAMPLES = [example for example in tiny.examples(WORDS, 16) if len(example.tokens) < 250][:6]
PROMPTS = [list(example.tokens[:length]) for example, length in zip(EXAMPLES, (9, 15, 12), strict=False)]

UNPACKED = {"stablelm", "nemotron", "falcon", "falcon, one key head"}
"""Families whose decoders do not pass the boundaries of packed rows to their attention. They train on padded rows."""

QUICK = {
    "qwen2, window", "qwen3", "qwen3 moe", "mistral, window", "gemma2", "gemma3", "phi3", "olmo2", "granite",
    "stablelm", "falcon", "gpt-neox", "smollm3",
}  # fmt: skip
"""Families in the default suite; the others take as long again."""

every_family = pytest.mark.parametrize(
    "family",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in model_families.FAMILIES],
)


@torch.no_grad()
def reference_loss(reference: Any, examples: Sequence[TokenizedExample]) -> float:
    """The mean loss of all target tokens, one row at a time, by transformers."""
    losses = []
    for example in examples:
        ids = torch.tensor([example.tokens])
        losses.append(
            functional.cross_entropy(reference(input_ids=ids).logits[0, :-1], ids[0, 1:], reduction="none")[
                torch.tensor(example.loss_mask[1:])
            ]
        )
    return torch.cat(losses).mean().item()


def reference_answers(reference: Any, budget: int) -> list[str]:
    """Greedy answers by `generate` of transformers."""
    answers = []
    for prompt in PROMPTS:
        ids = torch.tensor([prompt])
        written = reference.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=budget, do_sample=False)
        answers.append(WORDS.decode(written[0, len(prompt) :], skip_special_tokens=True))
    return answers


@every_family
def test_a_family_trains_answers_and_merges(family: str, tmp_path: Path) -> None:
    folder = model_families.save(tmp_path / "model", *model_families.FAMILIES[family])
    model, reference = load_model(str(folder), "float32"), tiny.reference(folder)
    assert check_model(model, WORDS, family) is None
    answers = Generator(model, WORDS).answer(PROMPTS, [12] * len(PROMPTS), never_stop)
    assert [answer.text for answer in answers] == reference_answers(reference, 12)

    tuned = adapters.attach(model, AdapterSection(rank=4, alpha=8), seed=1)
    assert are_packed_rows_independent(Objective(tuned)) is (family not in UNPACKED)
    run = tmp_path / "run"
    run.mkdir()
    settings = tiny.settings(tokens_per_step=10**6, tokens_per_batch=2000, epochs=3, learning_rate=0.01)
    records: list[StepRecord] = []
    Trainer(tuned, EXAMPLES, settings, seed=3, run=run).run(records.append)
    assert records[0].loss == pytest.approx(reference_loss(reference, EXAMPLES), rel=1e-4)
    assert records[-1].loss < records[0].loss

    tuned.eval()
    adapters.save_adapter(tuned, tmp_path / "adapter")
    ids = torch.tensor([EXAMPLES[0].tokens])
    with torch.no_grad():
        expected = tuned(input_ids=ids).logits
        loaded = adapters.load_adapter(load_model(str(folder), "float32"), tmp_path / "adapter")
        torch.testing.assert_close(loaded(input_ids=ids).logits, expected, rtol=0, atol=0)
        plain = PeftModel.from_pretrained(reference, tmp_path / "adapter")
        torch.testing.assert_close(plain(input_ids=ids).logits, expected, rtol=1e-3, atol=1e-3)
        merged = loaded.merge_and_unload()
        torch.testing.assert_close(merged(input_ids=ids).logits, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.filterwarnings("ignore:The following")
@pytest.mark.parametrize("family", model_families.ATTENTION_ONLY)
def test_an_adapter_that_peft_would_put_on_experts_is_refused(family: str, tmp_path: Path) -> None:
    folder = model_families.save(tmp_path / "model", *model_families.ATTENTION_ONLY[family])
    with pytest.raises(ModelError, match=r"adapter\.targets: attention"):
        adapters.attach(load_model(str(folder), "float32"), AdapterSection(rank=4), seed=1)
    model = load_model(str(folder), "float32")
    assert check_model(model, WORDS, family) is None
    tuned = adapters.attach(model, AdapterSection(rank=4, targets="attention"), seed=1)
    trained = {name for name, parameter in tuned.named_parameters() if parameter.requires_grad}
    assert trained and all(".self_attn." in name for name in trained)


@pytest.mark.parametrize("family", model_families.REFUSED)
def test_a_family_is_refused_by_name_before_training(family: str, tmp_path: Path) -> None:
    kind, options, reason = model_families.REFUSED[family]
    folder = model_families.save(tmp_path / "model", kind, options)
    with pytest.raises(ModelError) as caught:
        check_model(load_model(str(folder), "float32"), WORDS, str(folder))
    assert f"model {folder}" in str(caught.value) and reason in str(caught.value)
