"""The estimated training speed: for every family of models and adapters, and what it takes into account."""

from typing import Any

import model_families
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from keeptune.config.adapter import AdapterSection
from keeptune.config.retain import RetainSection
from keeptune.models import attention
from keeptune.pipeline import speed_estimate
from keeptune.pipeline.speed_estimate import KL_SECONDS, base_seconds, seconds_in_layer, typical_length

LORA = AdapterSection(targets="all-linear")


def config(name: str) -> Any:
    """The configuration of a tiny model of a family."""
    kind, options = model_families.FAMILIES[name]
    return model_families.config(kind, 100, options)


@pytest.mark.parametrize(
    ("settings", "share"),
    [
        ({"replay_share": 0.25}, 0.0),
        ({"kl_weight": 0.3, "replay_share": 0.25}, 0.25),
        ({"kl_weight": 0.3, "kl_tokens": "prompts", "replay_share": 0.25}, 0.75),
        ({"kl_weight": 0.3, "kl_tokens": "prompts", "replay_share": 0.0}, 1.0),
        ({"kl_weight": 0.3, "kl_tokens": "non_target", "replay_share": 0.25}, 0.75),
        ({"token_weighting": "low_perplexity", "replay_share": 0.25}, 1.0),
        ({"token_weighting": "dft"}, 0.0),
    ],
)
def test_a_kl_term_increases_the_estimated_time(settings: dict[str, object], share: float) -> None:
    assert base_seconds(RetainSection.model_validate(settings)) == pytest.approx(1 + share * KL_SECONDS)


@given(st.lists(st.integers(1, 5_000), min_size=1))
def test_the_typical_length_is_that_of_the_row_of_an_average_token(lengths: list[int]) -> None:
    rows_of_tokens = [length for length in lengths for _ in range(length)]
    assert typical_length(lengths) == round(sum(rows_of_tokens) / len(rows_of_tokens))


@pytest.mark.parametrize("name", model_families.FAMILIES)
def test_every_family_of_models_is_measured(name: str) -> None:
    model = config(name)
    before = model.to_dict()
    assert seconds_in_layer(model, LORA, 40) > 0
    assert model.to_dict() == before


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_every_family_of_adapters_is_measured(family: str) -> None:
    section = AdapterSection.model_validate({"family": family, **tiny.FAMILIES[family]})
    assert seconds_in_layer(config("llama"), section, 40) > 0


@pytest.mark.parametrize(("length", "shape"), [(20, (10, 20)), (100, (2, 100)), (250, (1, 250))])
def test_rows_of_the_run_are_trained_forward_and_backward(
    length: int, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    queries: list[torch.Tensor] = []

    def seen(module: Any, query: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        query.register_hook(lambda _: queries.append(query))
        return computed(module, query, *arguments, **options)

    computed = attention.short_attention
    monkeypatch.setattr(attention, "short_attention", seen)
    monkeypatch.setattr(speed_estimate, "PROBE_TOKENS", 200)
    seconds_in_layer(config("llama"), LORA, length)
    # One layer, whatever the model has, in each round.
    assert [(query.shape[0], query.shape[2]) for query in queries] == [shape] * (1 + speed_estimate.ROUNDS)


def test_a_large_layer_is_estimated_from_its_matrix_products(monkeypatch: pytest.MonkeyPatch) -> None:
    model, few = config("llama"), AdapterSection(rank=1, targets="all-linear")
    monkeypatch.setattr(speed_estimate, "MAX_LAYER_PARAMETERS", 1_000)
    monkeypatch.setattr(speed_estimate, "matrix_speed", lambda *_: 4 / speed_estimate.MATRIX_SHARE)
    width, heads = model.hidden_size, model.num_attention_heads
    attention_weights = 2 * width * width * (1 + model.num_key_value_heads / heads)
    layer = attention_weights + 3 * width * model.intermediate_size
    # Besides the matrices of the layer, there are norms, a rank and hardly any vocabulary.
    assert layer < seconds_in_layer(model, few, 40) < 1.3 * layer
