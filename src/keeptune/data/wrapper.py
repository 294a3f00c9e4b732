"""The problem inside a prompt: conversation files store each problem in the prompt their team trained with."""

from __future__ import annotations

import re

# The official wrapper is `…\n\n### Instruction:\n{problem}\n\n### Response:`; teams dropped either end, one #, or
# the first sentence, and added spaces.
_BEFORE_PROBLEM = re.compile(r"\A(?:[^#]*\n)?[ ]*(?:#{2,3} ?)?Instruction: *\n?")
_AFTER_PROBLEM = re.compile(r"\n(?:#{2,3} ?)?Response:\Z")


def unwrap(prompt: str) -> str:
    """The problem inside a prompt: what stands between `### Instruction:` and `### Response:`, or all of it."""
    return _AFTER_PROBLEM.sub("", _BEFORE_PROBLEM.sub("", prompt.rstrip(), count=1)).strip()
