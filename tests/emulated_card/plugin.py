"""pytest plugin that activates the emulated card before any test imports PyTorch.

python -m pytest -p emulated_card.plugin tests/emulated_card/on_card.py      (PYTHONPATH must contain tests/)
"""

from __future__ import annotations

import pytest
from emulated_card.card import Card, activate

CARD = activate()


@pytest.fixture
def card() -> Card:
    """The card, with all counts at zero."""
    CARD.reset()
    return CARD
