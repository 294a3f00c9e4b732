"""Whether a model trains correctly on packed rows. If not, rows are padded.

A model must pass the boundaries of packed rows from its decoder on to its attention. Not every family does: StableLM
drops them between its layers, and each row would attend to the rows before it, without any error. Recurrent layers
would carry their state from row to row.
"""

from __future__ import annotations

import torch

from keeptune.models.attention import supports_packed_rows
from keeptune.models.packed_rows import PackedRows
from keeptune.models.token_errors import MISFITS, is_same, probe_tokens
from keeptune.training.objective import Objective

PROBE_LENGTHS = (3, 6, 4)
"""The lengths of the rows that test the model."""


def packs_rows(objective: Objective) -> bool:
    """Whether the batches of this objective are computed as packed rows."""
    return supports_packed_rows(objective.model) and are_packed_rows_independent(objective)


@torch.no_grad()
def are_packed_rows_independent(objective: Objective) -> bool:
    """Whether packed rows have the same hidden states as each row alone.

    All processes of a sharded model must call this together.
    """
    modes = [(module, module.training) for module in objective.modules()]
    objective.eval()
    try:
        rows = [probe_tokens(objective.model, length) for length in PROBE_LENGTHS]
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        packed = objective.states(padded, PackedRows.of(PROBE_LENGTHS, padded.device)).split(PROBE_LENGTHS)
        alone = [objective.states(row[None], None) for row in rows]
    except MISFITS:
        return False  # such as a decoder that takes no further arguments
    finally:
        for module, is_training in modes:
            module.training = is_training
    # The first row has no row before it, and would be right in any case.
    return is_same(torch.cat(packed[1:]), torch.cat(alone[1:]))
