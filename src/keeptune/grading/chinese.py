"""Character ranges for Chinese text, for use inside the brackets of a regular expression.

The ranges differ on purpose. Each pattern that uses one was tested with it, and stored results depend on it.
"""

from __future__ import annotations

import re

COMMON_HAN = r"\u4e00-\u9fff"
"""CJK Unified Ideographs, the block that ordinary text uses."""

HAN = r"\u3400-\u9fff"
"""Extension A and CJK Unified Ideographs, with the 64 hexagram symbols between them."""

HAN_AND_COMPATIBILITY = HAN + r"\uf900-\ufaff"
"""`HAN` and the compatibility ideographs."""

ALL_HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
"""All ideographs up to Extension G."""

CJK_LETTERS = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Letters of Chinese and Japanese text: kana, and ideographs including all of planes 2 and 3."""

CHINESE_TEXT = r"\u3000-\u303f" + HAN_AND_COMPATIBILITY + r"\uff00-\uffef"
"""All characters of Chinese text: ideographs, CJK punctuation and full-width forms."""

HAN_CHARACTER = re.compile(f"[{HAN}]")
"""Matches one character of `HAN`."""

COMMON_HAN_CHARACTER = re.compile(f"[{COMMON_HAN}]")
"""Matches one character of `COMMON_HAN`."""
