"""Chinese characters, as the suite's rules and the overlap test count them."""

from __future__ import annotations

import re

HAN = r"\u3400-\u9fff"
"""Inside the brackets of a regular expression."""

HAN_CHARACTER = re.compile(f"[{HAN}]")
