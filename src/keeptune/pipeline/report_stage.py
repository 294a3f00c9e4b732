"""The report stage: result.json, report.html and report.md from the records in scores/, and SHA256SUMS."""

from __future__ import annotations

from keeptune.evaluation import unchanged_prompts
from keeptune.evaluation.model_pair import VARIANTS
from keeptune.evaluation.run_integrity import check_files
from keeptune.files import Record, read_json, remove_temporary_files, stored_content, write_json
from keeptune.models.adapters import ParameterCount
from keeptune.pipeline.checksums import write_run_checksums
from keeptune.pipeline.context import RunContext
from keeptune.pipeline.result import Inputs, SuiteScores, result
from keeptune.pipeline.run_lock import run_lock
from keeptune.pipeline.run_manifest import read_manifest, restore_manifest
from keeptune.report.page import write_report
from keeptune.run_files.result import Chosen, Result


def run_report_stage(context: RunContext) -> Record:
    """Writes the result, the report and the hashes of all files, and returns the content of result.json."""
    with run_lock(context.directory.root):
        remove_temporary_files(context.directory.root)
        restore_manifest(context)
        check_files(context.directory)
        record = compute_result(context)
        write_json(context.directory.result, record)
        write_report(context.directory.root)
        write_run_checksums(context.directory)
    return record


def compute_result(context: RunContext) -> Record:
    """The content of result.json.

    Raises:
        RunError: when a file of the run is missing or damaged.
    """
    with stored_content(context.directory.scores):
        return _compute_result(context)


def _compute_result(context: RunContext) -> Record:
    directory, recipe, final = context.directory, context.recipe, context.final
    base, tuned = (final.scores(variant) for variant in VARIANTS)
    suite = None
    if recipe.score.suite != "none":
        suite = SuiteScores(final.ability_scores(), final.answer_divergences())
    with stored_content(directory.manifest):
        parameters = ParameterCount(**read_manifest(context)["parameters"])
    inputs = Inputs(
        base=base,
        tuned=tuned,
        divergences=final.divergences(),
        suite=suite,
        parameters=parameters,
        cost=context.events.cost(),
        chosen=read_json(directory.chosen, Chosen),
    )
    record = result(recipe, context.prompt, inputs)
    if invocation := recipe.retain.invocation:
        record |= {"unchanged": unchanged_prompts.summarize(final.unchanged(), invocation)}
    return Result.checked(record)
