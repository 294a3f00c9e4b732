"""Cache of evaluation records, so that the same model never answers the same questions twice.

Several recipes often share a base model and its questions, and the answers of a base model take the longest, because it
rarely ends an answer before its budget. The key of an entry is a fingerprint: the hash of everything that the records
depend on, such as weights, tokenizer, adapter, prompt, questions, settings, code, package versions and machine. To
evaluate again, delete the folder `scores` in the cache, or set KEEPTUNE_CACHE to another folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from keeptune.errors import RunError
from keeptune.files import Record, read_regular_bytes, write_json
from keeptune.generation.partial_answers import stored_answers

FROM_CACHE = " (from the cache)"
"""Suffix of progress messages about cached records."""

PARTIAL = ".partial.jsonl"
"""Suffix of the file of an entry that is not complete yet."""

PACKAGES = ("torch", "transformers", "peft", "tokenizers", "jieba")
"""Packages whose version can change an answer or its score."""


class RecordCache:
    """Records in a folder, by the fingerprint of what they depend on."""

    def __init__(self, folder: Path, fingerprint: Mapping[str, Any]) -> None:
        """`fingerprint` is the part that all records of this cache share, such as model and code."""
        self.folder, self.fingerprint = folder, dict(fingerprint)

    def extended(self, fingerprint: Mapping[str, Any]) -> RecordCache:
        """The same cache with further entries in the shared fingerprint."""
        return RecordCache(self.folder, {**self.fingerprint, **fingerprint})

    def get_or_compute(
        self, fingerprint: Mapping[str, Any], compute: Callable[[], list[Record]]
    ) -> tuple[list[Record], bool]:
        """Records by fingerprint, and whether they were cached; `compute` computes missing ones.

        Answers that `compute` generates are stored as they come, so that an interrupted computation goes on.
        Entries that are unreadable or have another fingerprint are computed again. An entry that cannot be written is
        skipped, because a full disk is no reason to lose the answers.
        """
        key = json.loads(json.dumps({**self.fingerprint, **fingerprint}))
        path = self.folder / f"{sha256_of(key)}.json"
        try:
            entry = json.loads(read_regular_bytes(path))
            if entry["facts"] == key:
                return list(entry["records"]), True
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass
        with stored_answers(path.with_suffix(PARTIAL)) as partial:
            records = compute()
            with suppress(RunError):
                write_json(path, {"facts": key, "records": records})
            partial.remove()
        return records, False


def sha256_of(value: Any) -> str:
    """The SHA-256 hash of a value that JSON can represent, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


@cache
def code_fingerprint() -> dict[str, Any]:
    """The fingerprint of the code: a hash of keeptune's source files, and the versions of PACKAGES."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return {"code": digest.hexdigest(), "packages": {name: metadata.version(name) for name in PACKAGES}}
