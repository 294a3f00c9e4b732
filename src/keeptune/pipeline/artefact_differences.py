"""Where the answers of an artefact part from those of the run, and how close the decision was.

Two programs round differently. Where two tokens are nearly as likely, either one can win, and the rest of the answer
follows from it. A wrong export, in contrast, prefers other tokens clearly. So each answer that differs is stored with
the margin at its first different token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keeptune.evaluation.continuation_likelihood import Choice, log_likelihoods
from keeptune.files import Record
from keeptune.generation.answer_source import AnswerSource
from keeptune.generation.scheduling import common_prefix

NEAR_TIE_NATS = 0.25
"""The largest margin of a near tie. bfloat16 stores numbers between 16 and 32, as logits often are, in steps of 0.125.
The rounding of two logits can therefore hide a difference of twice that."""


def first_differences(
    source: AnswerSource, prompts: Sequence[Sequence[int]], run: Sequence[Record], artefact: Sequence[Record]
) -> list[Record]:
    """One record per answer that differs: its id, both tokens at the first difference, and the margin.

    `margin` is log p(token of the artefact) − log p(token of the run) in the artefact, in nats; None if it is not
    finite. If an answer ends at that place, its token is the end token.

    Raises:
        NotMeasurableError: the artefact is behind a server that returns no log-likelihoods.
    """
    tokenizer = source.tokenizer
    names: list[str] = []
    pairs: list[list[int]] = []
    choices: list[Choice] = []
    for prompt, before, after in zip(prompts, run, artefact, strict=True):
        if before["output"] == after["output"]:
            continue
        answers = [_answer_tokens(tokenizer, record) for record in (before, after)]
        place = common_prefix(*answers)
        if place == min(map(len, answers)):  # one answer ended at its budget
            continue
        context = (*prompt, *answers[0][:place])
        names.append(str(before["id"]))
        pairs.append([answer[place] for answer in answers])
        choices.append(Choice(tuple((*context, token) for token in pairs[-1]), (len(context), len(context))))
    likelihoods = log_likelihoods(source, choices)
    return [
        {
            "id": name,
            "run": tokenizer.decode(pair[:1]),
            "artefact": tokenizer.decode(pair[1:]),
            "margin": None if run_value is None or artefact_value is None else artefact_value - run_value,
        }
        for name, pair, (run_value, artefact_value) in zip(names, pairs, likelihoods, strict=True)
    ]


def _answer_tokens(tokenizer: Any, record: Record) -> list[int]:
    tokens: list[int] = tokenizer.encode(record["output"], add_special_tokens=False)
    return [*tokens, tokenizer.eos_token_id] if record["stopped"] else tokens


def near_ties(differences: Sequence[Record]) -> int:
    """The number of differences at which both tokens are nearly as likely."""
    return sum(one["margin"] is not None and abs(one["margin"]) <= NEAR_TIE_NATS for one in differences)
