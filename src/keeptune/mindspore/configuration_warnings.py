"""Warns about settings of a MindFormers configuration that do not do what they seem to do.

Each of these mistakes cost a contest entry a run or points without an error message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from keeptune.mindspore.configuration import Configuration, format_value
from keeptune.models.backend import MODULE_ALIASES

_MODEL = "model.model_config"
_NUMBER = re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+")


@dataclass(frozen=True, slots=True)
class TokenLengths:
    """The longest row, and the longest answer including its end token, in tokens."""

    row: int
    answer: int


def all_warnings(
    training: Configuration, evaluations: Sequence[Configuration], lengths: TokenLengths | None
) -> list[str]:
    """The warnings for all files. A warning for an evaluation file begins with the file's name."""
    warnings = list(training_warnings(training, lengths))
    for evaluation in evaluations:
        warnings += [
            f"{evaluation.path.name}: {warning}" for warning in evaluation_warnings(evaluation, training, lengths)
        ]
    return warnings


def training_warnings(training: Configuration, lengths: TokenLengths | None) -> Iterator[str]:
    """Yields the warnings for the training file. `lengths` is None if the rows are not available."""
    if training.get("only_save_strategy") is True:
        yield "only_save_strategy: True writes the strategy files and exits without training; use it only for merging"
    if training.get("output_dir") not in (None, "./output"):
        yield f"output_dir: {format_value(training.get('output_dir'))}: run_llama3.py requires './output'"
    if training.get("resume_training") is True:
        yield "resume_training: True needs an optimizer state, which an exported adapter does not have"
    if training.get("runner_config.sink_mode") is True:
        yield from _sink_warnings(training)
    if training.get("train_dataset.drop_remainder") is True:
        yield "train_dataset.drop_remainder: True skips the rows of each epoch's last, incomplete step"
    for name, value in training.values.items():
        if isinstance(value, str) and _NUMBER.fullmatch(value):
            yield f"{name}: YAML reads {value} as a string, because it has no point; write {float(value):.1e}"
    yield from _target_warnings(training)
    window = training.positive_integer(f"{_MODEL}.seq_length")
    if lengths and window and lengths.row > window + 1:
        yield (
            f"{_MODEL}.seq_length: {window} truncates rows of up to {lengths.row} tokens. The model then never learns "
            "the end token. llama_preprocess.py prints no warning"
        )


def evaluation_warnings(
    evaluation: Configuration, training: Configuration, lengths: TokenLengths | None
) -> Iterator[str]:
    """Yields the warnings for a file that evaluates the trained adapter or generates answers with it."""
    evaluated, trained = evaluation.pet_config, training.pet_config
    if evaluated is None:
        yield (
            "there is no pet_config: MindFormers skips the adapter's tensors, and the base model answers unless the "
            "adapter was merged. Its warning about tensors that were not loaded lists 64 others in either case"
        )
    elif trained is not None:
        yield from _adapter_mismatches(evaluation, evaluated, training, trained)
    budget = evaluation.positive_integer(f"{_MODEL}.max_new_tokens")
    if lengths and budget and budget < lengths.answer:
        yield f"{_MODEL}.max_new_tokens: {budget} truncates answers of up to {lengths.answer} tokens"
    if budget and evaluation.get(f"{_MODEL}.max_decode_length") is not None:
        yield f"{_MODEL}.max_new_tokens: {budget} overrides max_decode_length and --max_length"
    if (minimum := evaluation.positive_integer(f"{_MODEL}.min_new_tokens")) is not None:
        yield (
            f"{_MODEL}.min_new_tokens: {minimum} forbids empty answers; evaluate the base model with the same setting. "
            "The contest's base scores are without it, and 195 of the base's 2,067 answers are empty"
        )
    train_dtype, dtype = training.get(f"{_MODEL}.compute_dtype"), evaluation.get(f"{_MODEL}.compute_dtype")
    if train_dtype and dtype and train_dtype != dtype:
        yield (
            f"{_MODEL}.compute_dtype: {format_value(dtype)} here and {format_value(train_dtype)} in training; answers "
            "can differ"
        )


def _sink_warnings(training: Configuration) -> Iterator[str]:
    every, sink = training.get("callbacks.*.save_checkpoint_steps"), training.get("runner_config.sink_size")
    if isinstance(every, int) and isinstance(sink, int) and sink > 1 and every % sink:
        yield (
            f"save_checkpoint_steps: {every} is not a multiple of sink_size {sink}; MindSpore counts steps in "
            "multiples of sink_size"
        )


def _target_warnings(training: Configuration) -> Iterator[str]:
    name = f"{training.pet_config}.target_modules"
    pattern = training.get(name)
    if not isinstance(pattern, str):
        return
    cells = MODULE_ALIASES.values()
    try:
        if not any(re.match(pattern, cell) for cell in cells):
            yield f"{name}: {format_value(pattern)} matches none of {', '.join(cells)}, so nothing is trained"
            return
        unmatched = [part for part in pattern.split("|") if not any(re.match(part, cell) for cell in cells)]
    except re.error as error:
        yield f"{name}: {format_value(pattern)} is not a regular expression ({error}); write '.*wq|.*wv'"
        return
    if unmatched:
        has_spaces = any(part != part.strip() for part in unmatched)
        note = "; spaces around | are part of the pattern" if has_spaces else ""
        yield f"{name}: {', '.join(map(format_value, unmatched))} matches none of {', '.join(cells)}{note}"
    if "" in pattern.split("|"):
        yield f"{name}: {format_value(pattern)} has an empty alternative, which matches every cell"


def _adapter_mismatches(
    evaluation: Configuration, evaluated: str, training: Configuration, trained: str
) -> Iterator[str]:
    consequences = {
        "lora_rank": "the adapter's tensors do not fit and are skipped",
        "lora_alpha": "the adapter gets another scale, because the scale is alpha / rank",
        "target_modules": "trained layers are skipped, or other layers added",
    }
    for key, consequence in consequences.items():
        train_value, value = training.get(f"{trained}.{key}"), evaluation.get(f"{evaluated}.{key}")
        if train_value != value:
            yield (
                f"{evaluated}.{key}: {format_value(value)} here and {format_value(train_value)} in training: "
                f"{consequence}"
            )
