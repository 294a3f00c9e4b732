"""The row formats that are recognized by their keys: how each becomes one problem and one solution.

A prompt template renders a single turn. There, a row that does not fit into one user turn and one assistant turn raises
an error, because part of it would be lost. A chat prompt renders every conversation; see `conversations`. Under both, a
row with a further key that has a value raises an error.

The same code reads JSON and tables. A value is a `str`, a `bool`, a `Number`, None, a list, or an object as the tuple
of its (key, value) pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from keeptune.data.conversations import (
    IGNORE_ADVICE,
    ROLES,
    TRAINED_KEYS,
    find_role,
    is_blank,
    is_untrained,
    join_text_parts,
    parse_conversation,
)
from keeptune.data.json_document import DECODER
from keeptune.data.row import RowError
from keeptune.data.row_values import describe, list_names, require_content

_TURN_KEYS = (("role", "content"), ("from", "value"))
_TOOL_KEYS = ("tool_calls", "function_call", "tool_call_id")

_IS_WANTED = "label"
"""The key of preference rows without pairs (KTO) that says whether the answer is a good one."""

_ONE_TURN = "supported are one user turn and then one assistant turn, both texts"


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
        _reject_unwanted(fields)
        turns = self.turns(fields) if conversations else None
        if turns is None:
            return (*self.read(fields), None)
        return parse_conversation(turns, _tools(fields), fields.get("system"))

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
    turns = _parse_turns(turns)
    if not isinstance(turns, list) or not turns:
        raise RowError(f"{key} is not a list of turns: found {describe(turns)}; {_ONE_TURN}")
    parsed = [_read_turn(turn) for turn in turns]
    contents = [(find_role(name), content) for name, content, _ in parsed]
    contents = [(role, content) for role, content in contents if role != "system" or not is_blank(content)]
    if [role for role, _ in contents] != ["user", "assistant"] or any(others for _, _, others in parsed):
        raise RowError(_find_turns_error(parsed, [role for role, _ in contents]))
    (_, prompt), (_, reply) = contents
    return require_content("problem", prompt), require_content("solution", reply)


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
            if find_role(name) == "assistant":
                others = [key for key in others if key not in TRAINED_KEYS or is_untrained(fields)]
            return name, join_text_parts(fields.get(content_key)), others
    raise RowError(f"a turn has no role: found {list_names(fields)}; expected 'role', 'content' or 'from', 'value'")


def _find_turns_error(turns: Sequence[_Turn], roles: Sequence[str | None]) -> str:
    """Return the reason why these turns cannot be used. `roles` are those of the turns that are not blank."""
    names = list_names(name for name, _, _ in turns)
    for name, _, others in turns:
        role = find_role(name)
        if role is None:
            return f"unknown role: found {names}; known are {list_names(ROLES)}"
        if role == "tool" or any(key in _TOOL_KEYS for key in others):
            return f"tool calls: found in a turn of {list_names([name])}; {_ONE_TURN}"
    if "system" in roles:
        return f"a system turn: found {names}; {_ONE_TURN}"
    if max(roles.count("user"), roles.count("assistant")) > 1:
        return f"more than one user turn and one assistant turn: found {names}; {_ONE_TURN}"
    if roles != ["user", "assistant"]:
        return f"not a user turn and an assistant turn: found {names}; {_ONE_TURN}"
    dropped = list_names(dict.fromkeys(key for _, _, others in turns for key in others))
    return (
        f"keys of a turn would be dropped: found {dropped}; a turn may only have its role and its text; {IGNORE_ADVICE}"
    )


def _reject_context(fields: Mapping[str, object]) -> None:
    """Raise the error for a system text, earlier turns or tools beside the row's own turn."""
    for key, reason in (
        ("system", "a system turn"),
        ("history", "more than one turn"),
        ("tools", "tool calls"),
        ("functions", "tool calls"),
    ):
        if not is_blank(fields.get(key)):
            raise RowError(f"{reason}: found the key {key!r} with a value; {_ONE_TURN}")


def _reject_unwanted(fields: Mapping[str, object]) -> None:
    """Raise the error for an answer that its own row calls bad: `label` in preference rows without pairs (KTO)."""
    label = fields.get(_IS_WANTED)
    value = label.strip().lower() if isinstance(label, str) else label  # tables hold texts
    if is_blank(value) or value in (True, "true"):
        return
    if value in (False, "false"):
        raise RowError("the row calls its answer bad: label is false")
    raise RowError(f"label is neither true nor false: found {describe(label)}; {IGNORE_ADVICE}")


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
    return read_turns("prompt", _joined_turns(prompt, completion))


def _joined_turns(prompt: object, completion: object) -> list[object]:
    """Return the turns of a prompt and its completion. A text among them is one turn of the user or the assistant."""
    sides = (("user", prompt), ("assistant", completion))
    turns: list[object] = []
    for role, side in sides:
        turns += side if isinstance(side, list) else [(("role", role), ("content", side))]
    return turns


def _read_preference(fields: Mapping[str, object]) -> tuple[str, str]:
    _reject_context(fields)
    prompt, chosen = fields.get("prompt"), fields["chosen"]
    if isinstance(prompt, str) and isinstance(chosen, str):
        return require_content("problem", prompt), require_content("solution", chosen)
    return read_turns("chosen", _preference_turns(fields))


def _preference_turns(fields: Mapping[str, object]) -> list[object] | None:
    """Return the turns of the preferred answer, which may hold those of the prompt."""
    prompt, chosen = fields.get("prompt"), _parse_turns(fields["chosen"])
    if isinstance(prompt, str) and isinstance(chosen, str) and is_blank(fields.get("system")):
        return None
    if isinstance(chosen, list) and chosen and find_role(_read_turn(chosen[0])[0]) != "assistant":
        return chosen
    if is_blank(prompt):
        raise RowError(
            f"chosen has no question: found {describe(chosen)}; expected a list of turns, or the key 'prompt'"
        )
    return _joined_turns(prompt, chosen)


def _tools(fields: Mapping[str, object]) -> object:
    """Return the tools of a row, also those of the older key `functions`."""
    tools, functions = fields.get("tools"), fields.get("functions")
    if is_blank(functions):
        return tools
    if not is_blank(tools) or not isinstance(functions, list):
        raise RowError("functions beside tools, or no list: found the key 'functions'; give the tools in one key")
    return [(("type", "function"), ("function", function)) for function in functions]


def _parse_turns(turns: object) -> object:
    """Return the turns of a text that is a JSON list, as tables hold them; any other value unchanged."""
    if not isinstance(turns, str) or not turns.lstrip().startswith("["):
        return turns
    try:
        return DECODER.decode(turns.strip())
    except (ValueError, RecursionError):
        raise RowError("malformed JSON in a text of turns") from None


def _listed_turns(key: str) -> Callable[[Mapping[str, object]], list[object]]:
    """Return a reader of the turns under a key."""

    def turns(fields: Mapping[str, object]) -> list[object]:
        value = _parse_turns(fields[key])
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
    if isinstance(prompt, list) or isinstance(completion, list):
        return _joined_turns(prompt, completion)
    if all(is_blank(fields.get(key)) for key in ("system", "tools")):
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
    RowFormat(
        ("messages",), ("id", "system", "tools", "functions", _IS_WANTED), _read_messages, _listed_turns("messages")
    ),
    CONVERSATIONS,
    RowFormat(
        ("instruction", "output"), ("input", "id", "system", "history", "tools"), _read_instruction, _instruction_turns
    ),
    RowFormat(("prompt", "completion"), ("system", "tools", _IS_WANTED), _read_completion, _completion_turns),
    RowFormat(("chosen",), ("prompt", "id", "system", "tools"), _read_preference, _preference_turns),
    RowFormat(("question", "answer"), (), _pair_reader("question", "answer")),
)

EXPECTED_KEYS = " or ".join("+".join(map(repr, row_format.required)) for row_format in _FORMATS)
"""The keys of all formats, for error messages."""
