"""What in a MindFormers configuration does not do what it seems to, each told in one line.

Every one of these cost a contest entry a run, or its score, without a message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from keeptune.mindspore.configuration import Configuration, shown
from keeptune.models.backend import MODULE_ALIASES

_MODEL = "model.model_config"
_NUMBER = re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+")


@dataclass(frozen=True, slots=True)
class Lengths:
    """The most tokens of the rows at hand: of a whole row, and of an answer with its end token."""

    row: int
    answer: int


def of_training(training: Configuration, lengths: Lengths | None) -> Iterator[str]:
    """The traps of the file that is trained with; `lengths` where the rows are at hand."""
    if training.get("only_save_strategy") is True:
        yield "only_save_strategy: True writes the strategy files and exits without training; it is for merging alone"
    if training.get("output_dir") not in (None, "./output"):
        yield f"output_dir: {shown(training.get('output_dir'))}: run_llama3.py stops unless it is './output'"
    if training.get("resume_training") is True:
        yield "resume_training: True goes on with an optimiser's state, which an exported adapter does not have"
    if training.get("runner_config.sink_mode") is True:
        yield from _between_sinks(training)
    if training.get("train_dataset.drop_remainder") is True:
        yield "train_dataset.drop_remainder: True leaves out the rows of an epoch's last, incomplete step"
    for name, value in training.values.items():
        if isinstance(value, str) and _NUMBER.fullmatch(value):
            yield f"{name}: {value} is a text to YAML, for a number has a point there; write {float(value):.1e}"
    yield from _targets(training)
    window = training.whole(f"{_MODEL}.seq_length")
    if lengths and window and lengths.row > window + 1:
        yield (
            f"{_MODEL}.seq_length: {window} cuts rows of up to {lengths.row} tokens, whose end token is then never "
            "learnt; llama_preprocess.py says nothing about it"
        )


def of_evaluation(evaluation: Configuration, training: Configuration, lengths: Lengths | None) -> Iterator[str]:
    """The traps of a file that the trained adapter is evaluated or asked with."""
    theirs, ours = evaluation.pet_config, training.pet_config
    if theirs is None:
        yield (
            "there is no pet_config, so the adapter's tensors are passed over and the base model answers, unless the "
            "adapter was merged; the warning about tensors that were not loaded lists 64 others either way"
        )
    elif ours is not None:
        yield from _other_adapter(evaluation, theirs, training, ours)
    budget = evaluation.whole(f"{_MODEL}.max_new_tokens")
    if lengths and budget and budget < lengths.answer:
        yield f"{_MODEL}.max_new_tokens: {budget} cuts answers of up to {lengths.answer} tokens before they are given"
    if budget and evaluation.get(f"{_MODEL}.max_decode_length") is not None:
        yield f"{_MODEL}.max_new_tokens: {budget} counts; max_decode_length and --max_length do not beside it"
    if (least := evaluation.whole(f"{_MODEL}.min_new_tokens")) is not None:
        yield (
            f"{_MODEL}.min_new_tokens: {least} forbids empty answers; compare with a base that was asked so, too (the "
            "contest's base figures were not, and 195 of its 2,067 answers are empty)"
        )
    own, other = training.get(f"{_MODEL}.compute_dtype"), evaluation.get(f"{_MODEL}.compute_dtype")
    if own and other and own != other:
        yield f"{_MODEL}.compute_dtype: {shown(other)} here and {shown(own)} in training; answers can differ by it"


def _between_sinks(training: Configuration) -> Iterator[str]:
    every, sink = training.get("callbacks.*.save_checkpoint_steps"), training.get("runner_config.sink_size")
    if isinstance(every, int) and isinstance(sink, int) and sink > 1 and every % sink:
        yield f"save_checkpoint_steps: {every} is no multiple of sink_size {sink}, and steps are counted in sinks"


def _targets(training: Configuration) -> Iterator[str]:
    name = f"{training.pet_config}.target_modules"
    pattern = training.get(name)
    if not isinstance(pattern, str):
        return
    cells = MODULE_ALIASES.values()
    try:
        if not any(re.match(pattern, cell) for cell in cells):
            yield f"{name}: {shown(pattern)} matches none of {', '.join(cells)}, so nothing is trained"
            return
        idle = [part for part in pattern.split("|") if not any(re.match(part, cell) for cell in cells)]
    except re.error as error:
        yield f"{name}: {shown(pattern)} is no regular expression ({error}); write '.*wq|.*wv'"
        return
    if idle:
        spaced = "; spaces around | are a part of it" if any(part != part.strip() for part in idle) else ""
        yield f"{name}: {', '.join(map(shown, idle))} matches none of {', '.join(cells)}{spaced}"
    if "" in pattern.split("|"):
        yield f"{name}: {shown(pattern)} has an empty alternative, which matches every cell"


def _other_adapter(evaluation: Configuration, theirs: str, training: Configuration, ours: str) -> Iterator[str]:
    costs = {
        "lora_rank": "its tensors do not fit and are passed over",
        "lora_alpha": "the adapter is scaled by alpha/rank, so it counts by another factor",
        "target_modules": "layers that were trained are left out, or others added",
    }
    for key, cost in costs.items():
        own, other = training.get(f"{ours}.{key}"), evaluation.get(f"{theirs}.{key}")
        if own != other:
            yield f"{theirs}.{key}: {shown(other)} here and {shown(own)} in training: {cost}"


def report(training: Configuration, evaluations: Sequence[Configuration], lengths: Lengths | None) -> list[str]:
    """All traps, those of evaluation files under their names."""
    found = list(of_training(training, lengths))
    for evaluation in evaluations:
        found += [f"{evaluation.path.name}: {trap}" for trap in of_evaluation(evaluation, training, lengths)]
    return found
