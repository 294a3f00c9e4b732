"""Schemas of export.json, in the folder of an export, and of artefact.json, which says how an artefact answers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from keeptune.run_files.manifest import BaseModelRecord
from keeptune.run_files.part import Estimate, Part
from keeptune.run_files.result import Share
from keeptune.run_files.retention import Ability, Gate, Status

EXPORT_FILE = "export.json"
"""The name of the file that describes an export, in its folder."""

Verdict = Literal["pass", "fail", "undecided"]


class Export(Part):
    """export.json: what an export was made of, and the SHA-256 of each of its files.

    `adapter_sha256` and `prompt_sha256` are null for a base model without an adapter.
    """

    schema_version: int = 1
    keeptune: str
    form: str
    gguf_type: str | None = None
    target: str
    model: str
    base: BaseModelRecord | None = None
    adapter_sha256: str | None = None
    prompt_sha256: str | None = None
    files: dict[str, str]


class PromptDifference(Part):
    """The first prompt with other tokens: the tokens of the run and of the program from the place of the first
    difference on. A program that tells only the number of tokens has none."""

    prompt: str
    place: int
    expected: list[int]
    served: list[int]


class Prompts(Part):
    """How many prompts were compared, and how many have other tokens in the program."""

    compared: int
    by: Literal["token ids", "token counts"]
    differing: int
    first: PromptDifference | None = None


class ArtefactSkill(Part):
    """The skill test, answered by the artefact and, before, by the run.

    Attributes:
        difference: artefact − run.
        equal: the number of answers with the text of the run's answer.
        near_ties: the number of the others that part from it where two tokens are nearly as likely; null if that cannot
            be measured.
        expected_equal: the smallest share of equal answers that 16-bit formats should reach; null for others.
    """

    run: Share
    artefact: Share
    difference: Estimate
    mcnemar_p: float | None
    equal: int
    near_ties: int | None
    expected_equal: float | None
    status: Status
    reason: str

    @property
    def equal_share(self) -> float:
        """The share of equal answers."""
        return self.equal / self.artefact.n

    @property
    def differs(self) -> bool:
        """Whether fewer answers are equal than expected."""
        return self.expected_equal is not None and self.equal_share < self.expected_equal


class Artefact(Part):
    """artefact.json: how an artefact of a run answers in the program that serves it.

    Attributes:
        artefact: the file, folder or address.
        program: the program that answered; empty if none was started.
        form, gguf_type: as in export.json; null for an address.
        size: the size of the retention suite.
        adapter_sha256: the run's adapter.
        files: the SHA-256 of the artefact's files, by path.
        faults: what is wrong with the files, or with the chat template; empty if nothing is.
        prompts: the comparison of tokens; null if no program was started.
        skill: null if a fault or differing tokens ended the check.
        left_out: the abilities that were not measured, each with the reason.
        gate: the verdict on the abilities alone; null without abilities.
        hashes: the SHA-256 of the files with answers, beside artefact.json.
    """

    schema_version: int = 1
    artefact: str
    program: str
    form: str | None
    gguf_type: str | None
    size: str
    finished: str
    command: str
    keeptune: str
    adapter_sha256: str
    files: dict[str, str]
    faults: list[str]
    prompts: Prompts | None
    skill: ArtefactSkill | None = None
    abilities: dict[str, Ability] = Field(default_factory=dict)
    left_out: dict[str, str] = Field(default_factory=dict)
    gate: Gate | None = None
    verdict: Verdict
    reason: str
    hashes: dict[str, str] = Field(default_factory=dict)
