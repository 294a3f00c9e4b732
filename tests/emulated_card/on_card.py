"""Training, generation and scores on the emulated card. test_emulated_card.py runs these tests in a separate
process, because PyTorch cannot unload a device.

The models are in bfloat16, as on a real card, so results agree with other ways of computing them to two digits.
"""

import dataclasses
import gc
import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import model_families
import pytest
import tiny
import torch
from emulated_card.card import Card
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

from keeptune.config.adapter import AdapterSection
from keeptune.config.retain import RetainSection
from keeptune.data.plain_texts import PlainText
from keeptune.errors import TrainingError
from keeptune.evaluation.continuation_likelihood import encode_options, log_likelihoods
from keeptune.evaluation.skill_score import SkillQuestion, score_skill
from keeptune.evaluation.text_divergence import measure_text_divergence
from keeptune.generation.engine import Generator, never_stop
from keeptune.generation.self_test import check_model, load_checked_model
from keeptune.models import adapters
from keeptune.models.activation_checkpointing import ActivationCheckpointing
from keeptune.models.activation_memory import estimate
from keeptune.models.attention import register_attention
from keeptune.models.fused_lora import cached_casts
from keeptune.models.load import load_model
from keeptune.models.packed_rows import PackedRows
from keeptune.training import checkpoints
from keeptune.training.batches import TokenizedExample
from keeptune.training.forward import hidden_states
from keeptune.training.loop import StepRecord, Trainer
from keeptune.training.objective import Objective, collate

CUDA = torch.device("cuda")
WORDS = tiny.tokenizer()
ROWS = [row for row in tiny.examples(WORDS, 30) if len(row.tokens) < 200][:12]
PROMPTS = [list(row.tokens[: 9 + 4 * number]) for number, row in enumerate(ROWS[:4])]
TEXTS = [PlainText("a", "general", "It sold only rye bread until 1960."), PlainText("b", "general", "Swifts eat.")]
MAX_WAITS_PER_BATCH, MAX_WAITS_PER_TOKEN = 3, 1
MAX_FORWARD_LAUNCHES, MAX_BACKWARD_LAUNCHES = 54, 130
"""Launches per layer of a plain Llama with an adapter on all linear layers."""


def save_llama(folder: Path, layers: int) -> Path:
    """A tiny Llama with some layers, in the number format of a card."""
    torch.manual_seed(0)
    config = tiny.config(len(WORDS), num_hidden_layers=layers, head_dim=8)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    WORDS.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llama(tmp_path_factory.mktemp("llama"), 2)


def load(folder: Path, quantization: str | None = None) -> Any:
    model, notice = load_checked_model(str(folder), WORDS, quantization=quantization)
    assert notice is None
    return model


def tune(model: Any, **options: Any) -> Any:
    section = AdapterSection.model_validate({"rank": 4, "alpha": 8, **options})
    tuned = adapters.attach(model, section, seed=1)
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)) / 10)
    return tuned


def trainer(model: Any, run: Path, retain: RetainSection | None = None, **changes: Any) -> Trainer:
    run.mkdir(exist_ok=True)
    settings = tiny.settings(**{"tokens_per_step": 600, "tokens_per_batch": 300, "learning_rate": 0.001, **changes})
    return Trainer(model, ROWS, settings, 3, run, retain=retain or RetainSection())


def gradients(model: Any) -> list[torch.Tensor]:
    return [parameter.grad.cpu() for parameter in model.parameters() if parameter.grad is not None]


def test_a_base_is_loaded_straight_to_the_card(folder: Path, card: Card) -> None:
    model = load_model(str(folder))
    assert {(parameter.device.type, parameter.dtype) for parameter in model.parameters()} == {("cuda", torch.bfloat16)}
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    assert card.peak_bytes < 2.5 * weights + card.used_bytes


def test_a_step_waits_rarely_and_attends_without_masks(folder: Path, tmp_path: Path, card: Card) -> None:
    training = trainer(tune(load(folder)), tmp_path / "run")
    assert training.engine.gradient.packs_rows
    training._step(0)  # the optimizer's state is made in the first step
    card.reset()
    record = training._step(1)
    batches = len(training.plan[1])
    assert batches > 1 and record.loss > 0
    assert sum(card.waits.values()) <= 2, card.waits  # for the losses of all batches, and for the norm of the gradient
    assert sum(card.transfers.values()) <= MAX_WAITS_PER_BATCH * batches, card.transfers
    assert set(card.attention) == {"varlen", "varlen backward"}
    assert card.attention["varlen"] == batches * 2


@pytest.mark.parametrize(
    "retain",
    [
        {"token_weighting": "eaft", "kl_weight": 0.5, "kl_tokens": "non_target"},
        pytest.param({"token_weighting": "low_perplexity"}, marks=pytest.mark.slow),
    ],
)
def test_ways_of_retaining_wait_as_rarely(retain: dict[str, Any], folder: Path, tmp_path: Path, card: Card) -> None:
    training = trainer(tune(load(folder)), tmp_path / "run", RetainSection.model_validate(retain))
    training._step(0)
    card.reset()
    training._step(1)
    assert sum(card.waits.values()) <= MAX_WAITS_PER_BATCH * len(training.plan[1]) + 2, card.waits


def test_launches_per_layer_are_bounded(folder: Path, tmp_path: Path, card: Card) -> None:
    launches = []
    for path in (folder, save_llama(tmp_path / "four", 4)):
        objective = Objective(tune(load(path)).train())
        inputs, _ = collate(ROWS[:4], 0.01, CUDA)
        lengths = [len(row.tokens) for row in ROWS[:4]]
        with cached_casts(objective.model):
            objective(*inputs, lengths=lengths)  # casts A and B for all batches of a step
            card.reset()
            total, *_ = objective(*inputs, lengths=lengths)
            forward = card.launches.total()
            total.backward()
        launches.append((forward, card.launches.total() - forward))
    (two_forward, two_backward), (four_forward, four_backward) = launches
    layer = (four_forward - two_forward) / 2, (four_backward - two_backward) / 2
    assert layer[0] <= MAX_FORWARD_LAUNCHES and layer[1] <= MAX_BACKWARD_LAUNCHES, layer


def test_packed_rows_have_the_loss_of_padded_rows(folder: Path, card: Card) -> None:
    objective = Objective(tune(load(folder)).train())
    inputs, _ = collate(ROWS, 0.001, CUDA)
    results = []
    for lengths in (None, [len(row.tokens) for row in ROWS]):
        total, losses, _ = objective(*inputs, lengths=lengths)
        total.backward()
        results.append((losses.cpu(), *gradients(objective.model)))
        objective.zero_grad()
    for padded, packed in zip(*results, strict=True):
        assert (padded - packed).norm() <= 0.02 * padded.norm()
    assert {"flash", "varlen"} < set(card.attention) and "math" not in card.attention


def test_an_interrupted_training_resumes_to_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    class Crash(BaseException):
        pass

    def crash(step: StepRecord) -> None:
        if step.step == 3:
            raise Crash

    for name in ("whole", "broken"):
        training = trainer(tune(load(folder)), tmp_path / name, epochs=2)
        assert training.engine.optimizer.param_groups[0]["fused"]
        if name == "broken":
            with pytest.raises(Crash):
                training.run(crash)
            training = trainer(tune(load(folder)), tmp_path / name, epochs=2)
        training.run(lambda _: None)
    paths = [checkpoints.latest(tmp_path / name / "checkpoints") for name in ("whole", "broken")]
    whole, broken = (load_file(path / "adapter_model.safetensors") for path in paths if path)
    assert all(torch.equal(whole[key], broken[key]) for key in whole)


def test_a_batch_that_does_not_fit_is_computed_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete, failures = torch.Tensor.backward, []

    def backward_out_of_memory(total: torch.Tensor) -> None:
        complete(total)  # adds gradients, which must not count
        if not adapters.causal_model(model).is_activation_checkpointing:
            failures.append(total)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    results = []
    for is_full in (False, True):
        model = tune(load(folder), dropout=0.1)
        training = trainer(model, tmp_path / str(is_full))
        if is_full:
            monkeypatch.setattr(torch.Tensor, "backward", backward_out_of_memory)
        training.engine.gradient.accumulate(0, [training.plan[0]], 0.01)
        results.append(gradients(model))
    assert len(training.plan[0]) > 1 and failures
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_a_batch_that_never_fits_is_an_error(folder: Path, tmp_path: Path) -> None:
    model = tune(load(folder))
    training = trainer(model, tmp_path / "run")
    training.engine.gradient.checkpointing = ActivationCheckpointing(0)
    adapters.causal_model(model).get_decoder().register_forward_pre_hook(_raise_out_of_memory)
    with pytest.raises(TrainingError, match="out of memory"):
        training._step(0)


def _raise_out_of_memory(*_: Any) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


def greedy(model: Any, prompt: list[int], budget: int) -> list[int]:
    """Greedy tokens without a cache."""
    output: list[int] = []
    with torch.inference_mode():
        for _ in range(budget):
            states = hidden_states(model, [prompt + output])[0, -1]
            output.append(int(model.get_output_embeddings()(states).argmax()))
    return output


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch, card: Card) -> Iterator[list[Card]]:
    """The work of the card in each step of the generator that adds a token to all rows."""
    records: list[Card] = []
    step = Generator._step

    def recorded(self: Generator, *args: Any) -> list[int]:
        card.reset()
        tokens = step(self, *args)
        records.append(dataclasses.replace(card, launches=card.launches.copy(), waits=card.waits.copy()))
        return tokens

    monkeypatch.setattr(Generator, "_step", recorded)
    yield records


def test_a_token_of_all_rows_waits_once(folder: Path, steps: list[Card]) -> None:
    model = tune(load(folder)).eval()
    answers = Generator(model, WORDS, stop_ids=[]).answer(PROMPTS, [6] * len(PROMPTS), never_stop)
    expected = [WORDS.decode(greedy(model, prompt, 6), skip_special_tokens=True) for prompt in PROMPTS]
    assert [answer.text for answer in answers] == expected
    assert len(steps) == 5
    for step in steps:
        assert sum(step.waits.values()) <= MAX_WAITS_PER_TOKEN, step.waits
        assert step.launches["attention::math"] == 0, "copies keys and values to float32"
    # A and B are cast once, before the second token.
    assert steps[-1].launches["aten::copy_ to another type"] < steps[-1].launches["aten::addmm"]


def test_sampling_waits_once(folder: Path, steps: list[Card]) -> None:
    Generator(tune(load(folder)).eval(), WORDS).sample(PROMPTS, [5] * len(PROMPTS), seed=0)
    assert all(sum(step.waits.values()) <= MAX_WAITS_PER_TOKEN for step in steps)


def test_scores_are_those_of_the_processor(folder: Path) -> None:
    model = tune(load(folder)).eval()
    choice = encode_options(WORDS, "The mill", [" fell", " mill"], True)
    texts = measure_text_divergence(model, 1.0, WORDS, TEXTS)
    [sums] = log_likelihoods(Generator(model, WORDS), [choice])
    questions = [SkillQuestion(kind, kind, problem, Fraction(1)) for kind, problem, _ in tiny.problems(3)]
    records = score_skill(Generator(model, WORDS), tiny.PROMPT, questions, {"add": 8})
    assert len(records) == len(questions)
    model.to("cpu")
    expected = measure_text_divergence(model, 1.0, WORDS, TEXTS)
    for record, other in zip(texts, expected, strict=True):
        assert record["tuned_nll"] == pytest.approx(other["tuned_nll"], rel=0.02)
        assert record["kl"] == pytest.approx(other["kl"], rel=0.1)
    for value, option, start in zip(sums, choice.options, choice.starts, strict=True):
        with torch.no_grad():
            table = model(input_ids=torch.tensor([option])).logits[0].float().log_softmax(-1)
        total = sum(float(table[place - 1, option[place]]) for place in range(start, len(option)))
        assert value == pytest.approx(total, abs=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("quantization", ["int8", "fp8"])
def test_quantized_bases_train_and_answer(quantization: str, tmp_path: Path, card: Card) -> None:
    config = tiny.config(len(WORDS), head_dim=8)  # all sizes are multiples of 16, as fp8 needs
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(tmp_path / "model")
    model = tune(load(tmp_path / "model", quantization))
    records: list[StepRecord] = []
    trainer(model, tmp_path / "run", epochs=4, learning_rate=0.01).run(records.append)
    assert records[-1].loss < records[0].loss
    assert len(Generator(model.eval(), WORDS).answer(PROMPTS, [4] * len(PROMPTS), never_stop)) == len(PROMPTS)
    assert "math" not in card.attention


SHAPES = [
    {"hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 3},
    {"hidden_size": 48, "intermediate_size": 320, "num_hidden_layers": 5},
]


@pytest.mark.parametrize("sizes", SHAPES)
@pytest.mark.parametrize("adapter", [{"family": "lora"}, {"family": "lora", "dropout": 0.1}, {"family": "dora"}])
def test_the_memory_estimate_is_within_a_tenth(sizes: dict[str, int], adapter: dict[str, Any], card: Card) -> None:
    """The estimate against the memory that the card has allocated between the forward and the backward pass."""
    config, lengths = tiny.config(len(WORDS), head_dim=16, **sizes), [90, 70, 110]
    section = AdapterSection.model_validate({"rank": 4, "alpha": 8, **adapter})
    model = LlamaForCausalLM._from_config(config, attn_implementation=register_attention(CUDA), dtype=torch.bfloat16)
    objective = Objective(adapters.attach(model.to(CUDA), section, seed=1).train())
    memory = estimate(config, section, torch.bfloat16, CUDA)
    ids, packed = torch.ones(3, 110, dtype=torch.long, device=CUDA), PackedRows.of(lengths, CUDA)
    used = []
    for threshold in (math.inf, 0):
        gc.collect()  # models of earlier tests
        before = card.used_bytes
        with ActivationCheckpointing(threshold).apply(objective.model, 1):
            states = objective.states(ids, packed)
        used.append(card.used_bytes - before)
        del states
    tokens = sum(lengths)
    assert memory.stored(tokens) == pytest.approx(used[0], rel=0.1)
    # Between the passes, there are only the inputs of the blocks. One block at a time joins them.
    recomputed = used[1] + used[0] / config.num_hidden_layers
    assert memory.stored(tokens, is_checkpointed=True) == pytest.approx(recomputed, rel=0.1)


QUICK_FAMILIES = ("gemma2",)


@pytest.mark.parametrize(
    "family",
    [f if f in QUICK_FAMILIES else pytest.param(f, marks=pytest.mark.slow) for f in model_families.FAMILIES],
)
def test_a_family_trains_on_the_loss_of_transformers(family: str, tmp_path: Path) -> None:
    path = model_families.save(tmp_path / "model", *model_families.FAMILIES[family])
    model = load_model(str(path))
    check_model(model, WORDS, family)
    tuned = adapters.attach(model, AdapterSection(rank=4, alpha=8), seed=1)
    records: list[StepRecord] = []
    trainer(tuned, tmp_path / "run", tokens_per_step=10**6, tokens_per_batch=800).run(records.append)
    assert records[0].loss == pytest.approx(_reference_loss(path, ROWS), rel=0.05)
    Generator(tuned.eval(), WORDS).answer(PROMPTS, [3] * len(PROMPTS), never_stop)


@torch.no_grad()
def _reference_loss(path: Path, rows: list[TokenizedExample]) -> float:
    """The mean loss of all targets by transformers, on the processor in float32."""
    model, losses = tiny.reference(path), []
    for row in rows:
        ids = torch.tensor([row.tokens])
        table = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
        losses += [-table[place, token] for place, token in enumerate(row.tokens[1:]) if row.loss_mask[place + 1]]
    return float(torch.stack(losses).mean())
