"""What an estimate of seconds takes into account, apart from this machine's speed."""

import pytest

from keeptune.config.retain import RetainSection
from keeptune.pipeline.plan import KL_SECONDS, base_seconds


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
