"""The row formats that are recognized by their keys: how each becomes one problem and one solution.

A prompt template renders a single turn. There, a row that does not fit into one user turn and one assistant turn raises
an error, because part of it would be lost. A chat prompt renders every conversation; see `conversations`. Under both, a
row with a further key that has a value raises an error.

The same code reads JSON and tables. A value is a `str`, a `bool`, a `Number`, None, a list, or an object as the tuple
of its (key, value) pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from keeptune.data.conversations import ROLES, Number, is_blank, parse_conversation
from keeptune.data.row import RowError, require_text

_TURN_KEYS = (("role", "content"), ("from", "value"))
_TOOL_KEYS = ("tool_calls", "function_call", "tool_call_id")

_ONE_TURN = "supported are one user turn and then one assistant turn, both texts"
_MAX_LISTED, _MAX_NAME_CHARACTERS = 12, 60


RowTexts = tuple[str, str, str | None]
"""The problem, the solution, and the stored conversation if the row is more than a question and its answer."""

_Turn = tuple[str, object, list[str]]
"""The name of a speaker, the content, and the other keys that hold something."""


@dataclass(frozen=True, slots=True)
class RowFormat:
    """A row format. A row has it if it has all keys of `required`."""

    required: tuple[str, ...]
    optional: tuple[str, ...]
    read: Callable[[Mapping[str, object]], tuple[str, str]]
    """Return the problem and the solution of a row, or raise `RowError`."""
    turns: Callable[[Mapping[str, object]], list[object] | None] = lambda _: None
    """Return the turns of a row that may be a conversation, or None for a single turn."""

    def read_row(self, fields: Mapping[str, object], conversations: bool) -> RowTexts:
        """Return the texts of a row. With `conversations`, it may have any number of turns, a system text and tools.

        Raises:
            RowError: the row is malformed, or is not a single turn and `conversations` is false.
        """
        turns = self.turns(fields) if conversations else None
        if turns is None:
            return (*self.read(fields), None)
        return parse_conversation(turns, fields.get("tools"), fields.get("system"))

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys that a row of this format may have."""
        return self.required + self.optional


def find_format(keys: Collection[str]) -> RowFormat | None:
    """Return the first format whose required keys are all in `keys`."""
    return next((row_format for row_format in _FORMATS if set(row_format.required) <= set(keys)), None)


def convert_fields(fields: Mapping[str, object], row_format: RowFormat, conversations: bool = False) -> RowTexts:
    """Return the texts of a row in this format. With `conversations`, it may have any number of turns.

    Raises:
        RowError: a key would be dropped, or `RowFormat.read_row` rejects the row.
    """
    dropped = [key for key in fields if key not in row_format.keys and not is_blank(fields[key])]
    if dropped:
        raise RowError(f"keys would be dropped: found {list_names(dropped)}; {dropped_keys_advice(row_format)}")
    return row_format.read_row(fields, conversations)


def dropped_keys_advice(row_format: RowFormat) -> str:
    """Return what a row of this format may hold, and what to do about other keys."""
    return (
        f"a row with {list_names(row_format.required)} may only have {list_names(row_format.keys)}. Name the others in "
        "data.ignore_columns (or all), or use them in data.columns"
    )


def read_turns(key: str, turns: object) -> tuple[str, str]:
    """Return the text of the user and of the assistant in a list of turns. `key` is the name of the list.

    A blank system turn is ignored.

    Raises:
        RowError: the turns are not one text of a user and then one text of an assistant.
    """
    if not isinstance(turns, list) or not turns:
        raise RowError(f"{key} is not a list of turns: found {describe(turns)}; {_ONE_TURN}")
    parsed = [_read_turn(turn) for turn in turns]
    contents = [(ROLES.get(name), content) for name, content, _ in parsed]
    contents = [(role, content) for role, content in contents if role != "system" or not is_blank(content)]
    if [role for role, _ in contents] != ["user", "assistant"] or any(others for _, _, others in parsed):
        raise RowError(_find_turns_error(parsed, [role for role, _ in contents]))
    (_, prompt), (_, reply) = contents
    return require_content("problem", prompt), require_content("solution", reply)


def require_content(name: str, value: object) -> str:
    """Return the text of a turn or of an answer; numbers and booleans are texts only for the name `solution`.

    Raises:
        RowError: the value is of another type, or `require_text` rejects it.
    """
    if name == "solution" and isinstance(value, bool):
        return "true" if value else "false"
    if name == "solution" and isinstance(value, Number):
        return value.text
    if not isinstance(value, str):
        supported = "a text, a number or a boolean" if name == "solution" else "a text"
        raise RowError(f"{name} is not a text: found {describe(value)}; supported is {supported}")
    return require_text(name, value)


def from_python(value: object) -> object:
    """Return a value of a table as a value of a row. Missing keys of an object are None in tables and are removed."""
    match value:
        case bool() | str() | None:
            return value
        case float() if not math.isfinite(value):
            return value
        case int() | float() | Decimal():
            return Number(str(value))
        case list() | tuple():
            return [from_python(item) for item in value]
        case dict():
            return tuple((key, from_python(item)) for key, item in value.items() if item is not None)
    return value


def list_names(names: Iterable[str]) -> str:
    """Return the names in quotes, separated by commas. Long lists and names are cut."""
    listed = list(names)
    shown = ", ".join(repr(name[:_MAX_NAME_CHARACTERS]) for name in listed[:_MAX_LISTED])
    more = f" and {len(listed) - _MAX_LISTED} more" if len(listed) > _MAX_LISTED else ""
    return shown + more if listed else "none"


def _read_turn(turn: object) -> _Turn:
    """Return a parsed turn, or raise `RowError` if it is not an object with a role."""
    if not isinstance(turn, tuple):
        raise RowError(f"a turn is not an object: found {describe(turn)}; {_ONE_TURN}")
    fields: dict[str, object] = dict(turn)
    if len(fields) < len(turn):
        raise RowError("a key occurs twice")
    for role_key, content_key in _TURN_KEYS:
        if isinstance(name := fields.get(role_key), str):
            others = [key for key in fields if key not in (role_key, content_key) and not is_blank(fields[key])]
            return name, fields.get(content_key), others
    raise RowError(f"a turn has no role: found {list_names(fields)}; expected 'role', 'content' or 'from', 'value'")


def _find_turns_error(turns: Sequence[_Turn], roles: Sequence[str | None]) -> str:
    """Return the reason why these turns cannot be used. `roles` are those of the turns that are not blank."""
    names = list_names(name for name, _, _ in turns)
    for name, _, others in turns:
        if name not in ROLES:
            return f"unknown role: found {names}; known are {list_names(ROLES)}"
        if ROLES[name] == "tool" or any(key in _TOOL_KEYS for key in others):
            return f"tool calls: found in a turn of {list_names([name])}; {_ONE_TURN}"
    if "system" in roles:
        return f"a system turn: found {names}; {_ONE_TURN}"
    if max(roles.count("user"), roles.count("assistant")) > 1:
        return f"more than one user turn and one assistant turn: found {names}; {_ONE_TURN}"
    if roles != ["user", "assistant"]:
        return f"not a user turn and an assistant turn: found {names}; {_ONE_TURN}"
    dropped = list_names(dict.fromkeys(key for _, _, others in turns for key in others))
    return f"keys of a turn would be dropped: found {dropped}; a turn may only have its role and its text"


def describe(value: object) -> str:
    """Return what a value is, for error messages."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case Number():
            return "a number"
        case str():
            return "a text"
        case []:
            return "an empty list"
        case list():
            parts = {str(dict(item).get("type")): None for item in value if isinstance(item, tuple)}
            return f"a list with parts of type {list_names(parts)}" if parts else "a list"
        case tuple():
            return "an object"
    return f"a value of type {type(value).__name__}"


def _reject_context(fields: Mapping[str, object]) -> None:
    """Raise the error for a system text, earlier turns or tools beside the row's own turn."""
    for key, reason in (("system", "a system turn"), ("history", "more than one turn"), ("tools", "tool calls")):
        if not is_blank(fields.get(key)):
            raise RowError(f"{reason}: found the key {key!r} with a value; {_ONE_TURN}")


def _read_messages(fields: Mapping[str, object]) -> tuple[str, str]:
    _reject_context(fields)
    return read_turns("messages", fields["messages"])


def _read_conversations(fields: Mapping[str, object]) -> tuple[str, str]:
    _reject_context(fields)
    return read_turns("conversations", fields["conversations"])


def _read_instruction(fields: Mapping[str, object]) -> tuple[str, str]:
    _reject_context(fields)
    return _read_question_and_answer(fields)


def _read_question_and_answer(fields: Mapping[str, object]) -> tuple[str, str]:
    problem, context = require_content("instruction", fields["instruction"]), fields.get("input")
    if not is_blank(context):
        problem = f"{problem}\n\n{require_content('input', context)}"
    return problem, require_content("solution", fields["output"])


def _read_completion(fields: Mapping[str, object]) -> tuple[str, str]:
    _reject_context(fields)
    prompt, completion = fields["prompt"], fields["completion"]
    if not isinstance(prompt, list) and not isinstance(completion, list):
        return require_content("problem", prompt), require_content("solution", completion)
    if isinstance(prompt, list) and isinstance(completion, list):
        return read_turns("prompt", [*prompt, *completion])
    raise RowError(
        f"prompt and completion differ in type: found {describe(prompt)} and {describe(completion)}; "
        "supported are two texts, or two lists of turns"
    )


def _listed_turns(key: str) -> Callable[[Mapping[str, object]], list[object]]:
    """Return a reader of the turns under a key."""

    def turns(fields: Mapping[str, object]) -> list[object]:
        value = fields[key]
        if not isinstance(value, list) or not value:
            raise RowError(f"{key} is not a list of turns: found {describe(value)}")
        return value

    return turns


def _instruction_turns(fields: Mapping[str, object]) -> list[object] | None:
    """Return the turns of an Alpaca row with a history, a system text or tools. A history is a list of pairs."""
    if all(is_blank(fields.get(key)) for key in ("system", "history", "tools")):
        return None
    history = fields.get("history") or []
    if not isinstance(history, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in history):
        raise RowError("history is not a list of pairs of texts")
    pairs = [*history, list(_read_question_and_answer(fields))]
    return [turn for question, answer in pairs for turn in _turn_pair(question, answer)]


def _completion_turns(fields: Mapping[str, object]) -> list[object] | None:
    prompt, completion = fields["prompt"], fields["completion"]
    if isinstance(prompt, list) and isinstance(completion, list):
        return [*prompt, *completion]
    if all(is_blank(fields.get(key)) for key in ("system", "tools")) or isinstance(prompt, list):
        return None
    return _turn_pair(prompt, completion)


def _turn_pair(question: object, answer: object) -> list[object]:
    return [(("role", role), ("content", text)) for role, text in (("user", question), ("assistant", answer))]


def _pair_reader(problem: str, solution: str) -> Callable[[Mapping[str, object]], tuple[str, str]]:
    return lambda fields: (
        require_content("problem", fields[problem]),
        require_content("solution", fields[solution]),
    )


CONVERSATIONS = RowFormat(
    ("conversations",), ("id", "system", "tools"), _read_conversations, _listed_turns("conversations")
)
_FORMATS = (
    RowFormat(("problem", "solution"), (), _pair_reader("problem", "solution")),
    RowFormat(("messages",), ("id", "system", "tools"), _read_messages, _listed_turns("messages")),
    CONVERSATIONS,
    RowFormat(
        ("instruction", "output"), ("input", "id", "system", "history", "tools"), _read_instruction, _instruction_turns
    ),
    RowFormat(("prompt", "completion"), ("system", "tools"), _read_completion, _completion_turns),
    RowFormat(("question", "answer"), (), _pair_reader("question", "answer")),
)

EXPECTED_KEYS = " or ".join("+".join(map(repr, row_format.required)) for row_format in _FORMATS)
"""The keys of all formats, for error messages."""
