"""Log-likelihoods of options equal those of plain transformers and of lm-evaluation-harness."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from keeptune.evaluation.continuation_likelihood import Choice, encode_options, has_full_attention, log_likelihoods
from keeptune.generation.engine import Generator

CONTEXTS = ["Question: 1 + 1\nAnswer:", "一个长方形的长为 3 厘米，", "The mill", "So she " + "went on and on " * 40]
OPTIONS = [
    [" 2", " 11", " none of these", " 3 apples"],
    ["面积", "长方形的面积是 9"],
    [" fell", " mill"],
    ["left.", "right?"],
]


@pytest.fixture(scope="module")
def generator(model_folder: Path) -> Generator:
    return Generator(tiny.load(model_folder), tiny.tokenizer())


def by_hand(model: Any, choice: Choice) -> list[float]:
    """Sums over whole tables of logits, option by option."""
    sums = []
    for option, start in zip(choice.options, choice.starts, strict=True):
        with torch.no_grad():
            table = model(input_ids=torch.tensor([option])).logits[0].double().log_softmax(-1)
        sums.append(sum(float(table[place - 1, option[place]]) for place in range(start, len(option))))
    return sums


@pytest.mark.parametrize("together", [True, False])
def test_equals_plain_transformers(generator: Generator, model_folder: Path, together: bool) -> None:
    model = tiny.reference(model_folder)
    choices = [
        encode_options(generator.tokenizer, context, options, True)
        for context, options in zip(CONTEXTS, OPTIONS, strict=True)
    ]
    for found, choice in zip(log_likelihoods(generator, choices, together=together), choices, strict=True):
        assert found == pytest.approx(by_hand(model, choice), abs=2e-3)


def test_options_with_common_beginnings_share_them(generator: Generator) -> None:
    choice = encode_options(generator.tokenizer, "The", [" mill is old", " mill is new", " mill"], True)
    assert choice.length < sum(map(len, choice.options))
    together, alone = (log_likelihoods(generator, [choice], together=own)[0] for own in (True, False))
    assert together == pytest.approx(alone, abs=2e-3)


def test_a_prefix_of_all_contexts_is_computed_once(generator: Generator, model_folder: Path) -> None:
    system = "You are a helpful assistant, and you answer briefly. " * 3
    choices = [
        encode_options(generator.tokenizer, system + context, options, True)
        for context, options in zip(CONTEXTS, OPTIONS, strict=True)
    ]
    seen: list[int] = []
    hook = generator.decoder.register_forward_pre_hook(
        lambda _, __, given: seen.append(given["input_ids"].numel()), with_kwargs=True
    )
    found = log_likelihoods(generator, choices)
    hook.remove()
    model = tiny.reference(model_folder)
    for own, choice in zip(found, choices, strict=True):
        assert own == pytest.approx(by_hand(model, choice), abs=2e-3)
    assert seen[0] >= len(generator.tokenizer.encode(system)) - 1
    assert sum(seen) < sum(choice.length for choice in choices)


def test_empty_context_begins_with_the_begin_token(generator: Generator) -> None:
    choice = encode_options(generator.tokenizer, "", ["A mill.", "Mill a."], False)
    assert {option[0] for option in choice.options} == {generator.tokenizer.bos_token_id}
    assert choice.starts == (1, 1)


def test_values_that_are_not_finite_are_none(model_folder: Path) -> None:
    model = tiny.load(model_folder)
    model.lm_head.weight.data.fill_(float("nan"))
    broken = Generator(model, tiny.tokenizer())
    choice = encode_options(broken.tokenizer, "The", [" mill", " old"], True)
    assert log_likelihoods(broken, [choice]) == [[None, None]]


@pytest.mark.parametrize(
    ("changes", "is_full"),
    [({}, True), ({"sliding_window": 4}, False), ({"layer_types": ["sliding_attention", "full_attention"]}, False)],
)
def test_only_full_attention_shares_a_row(changes: dict[str, Any], is_full: bool) -> None:
    config = tiny.config(400)
    for name, value in changes.items():
        setattr(config, name, value)
    assert has_full_attention(config) is is_full


def test_agrees_with_lm_evaluation_harness(generator: Generator, model_folder: Path) -> None:
    harness = HFLM(pretrained=tiny.reference(model_folder), tokenizer=tiny.tokenizer(), batch_size=4)
    pairs = [(context, option) for context, own in zip(CONTEXTS, OPTIONS, strict=True) for option in own]
    asked = [Instance("loglikelihood", {}, pair, place) for place, pair in enumerate(pairs)]
    theirs = [value for value, _ in harness.loglikelihood(asked, disable_tqdm=True)]
    choices = [
        encode_options(generator.tokenizer, context, options, False)
        for context, options in zip(CONTEXTS, OPTIONS, strict=True)
    ]
    ours = [value for found in log_likelihoods(generator, choices) for value in found]
    assert ours == pytest.approx(theirs, abs=2e-3)
