"""Verifies a run: recomputes every figure from the stored answers, without a model.

Answers are graded again, and true answers are computed again from the problems. Figures of result.json and hashes of
the manifest are recomputed. Questions are compared with the data, the reading set and the texts that the recipe names,
where these files exist. Each difference is reported with its place, its stored value and its recomputed value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from math import isclose
from pathlib import Path
from typing import Any

from keeptune.data.card import data_sha256
from keeptune.data.preparation import load_prepared_rows
from keeptune.data.split import SPLITS
from keeptune.environment import git_state
from keeptune.errors import DataError, KeeptuneError, ModelError
from keeptune.evaluation.harness import QUESTION_KEYS
from keeptune.evaluation.model_pair import VARIANTS
from keeptune.evaluation.practised import practised_by
from keeptune.evaluation.reading_score import CONTEST, SQUAD
from keeptune.evaluation.skill_score import grade_fields
from keeptune.evaluation.unchanged_prompts import state_differences, suite_prompts
from keeptune.evaluation.verdict_verification import check_answers, check_gate_folder
from keeptune.files import Record, file_sha256, read_json, sha256_if_file, stored_content
from keeptune.grading.base import Grader
from keeptune.grading.contest_reading import score_contest
from keeptune.grading.number import parse_truth
from keeptune.grading.squad import score_squad_v11
from keeptune.models import adapter_metadata
from keeptune.models.base_identity import identify
from keeptune.pipeline.artefact_verification import check_artefacts, check_export, is_export
from keeptune.pipeline.checksums import FILE as CHECKSUMS
from keeptune.pipeline.checksums import Checksum, read_checksums
from keeptune.pipeline.evaluation_stage import tuned_generator
from keeptune.pipeline.final_evaluation import SKILL, TASKS, UNCHANGED
from keeptune.pipeline.gate_job import FILE as GATE_FILE
from keeptune.pipeline.input_files import stored_sources
from keeptune.pipeline.report_stage import compute_result
from keeptune.pipeline.run import Run
from keeptune.pipeline.run_manifest import hashed_files
from keeptune.pipeline.verification import Fault, Verification
from keeptune.prompts.chat import ChatLayout
from keeptune.prompts.reading import ReadingLayout, first_line, question_text
from keeptune.run_files.directory import ADAPTER_CONFIG, RunDirectory
from keeptune.run_files.manifest import Manifest
from keeptune.run_files.result import Chosen
from keeptune.skills.base import Skill
from keeptune.skills.registry import skill_for_section

_ADDED_LATER = {"data/card.json", "data/rejected.jsonl"}
"""Files whose hashes are missing in the manifests of older versions."""


def has_figures(folder: Path) -> bool:
    """Whether a folder is a run, the output of `keeptune gate`, or an export. A published adapter has no figures."""
    is_adapter = (folder / ADAPTER_CONFIG).is_file()
    return is_export(folder) or (not is_adapter and (RunDirectory(folder).is_run or (folder / GATE_FILE).is_file()))


def verify(folder: Path) -> Verification:
    """Verifies a finished run with its artefacts, the output folder of `keeptune gate`, or the files of an export.

    The base model's files are hashed, but not loaded. For an adapter with an invocation both models are loaded, and
    their outputs on prompts without the invocation are compared.

    Raises:
        RunError: when a file of the run is missing or damaged.
    """
    code = {"keeptune": metadata.version("keeptune"), "git": git_state(Path(__file__).parent)}
    if is_export(folder):
        verification = Verification(made_by=_version(code), checked_by=_version(code))
        check_export(folder, verification)
        return verification
    is_gate = (folder / GATE_FILE).is_file() and not RunDirectory(folder).is_run
    return _with_checksums(folder, lambda: _verify_gate(folder, code) if is_gate else _verify_run(folder, code))


def _verify_run(folder: Path, code: Mapping[str, Any]) -> Verification:
    directory, run = RunDirectory(folder), Run.open(folder)
    manifest = read_json(directory.manifest, Manifest)
    verification = Verification(made_by=_version(manifest), checked_by=_version(code))
    with stored_content(folder):
        _check_run(run, manifest, verification)
    return verification


def _with_checksums(folder: Path, check: Callable[[], Verification]) -> Verification:
    """The verification by `check`, and the files that differ from SHA256SUMS and in which it found nothing.

    An error of `check` is raised, unless a damaged file explains it.
    """
    checksums = read_checksums(folder)
    changed = [one for one in checksums if one.current != one.stored and not (one.current is None and _may_lack(one))]
    try:
        verification = check()
    except KeeptuneError as error:
        if all(one.current is None for one in changed):  # the error is about what is missing
            raise
        verification = Verification(stopped_by=str(error))
    verification.hashes += len(checksums)
    places = [fault.place for fault in verification.faults]
    for one in changed:
        name = _MANIFEST_NAMES.get(one.name, one.name)
        if not any(name in place for place in places):
            verification.expect(f"{CHECKSUMS}, {one.name}", one.stored, one.current or "no file")
    return verification


_MANIFEST_NAMES = {"recipe.yaml": "hashes.recipe", "adapter/adapter_model.safetensors": "hashes.adapter"}
"""Files that the manifest names in another way."""


def _may_lack(checksum: Checksum) -> bool:
    """Whether a missing file is no loss: a run with an adapter needs neither checkpoints nor trackers' files."""
    return checksum.name.startswith(("checkpoints/", "tracking/", "dev/"))


def _check_run(run: Run, manifest: Mapping[str, Any], verification: Verification) -> None:
    directory = run.directory
    _check_hashes(run, manifest["hashes"], verification)
    _check_sources(run, verification)
    _check_base(run, manifest, verification)
    _check_adapter(run, verification)
    _check_skill(run, verification)
    for what, layout in run.context.final.layouts().items():
        _check_reading(run, what, layout, verification)
    _check_tasks(run, verification)
    _check_texts(run, verification)
    _check_suite(run, verification)
    stored, recomputed_result = read_json(directory.result), compute_result(run.context)
    for place, value, recomputed in _leaves(stored, recomputed_result):
        verification.figures += 1
        if place == "schema_version" and value is None:  # older runs have none
            continue
        if place != "finished" and not _same(value, recomputed):
            verification.faults.append(Fault(f"result.json, {place}", value, recomputed))
    _check_unchanged(run, verification)
    check_artefacts(run.context, verification, verification.absent)


def _version(facts: Mapping[str, Any]) -> str:
    git = facts.get("git")
    return f"keeptune {facts.get('keeptune')}" + (f" at {git['commit'][:12]}" if git else "")


def _check_hashes(run: Run, stored: Mapping[str, Any], verification: Verification) -> None:
    examples = {part: load_prepared_rows(run.directory.examples(part)) for part in SPLITS}
    recomputed: dict[str, str | None] = {
        "recipe": file_sha256(run.directory.recipe),
        "data": data_sha256(examples),
        "prompt": run.context.prompt.sha256,
        "adapter": file_sha256(run.directory.adapter_weights),
    }
    # Older runs have no hashes of single files, or not of all.
    names = hashed_files(run.context) if any(name.startswith("scores/") for name in stored) else []
    required = {name for name in names if name.startswith(("scores/", "data/"))} - _ADDED_LATER
    recomputed |= {
        name: sha256_if_file(run.directory.root / name) for name in names if name in stored or name in required
    }
    for name, value in recomputed.items():
        verification.hashes += 1
        verification.expect(f"manifest.json, hashes.{name}", stored.get(name), value)


def _check_sources(run: Run, verification: Verification) -> None:
    """The input files are unchanged."""
    sources = stored_sources(run.directory)
    for record, files in (("data/card.json", sources.card), ("inputs.json", sources.others)):
        for source in files:
            if (sha256 := sha256_if_file(Path(source.file))) is not None:
                verification.hashes += 1
                verification.expect(f"{record}, sha256 of {source.file}", source.sha256, sha256)
            else:
                verification.absent.append(source.file)


def _check_base(run: Run, manifest: Mapping[str, Any], verification: Verification) -> None:
    """The base model's weights and configuration are those of the training, where the model is on this machine."""
    if manifest.get("base") is None:  # older runs have none
        return
    try:
        current = identify(run.recipe.model.name).model_dump()
    except ModelError as error:
        _not_here(str(error), verification)
        return
    for key in ("weights_sha256", "config_sha256"):
        verification.hashes += 1
        verification.expect(f"manifest.json, base.{key}", manifest["base"].get(key), current[key])


def _check_adapter(run: Run, verification: Verification) -> None:
    """keeptune.json beside the adapter has the prompt of the run and the selected scale."""
    card = read_json(run.directory.adapter / adapter_metadata.FILE)
    chosen = read_json(run.directory.chosen, Chosen)
    verification.expect(
        f"adapter/{adapter_metadata.FILE}, prompt", card["prompt"]["template"], run.context.prompt.template
    )
    verification.expect(f"adapter/{adapter_metadata.FILE}, scale", card["scale"], chosen["scale"])


def _check_skill(run: Run, verification: Verification) -> None:
    """Base and tuned answered the test questions, and the true answers follow from the problems."""
    skill = skill_for_section(run.recipe.data)
    expected = {example.id: example for example in load_prepared_rows(run.directory.examples("test"))}
    for variant in VARIANTS:
        file, records = f"scores/{SKILL}-{variant}.jsonl", run.context.final.records(SKILL, variant)
        verification.expect_each(f"{file}, ids", [record["id"] for record in records], list(expected))
        for record in records:
            place, example = f"{file}, {record['id']}", expected.get(record["id"])
            if example is not None:
                rendered = run.context.prompt.render(example.problem, example.conversation)
                verification.expect(f"{place}, prompt", record["prompt"], rendered)
                verification.expect(f"{place}, truth", record["truth"], _truth(skill, example.problem, example.truth))
            _grade_again(record, place, run.context.final.grader, verification)


def _check_reading(run: Run, what: str, layout: ReadingLayout, verification: Verification) -> None:
    """Base and tuned answered the same questions, those of the reading set where its file exists."""
    file, base, tuned = (
        f"scores/{what}-tuned.jsonl",
        *(run.context.final.records(what, variant) for variant in VARIANTS),
    )
    for key in ("id", "prompt"):
        verification.expect_each(f"{file}, {key}s", [record[key] for record in tuned], [record[key] for record in base])
    try:
        expected = {item.question_id: item for item in run.context.final.reading()[1]}
        verification.expect_each(f"{file}, ids", [record["id"] for record in tuned], list(expected))
    except DataError as error:
        expected = {}
        _not_here(str(error), verification)
    for variant, records in (("base", base), ("tuned", tuned)):
        for record in records:
            place, item = f"scores/{what}-{variant}.jsonl, {record['id']}", expected.get(record["id"])
            if item is not None:
                verification.expect(
                    f"{place}, prompt", record["prompt"], question_text(item.context, item.question, layout)
                )
                verification.expect(f"{place}, references", record["references"], list(item.answers))
            _read_again(record, place, verification)


def _check_tasks(run: Run, verification: Verification) -> None:
    """Base and tuned answered the same harness tasks; lm-evaluation-harness's own scoring is not repeated."""
    base, tuned = (run.context.final.scores(variant).tasks for variant in VARIANTS)
    for key in QUESTION_KEYS:
        values = [[record[key] for record in records] for records in (tuned, base)]
        verification.expect_each(f"scores/{TASKS}-tuned.jsonl, {key}", *values)


def _check_texts(run: Run, verification: Verification) -> None:
    """Predictions were compared on the texts that the recipe names, where their files exist."""
    records = run.context.final.divergences()
    if not records:
        return
    try:
        expected = {plain_text.id: plain_text.text for plain_text in run.context.final.texts()}
    except DataError as error:
        _not_here(str(error), verification)
        return
    for record in records:
        verification.expect(
            f"scores/drift-tuned.jsonl, {record['id']}, text", record["text"], expected.get(record["id"])
        )


def _check_suite(run: Run, verification: Verification) -> None:
    """Base and tuned answered the items of the suite, and the practised abilities follow from the recipe."""
    size = run.recipe.score.suite
    if size == "none":
        return
    for ability in run.context.final.abilities():
        check_answers(ability, size, run.directory.scores, verification, whole=True)
    stored, recomputed = run.context.final.practised(), practised_by(run.recipe)
    verification.expect("scores/practised.json", {name: stored.get(name) for name in recomputed}, recomputed)


def _check_unchanged(run: Run, verification: Verification) -> None:
    """An adapter with an invocation does not change prompts without it; both models are compared again."""
    if not run.recipe.retain.invocation:
        return
    stored = run.context.final.unchanged()
    prompts = dict(suite_prompts(ChatLayout(run.context.models.tokenizer, run.context.final.fallback)))
    verification.expect_each(f"scores/{UNCHANGED}-tuned.jsonl, ids", [record["id"] for record in stored], list(prompts))
    try:
        model = tuned_generator(run.context).model
    except ModelError as error:
        _not_here(str(error), verification)
        return
    for record in state_differences(model, list(prompts.items())):
        verification.answers += 1
        verification.expect(f"scores/{UNCHANGED}-tuned.jsonl, {record['id']}, difference", 0.0, record["difference"])


def _verify_gate(folder: Path, code: Mapping[str, Any]) -> Verification:
    """Verifies the output folder of `keeptune gate`."""
    stored = read_json(folder / GATE_FILE)
    verification = Verification(made_by=_version(stored), checked_by=_version(code))
    try:
        check_gate_folder(folder, stored, verification)
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError) as error:
        raise DataError(
            f"{folder / GATE_FILE}: a key of gate.json is missing or has the wrong type ({error!r}); restore the file"
        ) from None
    return verification


def _not_here(error: str, verification: Verification) -> None:
    if error not in verification.absent:
        verification.absent.append(error)


def _truth(skill: Skill, problem: str, stored: str) -> str:
    """The true answer computed from the problem; for free text the stored one, which comes from the solution."""
    if skill.grader:
        return stored
    question = skill.parse(problem, "")
    return stored if question is None or question.kind in skill.free_text_kinds else str(question.truth)


def _grade_again(record: Record, place: str, grader: Grader | None, verification: Verification) -> None:
    truth = record["truth"] if grader else parse_truth(record["truth"])
    graded = grade_fields(record["output"], truth, record["kind"], record["problem"], grader)
    verification.answers += 1
    for key, value in graded.items():
        if key != "source":
            verification.expect(f"{place}, {key}", record.get(key), value)


def _read_again(record: Record, place: str, verification: Verification) -> None:
    prediction, references = first_line(record["output"]), record["references"]
    verification.answers += 1
    verification.expect(f"{place}, prediction", record["prediction"], prediction)
    again = {SQUAD: score_squad_v11(prediction, references), CONTEST: score_contest(prediction, references[0])}
    for metric, scores in again.items():
        if record[metric] is not None:
            verification.expect(f"{place}, {metric}", record[metric], {"f1": 100 * scores.f1, "em": 100 * scores.em})


def _leaves(stored: Any, recomputed: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """All leaf values of two trees in pairs; a value that one tree lacks is None."""
    if isinstance(stored, Mapping) and isinstance(recomputed, Mapping):
        for key in [*stored, *(key for key in recomputed if key not in stored)]:
            yield from _leaves(stored.get(key), recomputed.get(key), f"{place}.{key}" if place else str(key))
    elif _is_list(stored) and _is_list(recomputed) and len(stored) == len(recomputed):
        for index, pair in enumerate(zip(stored, recomputed, strict=True)):
            yield from _leaves(*pair, f"{place}[{index}]")
    else:
        yield place, stored, recomputed


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _same(stored: Any, recomputed: Any) -> bool:
    """Whether two values are equal; floats up to the rounding of another order of summation."""
    if isinstance(stored, float) and isinstance(recomputed, int | float):
        return isclose(stored, recomputed, rel_tol=1e-9, abs_tol=1e-12)
    return bool(stored == recomputed)
