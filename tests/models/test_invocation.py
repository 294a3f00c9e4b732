"""An activated LoRA acts after its invocation as in PEFT, and elsewhere is the base bit for bit."""

import math
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import PeftModel
from peft.tuners.lora.variants import calculate_alora_offsets

from keeptune.config.adapter import AdapterSection
from keeptune.errors import ModelError
from keeptune.evaluation.continuation_likelihood import Choice, log_likelihoods
from keeptune.files import read_json, write_json
from keeptune.generation.engine import Generator, never_stop
from keeptune.models import adapters
from keeptune.models.activation_checkpointing import ActivationCheckpointing
from keeptune.models.adapters import causal_model, scaled
from keeptune.models.invocation import Invocation
from keeptune.prompts.invocation import invocation_tokens
from keeptune.prompts.template import Prompt
from keeptune.training.batches import TokenizedExample
from keeptune.training.objective import Objective, collate

WORDS = tiny.tokenizer()
CALL = (7, 8)
PLAIN = [list(range(20, 60)), [5, *range(30, 50)], [7, 9, 8, 7, *range(30, 34)]]
INVOKED = [[20, 21, 22, *CALL, 23, 24], [*CALL, *range(30, 60)], [*CALL, 30, *CALL, 31], [*range(20, 50), *CALL, 5]]


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    """A stored adapter that changes predictions."""
    tuned = invoked(model_folder)
    adapters.save_adapter(tuned, tmp_path / "adapter")
    return tmp_path / "adapter"


def invoked(model_folder: Path) -> Any:
    tuned = adapters.attach(tiny.load(model_folder), AdapterSection(rank=4, alpha=8), 1, CALL)
    draw = torch.Generator().manual_seed(2)
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.1, generator=draw)
    return tuned


def load_peft(model_folder: Path, folder: Path) -> Any:
    """The same model and adapter, run by PEFT."""
    return PeftModel.from_pretrained(tiny.reference(model_folder), str(folder), is_trainable=True).eval()


def logits(model: Any, row: list[int]) -> torch.Tensor:
    found: torch.Tensor = model(input_ids=torch.tensor([row]), attention_mask=torch.ones(1, len(row))).logits[0]
    return found.detach()


def padded(rows: list[list[int]]) -> torch.Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [0] * (width - len(row)) for row in rows])


@given(st.lists(st.integers(7, 9), max_size=12), st.lists(st.integers(7, 9), min_size=1, max_size=3))
def test_the_mask_equals_pefts(row: list[int], call: list[int]) -> None:
    invocation, ids = Invocation(call), torch.tensor([[5, *row]])
    config = type("Config", (), {"alora_invocation_tokens": call})()
    from_the_end = calculate_alora_offsets({"default": config}, "default", ids)[0]
    start = invocation.start(ids[0].tolist())
    assert start == (None if from_the_end is None else ids.shape[1] - from_the_end)
    expected = [start is not None and place >= start for place in range(ids.shape[1])]
    assert invocation.mask(ids)[0].tolist() == expected


def test_rows_equal_pefts(model_folder: Path, folder: Path) -> None:
    tuned = adapters.load_adapter(tiny.load(model_folder), folder)
    peft, base = load_peft(model_folder, folder), tiny.reference(model_folder)
    for row in INVOKED:
        torch.testing.assert_close(logits(tuned, row), logits(peft, row), rtol=1e-4, atol=1e-4)
        assert not torch.allclose(logits(tuned, row)[-1], logits(base, row)[-1], atol=1e-2), "the adapter does nothing"
        start = Invocation(CALL).start(row) or 0
        torch.testing.assert_close(logits(tuned, row)[:start], logits(base, row)[:start], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_row_without_invocation_is_the_base_bit_for_bit(model_folder: Path, folder: Path, dtype: str) -> None:
    base = tiny.load_model(str(model_folder), dtype)
    before = base(input_ids=padded(PLAIN)).logits.detach()
    tuned = adapters.load_adapter(base, folder)
    assert torch.equal(tuned(input_ids=padded(PLAIN)).logits, before)
    beside = tuned(input_ids=padded([*PLAIN, *INVOKED])).logits[: len(PLAIN)]
    assert torch.equal(beside[:, : before.shape[1]], before), "not beside a row that does"
    assert torch.equal(adapters.detach(tuned)(input_ids=padded(INVOKED)).logits, base(input_ids=padded(INVOKED)).logits)


def test_gradients_equal_pefts(model_folder: Path, folder: Path) -> None:
    tuned, peft = (
        adapters.load_adapter(tiny.load(model_folder), folder, trainable=True),
        load_peft(model_folder, folder),
    )
    for row in INVOKED[:2]:
        for model in (tuned, peft):
            ids = torch.tensor([row])
            model(input_ids=ids, labels=ids, attention_mask=torch.ones_like(ids)).loss.backward()
    expected = {name: p.grad for name, p in peft.named_parameters() if p.requires_grad}
    assert expected
    for name, parameter in tuned.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_packed_rows_are_invoked_as_padded_rows(model_folder: Path, checkpointed: bool) -> None:
    tuned = invoked(model_folder).train()
    rows = [
        TokenizedExample(f"row {number}", "add", tuple(row), (False,) * 4 + (True,) * (len(row) - 4))
        for number, row in enumerate(INVOKED)
    ]
    inputs, _ = collate(rows, 1.0, torch.device("cpu"))
    found = []
    for lengths in (None, [len(row.tokens) for row in rows]):
        with ActivationCheckpointing(0 if checkpointed else math.inf).apply(tuned, 1):
            total, losses, _ = Objective(tuned)(*inputs, None, lengths)
            total.backward()
        found.append([total, losses, *(p.grad for p in tuned.parameters() if p.requires_grad)])
        tuned.zero_grad()
    for padded, packed in zip(*found, strict=True):
        torch.testing.assert_close(packed, padded, rtol=1e-5, atol=1e-5)


def greedy(model: Any, row: list[int], tokens: int) -> list[int]:
    """The reference: each token from the whole row so far, with the mask of the prompt."""
    start, written = Invocation(CALL).start(row), list(row)
    for _ in range(tokens):
        mask = torch.arange(len(written))[None] >= (math.inf if start is None else start)
        states = causal_model(model).get_decoder()(
            input_ids=torch.tensor([written]), adapter_mask=mask, use_cache=False
        )
        written.append(int(model.get_output_embeddings()(states.last_hidden_state[0, -1]).argmax()))
    return written[len(row) :]


def test_answers_equal_those_of_whole_rows(model_folder: Path, folder: Path) -> None:
    tuned = adapters.load_adapter(tiny.load(model_folder), folder)
    front = list(range(20, 50))
    together = [[*front, *CALL, 5], [*front, *CALL, 6], [*front, 6, 5], [*front, *CALL, 6, *CALL], *PLAIN, *INVOKED]
    generator = Generator(tuned, WORDS, stop_ids=[])
    answers = generator.answer(together, [6] * len(together), never_stop)
    expected = [WORDS.decode(greedy(tuned, row, 6), skip_special_tokens=True) for row in together]
    assert [answer.text for answer in answers] == expected
    with scaled(tuned, 0.0):
        base = generator.answer(together, [6] * len(together), never_stop)
    differing = [one.text != other.text for one, other in zip(answers, base, strict=True)]
    assert any(differing), "the adapter does nothing"
    assert not any(d for d, row in zip(differing, together, strict=True) if Invocation(CALL).start(row) is None)


def test_likelihoods_equal_those_of_whole_rows(model_folder: Path, folder: Path) -> None:
    tuned = adapters.load_adapter(tiny.load(model_folder), folder)
    generator = Generator(tuned, WORDS)
    plain = [Choice(((*row, 40, 41), (*row, 42)), (len(row),) * 2) for row in map(tuple, PLAIN)]
    calling = [Choice(((*row, 40, 41), (*row, 42)), (len(row),) * 2) for row in map(tuple, INVOKED)]
    within = [Choice(((5, 6, *CALL, 9), (5, 6, 7, 9)), (2, 2))]
    for choices in (plain, calling, within, [*plain, *calling]):
        for choice, found in zip(choices, log_likelihoods(generator, choices), strict=True):
            for option, start, value in zip(choice.options, choice.starts, found, strict=True):
                chances = logits(tuned, list(option)).log_softmax(-1)
                expected = sum(float(chances[place - 1, option[place]]) for place in range(start, len(option)))
                assert value == pytest.approx(expected, abs=1e-3)
    with scaled(tuned, 0.0):
        base = log_likelihoods(generator, plain)
    assert log_likelihoods(generator, plain) == base


def test_transformers_generates_as_with_peft(model_folder: Path, folder: Path) -> None:
    tuned, peft = adapters.load_adapter(tiny.load(model_folder), folder), load_peft(model_folder, folder)
    for row in (INVOKED[0], INVOKED[2], PLAIN[0]):
        ids = torch.tensor([row])
        options = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "max_new_tokens": 6, "do_sample": False}
        assert torch.equal(tuned.generate(**options), peft.generate(**options))


def test_an_adapter_with_dropout_acts_as_in_peft(model_folder: Path, folder: Path) -> None:
    write_json(folder / "adapter_config.json", read_json(folder / "adapter_config.json") | {"lora_dropout": 0.1})
    tuned, peft = adapters.load_adapter(tiny.load(model_folder), folder), load_peft(model_folder, folder)
    torch.testing.assert_close(logits(tuned, INVOKED[0]), logits(peft, INVOKED[0]), rtol=1e-4, atol=1e-4)
    with pytest.raises(ModelError, match="without dropout"):
        adapters.load_adapter(tiny.load(model_folder), folder, trainable=True)


def test_an_invocation_with_the_padding_token_raises(model_folder: Path) -> None:
    with pytest.raises(ModelError, match="token 0"):
        adapters.attach(tiny.load(model_folder), AdapterSection(rank=4), 1, (7, 0))


def test_another_invocation_cannot_be_a_start(model_folder: Path, folder: Path) -> None:
    section = AdapterSection(rank=4, alpha=8, start=str(folder))
    for other in ((), (7, 9)):
        with pytest.raises(ModelError, match="acts only from the tokens"):
            adapters.attach(tiny.load(model_folder), section, 1, other)
    assert adapters.attach(tiny.load(model_folder), section, 1, CALL)


def test_tokens_that_merge_with_a_problem_raise() -> None:
    """A space at the end of the invocation merges with the first word of a problem."""
    with pytest.raises(ModelError, match="occur 0 times"):
        invocation_tokens(WORDS, Prompt("call: {problem}"), "call: ")
    assert invocation_tokens(WORDS, Prompt("call:\n{problem}"), "call:\n")


def test_a_pass_over_partial_rows_without_mask_raises(model_folder: Path) -> None:
    tuned = invoked(model_folder)
    past = tuned(input_ids=torch.tensor([[5, 6]]), use_cache=True).past_key_values
    with pytest.raises(ModelError, match="needs whole rows"):
        causal_model(tuned).get_decoder()(input_ids=torch.tensor([[7], [8]]), past_key_values=past)
