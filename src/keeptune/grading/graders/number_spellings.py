"""Spellings of numbers that the grader `number` reads beyond those of `parse_number`.

`parse_number` keeps the rules of the published arithmetic results. Here, a text that it does not read is rewritten to a
spelling that it does read. A text that has more than one usual meaning stays unread, such as `1.234` for 1234.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

from keeptune.grading.number import HALF_WIDTH, MAXIMUM_CHARACTERS, parse_number

_DECORATION = " \t\r\n*_`'\"$"
_STATEMENT = re.compile(
    r"(?:(?:so|thus|hence|therefore)\b,?\s*)?(?:the\s+)?(?:(?:final|correct)\s+)?answer\s+is\b\s*:?\s*"
    r"|(?:所以|因此)?[，,]?\s*(?:最终|正确)?答案(?:是|为)\s*[:：]?\s*",
    re.IGNORECASE,
)
_BOX = re.compile(r"\\(?:boxed|fbox)\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}")
_APPROXIMATELY = re.compile(
    r"(?:about|around|roughly|approximately|approx\.?|大约|大概|约)\s*(?=\S)|[~～∼]\s*(?=[^~～∼])", re.IGNORECASE
)
_NEGATIVE = re.compile(r"(?:minus|negative|负)\s*(?=[^\s+-])", re.IGNORECASE)
_CODES = "USD|EUR|GBP|CNY|RMB|JPY|CHF|INR|KRW|BRL|CAD|AUD|HKD|SGD|MXN|SEK|NOK|DKK|PLN|CZK|TRY|RUB|ZAR"
_SIGNS = "$¥€£₹₩₽₺₫฿₪"
_CURRENCY = rf"(?:(?:US|CA|AU|HK|NT|SG|A|C|R)\$|[{_SIGNS}]|Rs\.?|(?:{_CODES})(?![A-Za-z]))"
_CURRENCY_BEFORE = re.compile(rf"([+-]?)\s*{_CURRENCY}\s*([+-]?)\s*(?=[0-9.])", re.IGNORECASE)
_CURRENCY_AFTER = re.compile(rf"(?<=[0-9])\s*{_CURRENCY}", re.IGNORECASE)

_VULGAR = re.compile("([0-9]*)\\s*([¼½¾⅐-⅞])")
_SPACE = "[ \u00a0\u2009\u202f]"
_NUMBER = re.compile(rf"[0-9](?:[0-9.,，'’]|{_SPACE}(?=[0-9]{{3}}(?![0-9])))*")
_GROUPS = re.compile(
    rf"[0-9]{{1,3}}(?:(?P<mark>{_SPACE}|['’，.])[0-9]{{3}}(?:(?P=mark)[0-9]{{3}})*)(?P<rest>[.,][0-9]+)?"
)
_INDIAN = re.compile(r"[0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3}(?:\.[0-9]+)?")
_DECIMAL_COMMA = re.compile(r"[0-9]+,[0-9]+")

_MAGNITUDES = {
    "dozen": 12,
    "hundred": 10**2,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "百": 10**2,
    "千": 10**3,
    "万": 10**4,
    "百万": 10**6,
    "千万": 10**7,
    "亿": 10**8,
    "万亿": 10**12,
}
_MAGNITUDE_NAMES = "|".join(sorted(_MAGNITUDES, key=len, reverse=True))
_MAGNITUDE = re.compile(
    rf"(?P<number>.*[0-9½¼¾])\s*(?P<magnitude>{_MAGNITUDE_NAMES})(?P<unit>(?!s?[a-z]).*)",
    re.IGNORECASE | re.DOTALL,
)


def read_number(text: str) -> Fraction | None:
    """Return the exact value of a text in any usual spelling, or None if it is not a single number."""
    if len(text) > MAXIMUM_CHARACTERS:
        return None
    value = parse_number(text)
    if value is not None:
        return value
    plain = _plain(text)
    match = _MAGNITUDE.fullmatch(plain)
    if match is None:
        return parse_number(plain)
    value, unit = parse_number(match["number"]), match["unit"]
    is_unit = not re.search("[0-9]", unit) and parse_number(f"1 {unit}") == 1
    return value * _MAGNITUDES[match["magnitude"].lower()] if value is not None and is_unit else None


def _plain(text: str) -> str:
    """Return the text without dress and currency, with decimal points, and without marks between thousands."""
    text = text.translate(HALF_WIDTH | {0x2212: "-", 0x2013: "-"})
    text = text.strip(_DECORATION).rstrip(".。!;,；，").strip(_DECORATION)
    text = _strip_prefix(_STATEMENT, text).strip(_DECORATION)
    if box := _BOX.fullmatch(text):
        text = box[1].strip()
    text = _strip_prefix(_APPROXIMATELY, text)
    sign = _NEGATIVE.match(text)
    text = text[sign.end() :] if sign else text
    text = _CURRENCY_AFTER.sub(" ", _CURRENCY_BEFORE.sub(r"\1\2", text, count=1), count=1).strip()
    text = _VULGAR.sub(_write_vulgar, text.replace("⁄", "/"))
    return ("-" if sign else "") + _NUMBER.sub(_write_number, text)


def _strip_prefix(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.match(text)
    return text[match.end() :] if match else text


def _write_vulgar(match: re.Match[str]) -> str:
    """Return `½` as `1/2`, and `2½` as `2 1/2`."""
    return f"{match[1]} {unicodedata.normalize('NFKC', match[2]).replace('⁄', '/')}".strip()


def _write_number(match: re.Match[str]) -> str:
    """Return a number with a decimal point and without marks between thousands.

    A single point or comma before three digits stays, because it has two meanings: `1.234` is 1.234, `1,234` is 1234.
    """
    text = match[0]
    groups = _GROUPS.fullmatch(text)
    if groups is None:
        if _INDIAN.fullmatch(text):
            return text.replace(",", "")
        return text.replace(",", ".") if _DECIMAL_COMMA.fullmatch(text) else text
    mark, rest = groups["mark"], groups["rest"] or ""
    if mark == "." and (rest[:1] == "." or (not rest and text.count(".") == 1)):
        return text
    whole = text.removesuffix(rest)
    return whole.replace(mark, "") + rest.replace(",", ".")
