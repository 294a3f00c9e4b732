"""Records that were made before from the very same things, so that a base is not asked twice.

Several recipes often differ in what is trained and not in what the base is asked, and its answers are what takes
longest, for a base seldom stops by itself. Records are kept in the user's cache under a hash of all that they depend
on: weights, tokenizer, adapter, prompt, questions, settings, code, versions and machine. What differs in any of these
is another entry; to be asked anew, delete the folder `scores` in the cache, or set KEEPTUNE_CACHE to another one.
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
from keeptune.files import write_json

Record = dict[str, Any]

AGAIN = " (answered before, from the cache)"
"""What is said of records that were there."""

PACKAGES = ("torch", "transformers", "peft", "tokenizers", "jieba")
"""Whose versions can change an answer or its score."""


class RecordCache:
    """Records by what they depend on, in a folder."""

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """`facts` are what all records depend on that are asked for here."""
        self.folder, self.facts = folder, dict(facts)

    def with_facts(self, facts: Mapping[str, Any]) -> RecordCache:
        """The same cache for records that depend on these facts, too."""
        return RecordCache(self.folder, {**self.facts, **facts})

    def records(self, facts: Mapping[str, Any], make: Callable[[], list[Record]]) -> tuple[list[Record], bool]:
        """The records that depend on these facts, too, and whether they were there; else `make` makes them.

        An entry that cannot be read, or is of other facts, is made anew. One that cannot be written is done without:
        a full disk is no reason to lose the answers.
        """
        wanted = json.loads(json.dumps({**self.facts, **facts}))
        path = self.folder / f"{sha256_of(wanted)}.json"
        try:
            entry = json.loads(path.read_text(encoding="utf-8"))
            if entry["facts"] == wanted:
                return list(entry["records"]), True
        except (OSError, ValueError, KeyError, TypeError):
            pass
        made = make()
        with suppress(RunError):
            write_json(path, {"facts": wanted, "records": made})
        return made, False


def sha256_of(value: Any) -> str:
    """The hash of anything that JSON can say, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


@cache
def code_facts() -> dict[str, Any]:
    """The code that asks and scores: the hash of keeptune's own, and the versions of what it stands on."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return {"code": digest.hexdigest(), "packages": {name: metadata.version(name) for name in PACKAGES}}
