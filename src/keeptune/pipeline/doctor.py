"""Examines this machine: device, precision, memory, packages, and what a run will use and why."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib import metadata

import psutil
import torch
from packaging.requirements import Requirement

from keeptune.data.workers import SMALL_INPUT_BYTES, available_cpu_count
from keeptune.environment import hardware
from keeptune.errors import KeeptuneError
from keeptune.generation import vllm
from keeptune.models import load as models
from keeptune.models.device_memory import SHARED_MEMORY_DEVICES, free_bytes, total_bytes
from keeptune.progress import printable

_PURPOSES = {
    "cluster": "data stage and training on a Ray cluster",
    "evidence": "keeptune bom, sign, push, and verify --key",
    "graders": "graders math, rouge, chrf, and schemas of json",
    "harness": "tasks of lm-evaluation-harness (score.tasks)",
    "hub": "Hugging Face data sets (hf:NAME)",
    "llama": "tokenizers in sentencepiece files",
    "nf4": "model.quantization: nf4",
    "serve": "keeptune serve and studio",
    "sweep": "keeptune sweep",
    "writer": "data.teacher, and the grader judge",
}
"""What each optional extra is for. Extras for development are not listed."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A line of the examination: what it is about, what was found, and whether it prevents runs."""

    topic: str
    text: str
    is_fault: bool = False


def examine() -> list[Finding]:
    """Return the findings about this machine. They do not depend on a recipe."""
    return [*_machine(), *_packages(), *_extras(), *_choices()]


def text(findings: list[Finding]) -> str:
    """Return the findings as lines, faults marked."""
    return "\n".join(
        f"{'FAULT  ' if finding.is_fault else '       '}{finding.topic:10} {printable(finding.text)}"
        for finding in findings
    )


def _machine() -> list[Finding]:
    device, facts = models.device(), hardware()
    name = facts["accelerator"] or facts["cpu"]
    reason = "no accelerator is available" if device.type == "cpu" else "it is available"
    kind = models.dtype("auto")
    width = "multiplies bfloat16 in hardware" if kind == torch.bfloat16 else "does not multiply bfloat16 in hardware"
    place = "of the machine or its container" if device.type in SHARED_MEMORY_DEVICES else "of the device"
    gib = 2**30
    return [
        Finding(
            "keeptune", f"{metadata.version('keeptune')} on Python {platform.python_version()}, {platform.platform()}"
        ),
        Finding("device", f"{device.type} ({name}): {reason}"),
        Finding("precision", f"{str(kind).removeprefix('torch.')} for model.dtype: auto, because the device {width}"),
        Finding("memory", f"{free_bytes(device) / gib:.1f} GiB free of {total_bytes(device) / gib:.1f} GiB {place}"),
        Finding(
            "cores",
            f"{available_cpu_count()} usable, {psutil.cpu_count()} present, {torch.get_num_threads()} threads of torch",
        ),
    ]


def _packages() -> list[Finding]:
    """Return one finding for each required package that is missing or outside its range, and one for all others."""
    requirements = [Requirement(line) for line in metadata.requires("keeptune") or ()]
    required = [one for one in requirements if one.marker is None or one.marker.evaluate({"extra": ""})]
    present, faults = [], []
    for requirement in sorted(required, key=lambda one: one.name):
        version = _version(requirement.name)
        if version is not None and requirement.specifier.contains(version, prereleases=True):
            present.append(f"{requirement.name} {version}")
        else:
            state = f"found {version}" if version else "not installed"
            advice = f"pip install '{requirement.name}{requirement.specifier}'"
            faults.append(Finding("package", f"{requirement.name}: {state}; {advice}", is_fault=True))
    return [Finding("packages", ", ".join(present)), *faults]


def _extras() -> list[Finding]:
    requirements = [Requirement(line) for line in metadata.requires("keeptune") or ()]
    findings = []
    for extra, purpose in _PURPOSES.items():
        names = [
            one.name
            for one in requirements
            if one.marker and one.marker.evaluate({"extra": extra}) and not one.marker.evaluate({"extra": ""})
        ]
        versions = {name: _version(name) for name in names}
        if all(versions.values()):
            state = ", ".join(f"{name} {version}" for name, version in versions.items())
        else:
            state = f"not installed; pip install 'keeptune[{extra}]'"
        findings.append(Finding("extra", f"{extra} ({purpose}): {state}"))
    return findings


def _choices() -> list[Finding]:
    """Return what a run uses on this machine: engine, model, processes."""
    device = models.device()
    findings = [_generation(), _embedded_model()]
    layers = "packed once per stage, which is faster" if device.type == "cpu" else "as they are"
    findings.append(Finding("weights", f"frozen linear layers are used {layers}"))
    processes, limit = available_cpu_count(), SMALL_INPUT_BYTES // 2**20
    findings.append(
        Finding("data", f"{processes} processes for input above {limit} MiB, else one; --processes changes it")
    )
    findings.append(Finding("cache", f"{models.cache_folder()} (KEEPTUNE_CACHE changes it)"))
    return findings


def _generation() -> Finding:
    python = os.environ.get(vllm.PYTHON)
    if not python:
        return Finding("answers", f"keeptune's own engine, because {vllm.PYTHON} is not set")
    try:
        vllm.check_installed()
    except KeeptuneError as error:
        return Finding("answers", str(error), is_fault=True)
    return Finding("answers", f"vLLM of {python} ({vllm.PYTHON})")


def _embedded_model() -> Finding:
    if models.has_embedded():
        return Finding("model", f"{models.EMBEDDED} is on this machine")
    return Finding(
        "model", f"{models.EMBEDDED} is loaded from the hub ({models.EMBEDDED_HUB_ID}), because the package is missing"
    )


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
