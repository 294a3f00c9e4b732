"""The bill of materials of a tuned model: a CycloneDX 1.6 document (ML-BOM).

cyclonedx-python-lib 11 has no classes for `modelCard` and `data`, so the document is built as plain JSON. The library
validates it by the official schema before it is written. Format: https://cyclonedx.org/docs/1.6/json/.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.spdx import fixup_id
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from keeptune.data.hub import is_hub_name
from keeptune.errors import ModelError, RunError
from keeptune.evaluation.model_pair import find_adapter
from keeptune.export.measurements import Measurements, read_measurements, recipe_of
from keeptune.export.model_card import TASK, hub_name
from keeptune.export.readme import license_of
from keeptune.export.signature import IGNORED
from keeptune.files import Record, file_sha256, read_json, write_text
from keeptune.models import adapter_metadata
from keeptune.pipeline.input_files import stored_sources
from keeptune.run_files.card import Card, SourceFile
from keeptune.run_files.directory import ADAPTER_CONFIG, ADAPTER_WEIGHTS, RunDirectory
from keeptune.run_files.manifest import Manifest

FILE = "bom.cdx.json"
SPEC_VERSION = SchemaVersion.V1_6

MODEL_REF, BASE_REF = "model", "base-model"

_SERIAL_URL = "https://github.com/keeptune/keeptune/bom/"
"""The beginning of the name from which the serial number is derived (UUID version 5)."""


def write_bom(target: Path, exports: Sequence[Path], out: Path) -> Path:
    """Writes the bill of materials of a run or adapter, with the files of its exports.

    Raises:
        ModelError: if `target` has no adapter, or `exports` names no folder.
        RunError: if a file of the run is damaged, or `out` cannot be written.
    """
    for folder in exports:
        if not folder.is_dir():
            raise ModelError(f"{folder}: no such folder; give folders that `keeptune export` wrote")
    folders = {path.resolve().name: path for path in exports}
    if len(folders) < len(exports):
        raise ModelError(
            "two exports have folders of the same name, so their files could not be told apart; rename one"
        )
    write_text(out, bill_of_materials(target, target, folders, out))
    return out


def bill_of_materials(target: Path, files: Path, exports: dict[str, Path], out: Path) -> str:
    """The document as JSON text. Equal inputs give equal bytes.

    Args:
        target: the run or adapter that it describes.
        files: the folder whose files are those of the model: `target`, or a copy that is published.
        exports: folders of exports, by name.
        out: the file that the text is written to, which is not listed.

    Raises:
        ModelError: if there is no adapter.
    """
    adapter = find_adapter(str(target))
    if adapter is None:
        raise ModelError(f"{target}: there is no adapter; give a finished run or an adapter folder")
    metadata, measurements, directory = adapter_metadata.load(adapter), read_measurements(target), RunDirectory(target)
    manifest = _manifest(directory)
    data = list({one["bom-ref"]: one for one in _data(directory, target, manifest)}.values())
    components = [_base(metadata, manifest), *data, *_packages(manifest)]
    references = [str(component["bom-ref"]) for component in components]
    model = {
        "type": "machine-learning-model",
        "bom-ref": MODEL_REF,
        "name": target.resolve().name,
        "version": file_sha256(adapter / ADAPTER_WEIGHTS)[:12],
        "description": f"adapter for {components[0]['name']}, trained for the skill {metadata.skill} with keeptune",
        "licenses": _licenses(license_of(metadata.model)),
        "components": [one for label, path in {"": files, **exports}.items() for one in _files(path, label, out)],
        "modelCard": _model_card(adapter, metadata, measurements, data),
    }
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION.to_version(),
        "version": 1,
        "metadata": {
            **_timestamp(measurements, manifest),
            "tools": {"components": [_tool(manifest)]},
            "component": {key: value for key, value in model.items() if value},
        },
        "components": components,
        "dependencies": [
            {"ref": MODEL_REF, "dependsOn": references},
            *({"ref": reference} for reference in references),
        ],
    }
    serial = uuid.uuid5(uuid.NAMESPACE_URL, _SERIAL_URL + json.dumps(document, sort_keys=True))
    return _validated({**document, "serialNumber": serial.urn})


def _validated(document: Record) -> str:
    """The text of a document that the official schema accepts."""
    text = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
    if error := JsonStrictValidator(SPEC_VERSION).validate_str(text):
        raise RunError(f"the bill of materials breaks the schema of CycloneDX 1.6 ({error}); report this as a bug")
    return text


def _manifest(directory: RunDirectory) -> Manifest | None:
    if not directory.manifest.is_file():
        return None
    return Manifest.model_validate(read_json(directory.manifest, Manifest))


def _timestamp(measurements: Measurements | None, manifest: Manifest | None) -> Record:
    """When the run ended, or began where it was not evaluated: not the time of writing, so that bytes repeat."""
    moment = measurements.finished if measurements else manifest.started if manifest else None
    return {"timestamp": datetime.fromisoformat(moment).astimezone(UTC).isoformat()} if moment else {}


def _tool(manifest: Manifest | None) -> Record:
    version = {"version": manifest.keeptune} if manifest else {}
    commit = {"properties": _properties({"git.commit": manifest.git.commit})} if manifest and manifest.git else {}
    return {"type": "application", "name": "keeptune", **version, **commit}


def _base(metadata: adapter_metadata.AdapterMetadata, manifest: Manifest | None) -> Record:
    """The base model, with the hash of its tensors, which does not depend on their division into files."""
    name = hub_name(metadata.model)
    component: Record = {
        "type": "machine-learning-model",
        "bom-ref": BASE_REF,
        "name": name or Path(metadata.model).name,
    }
    base, loaded = metadata.base, manifest.hashes.get("weights") if manifest else None
    if base:
        component["version"] = base.revision or base.weights_sha256[:12]
        component["hashes"] = _hashes(base.weights_sha256)
        properties = {"hashed": "tensors of the stored weights", "config_sha256": base.config_sha256}
        component["properties"] = _properties(properties)
    elif loaded:  # runs of older versions
        component["hashes"] = _hashes(loaded)
        component["properties"] = _properties({"hashed": "tensors of the loaded weights"})
    if licenses := _licenses(license_of(metadata.model)):
        component["licenses"] = licenses
    if name:
        component["purl"] = PackageURL("huggingface", *_split_name(name)).to_string()
    return component


def _split_name(name: str) -> tuple[str | None, str]:
    namespace, _, rest = name.rpartition("/")
    return namespace or None, rest


def _data(directory: RunDirectory, target: Path, manifest: Manifest | None) -> Iterator[Record]:
    """The data: generated rows, files that rows were read from, the selected rows of each split, replayed texts."""
    recipe = recipe_of(target)
    if recipe and recipe.data.synth:
        figures = {"rows": recipe.data.synth.rows, "seed": recipe.data.synth.seed}
        selected = manifest.hashes.get("data") if manifest else None
        yield _dataset(
            "synth", "generated rows, before selection; the hash is that of the selected ones", selected, figures
        )
    if directory.has_data:
        yield from _data_of_run(directory)
        return
    for name in recipe.retain.replay if recipe else ():
        if (path := target / name).is_file():
            yield _dataset(path.name, "replayed texts", file_sha256(path), {"bytes": path.stat().st_size})


def _data_of_run(directory: RunDirectory) -> Iterator[Record]:
    card = Card.model_validate(read_json(directory.data_card, Card))
    sources = stored_sources(directory)
    counted = {"rows_read": card.rows_read, "rows_rejected": card.rows_rejected} if len(card.files) == 1 else {}
    tests = {source.file for source in card.test_files}
    for source in sources.card:
        is_test = source.file in tests
        yield _source(source, "test problems" if is_test else "rows, before selection", {} if is_test else counted)
    for source in sources.others:
        yield _source(source, "another input of the recipe", {})
    for split, part in card.splits.items():
        path = directory.examples(split)
        if path.is_file():
            figures = {"rows": part.rows, "tokens": part.tokens}
            yield _dataset(directory.relative(path), f"selected rows: {split}", file_sha256(path), figures)


def _source(source: SourceFile, purpose: str, figures: Record) -> Record:
    # The folders above a file concern one machine only.
    name = source.file if is_hub_name(source.file) else Path(source.file).name
    return _dataset(name, purpose, source.sha256, {"bytes": source.bytes, **figures})


def _dataset(name: str, purpose: str, sha256: str | None, figures: Record) -> Record:
    component: Record = {
        "type": "data",
        "bom-ref": f"data/{name}@{(sha256 or 'unknown')[:12]}",
        "name": name,
        "description": purpose,
        "data": [{"type": "dataset", "name": name}],
        "properties": _properties(figures),
    }
    return component | ({"hashes": _hashes(sha256)} if sha256 else {})


def _packages(manifest: Manifest | None) -> Iterator[Record]:
    for name, version in (manifest.packages if manifest else {}).items():
        purl = PackageURL("pypi", None, name.lower(), version).to_string()
        yield {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def _files(folder: Path, label: str, out: Path) -> Iterator[Record]:
    """The files of a folder with their hashes, in the order of their names, under `label`."""
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.is_file() and relative.parts[0] not in IGNORED and path.resolve() != out.resolve():
            name = (Path(label) / relative).as_posix()
            yield {"type": "file", "bom-ref": f"file/{name}", "name": name, "hashes": _hashes(file_sha256(path))}


def _model_card(
    adapter: Path,
    metadata: adapter_metadata.AdapterMetadata,
    measurements: Measurements | None,
    data: Iterable[Record],
) -> Record:
    config = read_json(adapter / ADAPTER_CONFIG)
    parameters: Record = {
        "approach": {"type": "supervised"},
        "task": TASK,
        "modelArchitecture": f"{config.get('peft_type')} of rank {config.get('r')}, alpha {config.get('lora_alpha')}",
        "datasets": [{"ref": component["bom-ref"]} for component in data],
        "inputs": [{"format": "text"}],
        "outputs": [{"format": "text"}],
    }
    card: Record = {"modelParameters": {key: value for key, value in parameters.items() if value}}
    if measurements:
        card["quantitativeAnalysis"] = {"performanceMetrics": list(_metrics(metadata.skill, measurements))}
        card["considerations"] = {"technicalLimitations": list(_limitations(measurements))}
        card["properties"] = _properties({"verdict": measurements.gate.verdict, "reason": measurements.gate.reason})
    return card


def _metrics(skill: str, measurements: Measurements) -> Iterator[Record]:
    """The skill, and per ability the tuned value and the comparison with the base that the verdict is based on."""
    if measurements.skill:
        score = measurements.skill.tuned
        yield _metric("accuracy", score.accuracy, f"{skill}: {measurements.skill.problems}, n = {score.n}", *score.ci95)
    for name, ability in measurements.abilities.items():
        measure, values = ability.decisive
        slice_ = f"retention suite, {name}, n = {values.n}"
        yield _metric(measure or values.kind, values.tuned, slice_)
        compared = "tuned / base" if values.kind == "score" else "tuned - base, nats per token"
        if isfinite(values.point):
            yield _metric(f"{measure or values.kind}, {compared}", values.point, slice_, values.low95, values.upper)


def _metric(kind: str, value: float, slice_: str, low: float | None = None, high: float | None = None) -> Record:
    interval = {} if low is None else {"confidenceInterval": {"lowerBound": f"{low:.6g}", "upperBound": f"{high:.6g}"}}
    return {"type": kind, "value": f"{value:.6g}", "slice": slice_, **interval}


def _limitations(measurements: Measurements) -> Iterator[str]:
    yield "The figures hold with greedy decoding. The skill has the stored prompt."
    for name, ability in measurements.abilities.items():
        if ability.status != "retained":
            reason = ability.practised or ability.reason
            yield f"{name}: {ability.status}{f' ({reason})' if reason else ''}"


def _licenses(name: str) -> list[Record]:
    """The license as an SPDX id, or by its name where SPDX has none."""
    if not name:
        return []
    identifier = fixup_id(name)
    return [{"license": {"id": identifier} if identifier else {"name": name}}]


def _hashes(sha256: str) -> list[Record]:
    return [{"alg": "SHA-256", "content": sha256}]


def _properties(values: dict[str, Any]) -> list[Record]:
    return [{"name": f"keeptune:{name}", "value": str(value)} for name, value in values.items()]
