"""The KL term: its positions, its weight, and that it needs no second model."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch.nn import functional

from keeptune.config.retain import KlTokens, RetainSection
from keeptune.models.activation_checkpointing import ActivationCheckpointing
from keeptune.models.adapters import scaled
from keeptune.training.batches import TokenizedExample
from keeptune.training.loop import StepRecord, Trainer
from keeptune.training.objective import Objective, collate, collate_kl_positions, kl_positions

WORDS = tiny.tokenizer()
CPU = torch.device("cpu")
SKILL = [example for example in tiny.examples(WORDS, 12) if len(example.tokens) < 250]
READING = [TokenizedExample(f"reading:{row.name}", "reading", row.tokens, row.loss_mask) for row in SKILL[:4]]


def test_kl_positions_of_replayed_rows_and_prompts() -> None:
    row = TokenizedExample("a:1", "add", (5, 6, 7, 8, 9), (False, False, False, True, True))
    replayed = TokenizedExample("b:1", "reading", row.tokens, row.loss_mask)
    assert kl_positions(row, "prompts") == [0, 1]
    assert kl_positions(row, "replay") == []
    assert kl_positions(row, "non_target") == [2, 3]
    assert collate_kl_positions([row, row], "non_target", 1.0, CPU).excluded_tokens.tolist() == [8, 9, 8, 9]
    assert kl_positions(replayed, "replay") == [0, 1, 2, 3]
    assert kl_positions(replayed, "prompts") == []
    assert not len(collate_kl_positions([row], "replay", 1.0, CPU).rows)


def moved(model_folder: Path) -> Any:
    """A model whose adapter changes its predictions."""
    tuned = tiny.tune(tiny.load(model_folder))
    generator = torch.Generator().manual_seed(1)
    for name, parameter in tuned.named_parameters():
        if ".lora_B." in name:
            parameter.data.normal_(0, 0.3, generator=generator)
    return tuned


def test_divergence_equals_that_of_two_separate_models(model_folder: Path) -> None:
    tuned, rows = moved(model_folder), [*SKILL[:3], *READING]
    inputs, _ = collate(rows, 1.0, CPU)
    total, losses, divergences = Objective(tuned)(*inputs, collate_kl_positions(rows, "replay", 0.5, CPU))
    expected = []
    for row in READING:
        ids = torch.tensor(row.tokens)[None]
        tuned_log = tuned(input_ids=ids).logits[0, :-1].log_softmax(-1)
        with scaled(tuned, 0.0):
            base = tuned(input_ids=ids).logits[0, :-1].log_softmax(-1)
        expected.append(functional.kl_div(tuned_log, base, reduction="none", log_target=True).sum(-1))
    torch.testing.assert_close(divergences, torch.cat(expected), rtol=1e-4, atol=1e-5)
    assert float(divergences.mean()) > 0.01, "this would prove nothing"
    torch.testing.assert_close(total, losses.sum() + 0.5 * divergences.sum(), rtol=1e-5, atol=1e-4)
    total.backward()
    assert all(p.grad is not None for p in tuned.parameters() if p.requires_grad)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_packed_rows_equal_padded_rows(model_folder: Path, checkpointed: bool) -> None:
    tuned, rows = moved(model_folder).train(), [*SKILL, *READING]
    assert len({len(row.tokens) for row in rows}) > 3, "nothing is padded"
    targets = sum(sum(row.loss_mask) for row in rows)
    inputs, _ = collate(rows, 1 / targets, CPU)
    results = []
    for lengths in (None, [len(row.tokens) for row in rows]):
        with ActivationCheckpointing(0 if checkpointed else float("inf")).apply(tuned, 1):
            total, *each = Objective(tuned)(*inputs, collate_kl_positions(rows, "replay", 0.5 / targets, CPU), lengths)
            total.backward()
        results.append([total, *each, *(p.grad for p in tuned.parameters() if p.requires_grad)])
        tuned.zero_grad()
    for padded, packed in zip(*results, strict=True):
        torch.testing.assert_close(packed, padded, rtol=1e-5, atol=1e-5)


def train(model_folder: Path, run: Path, batch: int = 300, **retain: Any) -> list[StepRecord]:
    run.mkdir()
    records: list[StepRecord] = []
    settings = tiny.settings(epochs=8, tokens_per_step=10**6, tokens_per_batch=batch, learning_rate=0.02)
    tuned = tiny.tune(tiny.load(model_folder))
    Trainer(tuned, [*SKILL, *READING], settings, seed=3, run=run, retain=RetainSection(**retain)).run(records.append)
    return records


@pytest.mark.parametrize("where", ["replay", "prompts", "non_target"])
def test_a_kl_weight_keeps_the_model_nearer_to_its_base(model_folder: Path, tmp_path: Path, where: KlTokens) -> None:
    watched, held = (
        train(model_folder, tmp_path / str(weight), kl_tokens=where, kl_weight=weight) for weight in (1e-9, 10.0)
    )
    assert watched[0].divergence == held[0].divergence
    assert watched[-1].divergence is not None and held[-1].divergence is not None
    assert held[-1].divergence < 0.3 * watched[-1].divergence
    event = json.loads((tmp_path / "10.0" / "log.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    assert event["divergence"] == held[-1].divergence


def test_replay_target_distribution_ignores_replayed_tokens(model_folder: Path, tmp_path: Path) -> None:
    """The tokens of a replayed row are not targets, so other targets do not change the result."""
    results = []
    for number, loss_mask in enumerate((READING[0].loss_mask, (False,) * 9 + (True,) * (len(READING[0].tokens) - 9))):
        rows = [*SKILL, TokenizedExample("other", "reading", READING[0].tokens, loss_mask)]
        tuned = tiny.tune(tiny.load(model_folder))
        retain = RetainSection(kl_weight=0.5, replay_target="distribution")
        records: list[StepRecord] = []
        run = tmp_path / str(number)
        run.mkdir()
        settings = tiny.settings(epochs=2, tokens_per_step=10**6)
        Trainer(tuned, rows, settings, seed=3, run=run, retain=retain).run(records.append)
        results.append([p.detach().clone() for p in tuned.parameters() if p.requires_grad])
        assert records[-1].divergence is not None and "reading" in records[-1].loss_by_kind
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="replay_target"):
        RetainSection(replay_target="distribution")


def test_without_kl_weight_there_is_no_divergence(model_folder: Path, tmp_path: Path) -> None:
    records = train(model_folder, tmp_path / "run")
    assert {step.divergence for step in records} == {None}
    assert "divergence" not in (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8")


def test_the_kl_term_does_not_depend_on_batches(model_folder: Path, tmp_path: Path) -> None:
    whole, parts = (train(model_folder, tmp_path / str(padded), padded, kl_weight=0.5) for padded in (10**6, 300))
    for one, other in zip(whole[:2], parts[:2], strict=True):
        assert one.divergence == pytest.approx(other.divergence, abs=1e-5)
        assert one.grad_norm == pytest.approx(other.grad_norm, rel=1e-5)


def test_token_weighting_applies_only_to_the_skill(model_folder: Path) -> None:
    tuned, rows = moved(model_folder), [*SKILL[:3], *READING]
    inputs, kinds = collate(rows, 1.0, CPU)
    is_skill = torch.tensor([kind != "reading" for kind in kinds])
    plain, losses, _ = Objective(tuned)(*inputs, is_skill=is_skill)
    assert 0 < is_skill.sum() < len(is_skill)
    dft = Objective(tuned, RetainSection(token_weighting="dft"))(*inputs, is_skill=is_skill)
    factor = torch.where(is_skill, (-losses).exp(), 1.0)
    torch.testing.assert_close(dft[0], (losses * factor).sum(), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(dft[1], losses)
    masked = Objective(tuned, RetainSection(token_weighting="low_perplexity"))(*inputs, is_skill=is_skill)
    with scaled(tuned, 0.0):
        base = Objective(tuned)(*inputs)[1]
    kept = ~is_skill | (base.exp() <= 2.5)
    torch.testing.assert_close(masked[0], losses[kept].sum(), rtol=1e-5, atol=1e-4)
    assert masked[0].item() < plain.item()


def test_kl_on_replay_needs_replay() -> None:
    with pytest.raises(ValueError, match=r"retain\.kl_tokens"):
        RetainSection(kl_weight=0.1, replay_share=0)
    assert RetainSection(kl_weight=0.1, replay_share=0, kl_tokens="prompts").kl_weight == 0.1
