"""Verifiable constraints on a model's response, and the functions that check them.

A constraint is a mapping with the key `type` and the parameters of that type, as in
`{"type": "word_count", "min": 5, "max": 20}`. The strict and loose rules follow IFEval (Zhou et al. 2023,
arXiv 2311.07911, section 2.2). The constraint types and their wording belong to this package.

    >>> check({"type": "word_count", "max": 3}, "Snow is white.")
    True
    >>> satisfied([{"type": "all_lowercase"}, {"type": "no_comma"}], "Yes, snow is white.", loose=False)
    (False, False)

Add a constraint type by writing one function with the decorator `_constraint`. The function name is the type name.
Its keyword arguments are the parameters, and a parameter with a default value is optional.
"""

from __future__ import annotations

import difflib
import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from keeptune.errors import DataError
from keeptune.grading.chinese import ALL_HAN

__all__ = ["check", "satisfied", "validate"]

_LATIN = "A-Za-z\u00c0-\u024f"
_HAN_CHARACTER = re.compile(f"[{ALL_HAN}]")
_LATIN_LETTER = re.compile(f"[{_LATIN}]")
# A Chinese character, or a run of other letters and digits with inner apostrophes, hyphens and decimal points.
_WORD = re.compile(rf"[{ALL_HAN}]|[^\W_{ALL_HAN}]+(?:['’.-][^\W_{ALL_HAN}]+)*")
_ABBREVIATION = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|St|vs|e\.g|i\.e|P\.S)\.", re.IGNORECASE)
_LIST_NUMBER = re.compile(r"^\s*\d+[.)]\s", re.MULTILINE)
_SENTENCE_END = re.compile(r"""[.!?]+["'”’)\]*]*(?=\s|$)|[。！？]+["'”’」』）*]*|\n\s*\n""")
_BULLET = re.compile(r"^\s*[-*] +(\S.*)")
_NUMBERED = re.compile(r"^\s*(\d+)(?:[.)](?!\d)|[、．])\s*(\S.*)")
_PLACEHOLDER = re.compile(r"\[([^\[\]\n]+)\]")
_HIGHLIGHT = re.compile(r"(?<!\*)(\*{1,3})(?=[^\s*])([^*\n]+)(?<=\S)\1(?!\*)")
_QUESTION = re.compile(r"""[^\W_]["'”’」)）]*\s*[?？]""")
_CODE_FENCE = re.compile(r"```(?:json)?\s*\n(.*?)\n?\s*```", re.DOTALL | re.IGNORECASE)
_FINAL_PUNCTUATION = " \t\n.!?,;:。！？，；：…"
_CLOSING = _FINAL_PUNCTUATION + "\"'”’」)）]*"
_QUOTES = (('"', '"'), ("“", "”"), ("「", "」"))
_PLAIN_PUNCTUATION = str.maketrans("‘’“”，。！？：；（）", "''\"\",.!?:;()")


@dataclass(frozen=True)
class _Kind:
    """The values that a parameter accepts."""

    description: str
    accepts: Callable[[object], bool]


@dataclass(frozen=True)
class _Type:
    """A constraint type: its check and the kind of each parameter."""

    check: Callable[..., bool]
    parameters: Mapping[str, _Kind]
    required: tuple[str, ...]


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value == value.strip() != ""


def _is_text_list(value: object) -> bool:
    if not isinstance(value, list | tuple):
        return False
    return len(value) > 0 and all(map(_is_text, value)) and len(set(value)) == len(value)


_COUNT = _Kind("an integer of at least 1", lambda value: type(value) is int and value >= 1)
_TEXT = _Kind("a non-empty string without surrounding spaces", _is_text)
_TEXTS = _Kind("a non-empty list of different, non-empty strings", _is_text_list)
_OPTIONS = _Kind(
    "a list of at least two different, non-empty strings",
    lambda value: isinstance(value, list | tuple) and len(value) > 1 and _is_text_list(value),
)
_LETTER = _Kind("a single letter", lambda value: isinstance(value, str) and len(value) == 1 and value.isalpha())
_LANGUAGE = _Kind("en or zh", lambda value: value in ("en", "zh"))

_TYPES: dict[str, _Type] = {}


def _constraint(**parameters: _Kind) -> Callable[[Callable[..., bool]], Callable[..., bool]]:
    """Decorator: registers a function as the constraint type of the same name."""

    def register(function: Callable[..., bool]) -> Callable[..., bool]:
        signature = inspect.signature(function).parameters
        required = tuple(name for name in parameters if signature[name].default is inspect.Parameter.empty)
        _TYPES[function.__name__] = _Type(function, parameters, required)
        return function

    return register


def check(constraint: Mapping[str, object], response: str) -> bool:
    """Returns whether the response meets the constraint (strict rule).

    A response without any letter or digit counts as empty and meets no constraint.

    Raises:
        DataError: the constraint is not valid.
    """
    validate(constraint, "constraint")
    parameters = {name: value for name, value in constraint.items() if name != "type"}
    return _has_content(response) and _TYPES[str(constraint["type"])].check(response.strip(), **parameters)


def satisfied(constraints: Sequence[Mapping[str, object]], response: str, *, loose: bool) -> tuple[bool, ...]:
    """Returns for each constraint whether the response meets it, by the strict or the loose rule of IFEval.

    Args:
        loose: a constraint is met if any of eight variants of the response meets it: the whole response, without
            its first line, without its last line, and without both, each with and without asterisks.
    """
    variants = _loose_variants(response) if loose else (response,)
    return tuple(any(check(constraint, variant) for variant in variants) for constraint in constraints)


def validate(constraint: Mapping[str, object], where: str) -> None:
    """Checks that the type is known and that its parameters are complete and of the right kind.

    Args:
        where: the place that the error message starts with, such as `instructions.jsonl:12: constraints[0]`.

    Raises:
        DataError: the message names the unknown type or parameter with a suggestion, or the wrong value.
    """
    name = constraint.get("type")
    if not isinstance(name, str) or name not in _TYPES:
        raise DataError(f"{where}: unknown constraint type {name!r}; {_suggestion(name, _TYPES)}")
    definition = _TYPES[name]
    for parameter, value in constraint.items():
        if parameter == "type":
            continue
        kind = definition.parameters.get(parameter)
        if kind is None:
            advice = _suggestion(parameter, definition.parameters)
            raise DataError(f"{where}: {name} has no parameter {parameter!r}; {advice}")
        if not kind.accepts(value):
            raise DataError(f"{where}: {name}.{parameter} must be {kind.description} (got {value!r})")
    for parameter in definition.required:
        if parameter not in constraint:
            raise DataError(f"{where}: {name} needs the parameter {parameter!r}")
    _validate_range(constraint, name, where)


def _validate_range(constraint: Mapping[str, object], name: str, where: str) -> None:
    """Checks that a type with the parameters min and max has at least one of them, and that they are in order."""
    if not {"min", "max"} <= set(_TYPES[name].parameters):
        return
    lower, upper = constraint.get("min"), constraint.get("max")
    if lower is None and upper is None:
        raise DataError(f"{where}: {name} needs min or max")
    if isinstance(lower, int) and isinstance(upper, int) and lower > upper:
        raise DataError(f"{where}: {name}.min must be at most max (got {lower} > {upper})")


def _suggestion(name: object, known: Iterable[str]) -> str:
    names = list(known)
    matches = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    if matches:
        return f"did you mean {matches[0]!r}?"
    return f"known: {', '.join(names)}" if names else "this type has no parameters"


def _loose_variants(response: str) -> tuple[str, ...]:
    lines = response.strip().split("\n")
    variants = ["\n".join(part) for part in (lines, lines[1:], lines[:-1], lines[1:-1])]
    return (*variants, *(variant.replace("*", "") for variant in variants))


def _has_content(text: str) -> bool:
    return any(character.isalnum() for character in text)


def _is_within(count: int, minimum: int, maximum: int | None) -> bool:
    return count >= minimum and (maximum is None or count <= maximum)


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def _has_entries(texts: Iterable[str], count: int) -> bool:
    """Whether exactly count of the texts have content, and these differ."""
    entries = [_comparable(text) for text in texts if _has_content(text)]
    return len(entries) == count == len(set(entries))


def _comparable(text: str) -> str:
    """The text with lower-case letters, plain ASCII punctuation and single spaces."""
    return " ".join(text.translate(_PLAIN_PUNCTUATION).casefold().split())


def _occurrences(word: str, text: str) -> int:
    """Counts a word or phrase: Latin letters and digits match whole words only, Chinese matches any substring."""
    word = _comparable(word)
    before = f"(?<![{_LATIN}0-9])" if re.match(f"[{_LATIN}0-9]", word[0]) else ""
    after = f"(?![{_LATIN}0-9])" if re.match(f"[{_LATIN}0-9]", word[-1]) else ""
    return len(re.findall(before + re.escape(word) + after, _comparable(text)))


@_constraint(min=_COUNT, max=_COUNT)
def word_count(response: str, min: int = 1, max: int | None = None) -> bool:
    """Between min and max words; each Chinese character counts as one word."""
    return _is_within(len(_WORD.findall(response)), min, max)


@_constraint(min=_COUNT, max=_COUNT)
def sentence_count(response: str, min: int = 1, max: int | None = None) -> bool:
    """Between min and max sentences, which end with . ! ? 。 ！ ？, a blank line or the end of the response."""
    text = _LIST_NUMBER.sub("", _ABBREVIATION.sub(" ", response))
    return _is_within(sum(map(_has_content, _SENTENCE_END.split(text))), min, max)


@_constraint(min=_COUNT, max=_COUNT)
def character_count_zh(response: str, min: int = 1, max: int | None = None) -> bool:
    """Between min and max Chinese characters; punctuation, digits and other letters do not count."""
    return _is_within(len(_HAN_CHARACTER.findall(response)), min, max)


@_constraint(count=_COUNT)
def paragraph_count(response: str, count: int) -> bool:
    """Exactly count paragraphs, separated by blank lines and different from each other."""
    return _has_entries(re.split(r"\n\s*\n", response), count)


@_constraint(min=_COUNT, max=_COUNT)
def line_count(response: str, min: int = 1, max: int | None = None) -> bool:
    """Between min and max lines; blank lines do not count."""
    return _is_within(len(_lines(response)), min, max)


@_constraint(count=_COUNT)
def bullet_count(response: str, count: int) -> bool:
    """Exactly count lines that start with "- " or "* "; their texts differ from each other."""
    return _has_entries([match[1] for line in _lines(response) if (match := _BULLET.match(line))], count)


@_constraint(count=_COUNT)
def numbered_list(response: str, count: int) -> bool:
    """Exactly count lines that start with 1 to count ("1.", "1)" or "1、"); their texts differ from each other."""
    matches = [match for line in _lines(response) if (match := _NUMBERED.match(line))]
    is_running = [match[1] for match in matches] == [str(number + 1) for number in range(count)]
    return is_running and _has_entries([match[2] for match in matches], count)


@_constraint(words=_TEXTS)
def keywords(response: str, words: Sequence[str]) -> bool:
    """All words are present; case does not matter."""
    return all(_occurrences(word, response) > 0 for word in words)


@_constraint(words=_TEXTS)
def forbidden(response: str, words: Sequence[str]) -> bool:
    """None of the words is present; case does not matter."""
    return all(_occurrences(word, response) == 0 for word in words)


@_constraint(word=_TEXT, min=_COUNT)
def keyword_frequency(response: str, word: str, min: int) -> bool:
    """The word occurs at least min times; case does not matter."""
    return _occurrences(word, response) >= min


@_constraint()
def all_lowercase(response: str) -> bool:
    """At least one letter with case, and no upper-case letter."""
    return response.islower()


@_constraint()
def all_uppercase(response: str) -> bool:
    """At least one letter with case, and no lower-case letter."""
    return response.isupper()


@_constraint()
def title_case_first(response: str) -> bool:
    """The first character is a capital letter."""
    return response[0].isupper()


@_constraint(text=_TEXT)
def starts_with(response: str, text: str) -> bool:
    """The response starts with the text; case and the width of punctuation do not matter."""
    return _comparable(response).startswith(_comparable(text))


@_constraint(text=_TEXT)
def ends_with(response: str, text: str) -> bool:
    """The response ends with the text, before any closing punctuation that the text does not have."""
    return any(_comparable(ending).endswith(_comparable(text)) for ending in (response, response.rstrip(_CLOSING)))


@_constraint()
def quoted(response: str) -> bool:
    """One pair of double quotes (" “ ” 「 」) encloses the whole response, and no quote of that kind is inside."""
    for opening, closing in _QUOTES:
        if response.startswith(opening) and response.endswith(closing):
            return opening not in response[1:-1] and closing not in response[1:-1]
    return False


@_constraint(keys=_TEXTS)
def json_object(response: str, keys: Sequence[str]) -> bool:
    """A JSON object with exactly these keys and no empty value; a Markdown code fence around it is allowed."""
    fenced = _CODE_FENCE.fullmatch(response)
    try:
        value = json.loads(fenced[1] if fenced else response)
    except (ValueError, RecursionError):
        return False
    if not isinstance(value, dict) or set(value) != set(keys):
        return False
    return all(entry not in (None, "", [], {}) for entry in value.values())


@_constraint()
def no_comma(response: str) -> bool:
    """No comma (, or ，); the Chinese enumeration comma 、 is allowed."""
    return "," not in response and "，" not in response


@_constraint(marker=_TEXT)
def postscript(response: str, marker: str) -> bool:
    """A line after the first one starts with the marker and has text after it."""
    start = _comparable(marker)
    lines = [_comparable(line) for line in _lines(response)[1:]]
    return any(line.startswith(start) and _has_content(line[len(start) :]) for line in lines)


@_constraint(min=_COUNT)
def placeholder_brackets(response: str, min: int) -> bool:
    """At least min different placeholders in square brackets, such as [name]."""
    return len({_comparable(text) for text in _PLACEHOLDER.findall(response) if _has_content(text)}) >= min


@_constraint(min=_COUNT)
def highlighted(response: str, min: int) -> bool:
    """At least min different passages in asterisks, *such as this* or **such as this**."""
    return len({_comparable(text) for _, text in _HIGHLIGHT.findall(response) if _has_content(text)}) >= min


@_constraint(language=_LANGUAGE)
def language(response: str, language: str) -> bool:
    """By script: zh if at least 50 % of the letters are Chinese, en if at least 90 % are Latin."""
    letters = sum(character.isalpha() for character in response)
    if language == "zh":
        return letters > 0 and len(_HAN_CHARACTER.findall(response)) >= 0.5 * letters
    return letters > 0 and len(_LATIN_LETTER.findall(response)) >= 0.9 * letters


@_constraint(options=_OPTIONS)
def one_of(response: str, options: Sequence[str]) -> bool:
    """The response equals one option; case and final punctuation do not matter."""
    answer = _comparable(response.rstrip(_FINAL_PUNCTUATION))
    return answer in {_comparable(option) for option in options}


@_constraint()
def contains_question(response: str) -> bool:
    """At least one question: a letter or digit followed by ? or ？."""
    return _QUESTION.search(response) is not None


@_constraint()
def no_digits(response: str) -> bool:
    """No digit, half-width or full-width; number words are allowed."""
    return not any(character.isdigit() for character in response)


@_constraint(letter=_LETTER, min=_COUNT)
def letter_frequency(response: str, letter: str, min: int) -> bool:
    """The letter occurs at least min times; case does not matter."""
    return response.casefold().count(letter.casefold()) >= min


@_constraint(separator=_TEXT)
def two_responses(response: str, separator: str) -> bool:
    """Two different texts, separated by exactly one line that holds only the separator."""
    parts = re.split(rf"(?m)^[ \t]*{re.escape(separator)}[ \t]*$", response)
    return len(parts) == 2 and _has_entries(parts, 2)
