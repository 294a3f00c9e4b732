"""Ability `instructions`: prompts with constraints that a program can check.

The method is that of IFEval (Zhou et al. 2023, arXiv 2311.07911). The headline is IFEval's strict instruction-level
score: the share of a prompt's constraints that the answer meets. The loose rule ignores a framing line and asterisks.
It is recorded and does not decide.
"""

from __future__ import annotations

from collections.abc import Sequence

from keeptune.evaluation.abilities.base import Ability, Progress, Subject, paired_measurement
from keeptune.evaluation.abilities.constraints import satisfied
from keeptune.evaluation.abilities.conversation import written_answers
from keeptune.evaluation.gate import Measurement
from keeptune.evaluation.suite.loader import Instruction, Size, Split, load_every
from keeptune.files import Record
from keeptune.prompts.chat import Message

FILE = "instructions.jsonl"
BUDGET_TOKENS = 72
EVERY: dict[Size, int] = {"quick": 6, "standard": 1, "full": 1}


class Instructions(Ability):
    """Prompts with verifiable constraints."""

    name = "instructions"

    def items(self, split: Split, size: Size) -> list[Instruction]:
        return load_every(FILE, Instruction, split, EVERY[size])

    def item_fields(self, item: Instruction) -> Record:
        return {
            "id": item.id,
            "language": item.language,
            "cluster": item.id,
            "question": item.prompt,
            "constraints": list(item.constraints),
        }

    def evaluate(
        self, subject: Subject, items: Sequence[Instruction], base: Sequence[Record] | None, progress: Progress
    ) -> list[Record]:
        conversations = [[Message(role="user", content=item.prompt)] for item in items]
        return written_answers(subject, conversations, BUDGET_TOKENS, progress)

    def grade_record(self, record: Record) -> Record:
        strict, loose = (
            list(satisfied(record["constraints"], record["output"], loose=loose)) for loose in (False, True)
        )
        return {"strict": strict, "loose": loose}

    def measurements(self, base: Sequence[Record], tuned: Sequence[Record]) -> list[Measurement]:
        return [paired_measurement("strict", base, tuned, lambda record: sum(record["strict"]) / len(record["strict"]))]
