"""Schema of manifest.json: versions, machine, and the hashes of all inputs and outputs."""

from __future__ import annotations

from keeptune.run_files.part import Part


class TrainedParameters(Part):
    """Numbers of parameters: of the adapter, and of the adapted model."""

    trainable: int
    total: int


class Git(Part):
    """The commit that ran, and whether files differed from it."""

    commit: str
    dirty: bool


class Hardware(Part):
    """The machine."""

    cpu: str
    cores: int
    memory_bytes: int
    accelerator: str | None


class BaseModelRecord(Part):
    """The identity of a base model: hashes of stored weights and configuration, and the revision on the hub."""

    weights_sha256: str
    config_sha256: str
    revision: str | None = None


class Manifest(Part):
    """manifest.json."""

    keeptune: str
    python: str
    platform: str
    packages: dict[str, str]
    git: Git | None
    hardware: Hardware
    hashes: dict[str, str | None]
    seed: int
    started: str
    command: str
    parameters: TrainedParameters | None = None
    base: BaseModelRecord | None = None
