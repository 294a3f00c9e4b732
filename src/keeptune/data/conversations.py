"""Conversations as rows: turns of the known formats become the messages of the OpenAI format, stored as JSON.

A row that is one user turn and one assistant turn stays a problem and a solution. Every other conversation also has a
problem and a solution: a text of all turns before the answer, by which rows are compared, and the answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from keeptune.data.row import RowError, require_text
from keeptune.prompts.chat_template import UNTRAINED

ROLES = {
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "model", "bing", "bard", "ai", "bot"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "function", "function_call", "observation", "tool_call", "tool_response"), "tool"),
}
"""The role of a speaker by its name in the file, in lower case."""

_CALL_NAMES = ("function_call", "tool_call")
"""Speakers whose text is a tool call of the assistant."""

IGNORE_ADVICE = "remove them, or name them in data.ignore_columns"

TURN_KEYS = {"role", "from", "content", "value", "name", "tool_calls", "function_call", "tool_call_id"}
_REASONING = "reasoning_content"

TRAINED_KEYS = ("weight", "loss", "train")
"""Keys of an assistant turn that say whether it is trained: `weight` of OpenAI, or `loss` and `train`."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number with its text in the file, because `1.50` must stay `1.50`."""

    text: str


Message = dict[str, Any]


def is_blank(value: object) -> bool:
    """Return whether a value holds nothing: None, a blank text, an empty list or an empty object."""
    return value is None or (not value.strip() if isinstance(value, str) else value in ([], ()))


def find_role(name: str) -> str | None:
    """Return the role of a speaker, or None if the name is unknown. Case does not matter."""
    return ROLES.get(name.strip().lower())


def join_text_parts(content: object) -> object:
    """Return the text of a content that is a list of text parts; any other content unchanged."""
    if not isinstance(content, list) or not content:
        return content
    parts = [dict(part) if isinstance(part, tuple) else {} for part in content]
    texts = [part.get("text") for part in parts if part.get("type") in ("text", "input_text", "output_text")]
    others = any(key not in ("type", "text") and not is_blank(part[key]) for part in parts for key in part)
    if others or len(texts) < len(parts):
        return content
    return "\n".join(text for text in texts if isinstance(text, str))


def is_untrained(fields: Mapping[str, object]) -> bool:
    """Return whether a turn says that it is not trained, with one of `TRAINED_KEYS`.

    Raises:
        RowError: such a key has another value than 0 or 1, true or false.
    """
    values = {"0": False, "0.0": False, "1": True, "1.0": True, "true": True, "false": False}
    trained = True
    for key in TRAINED_KEYS:
        value = fields.get(key)
        if value is None:
            continue
        text = value.text if isinstance(value, Number) else str(value).lower()
        if text not in values:
            raise RowError(f"{key} of a turn is not 0 or 1: found {text[:40]!r}")
        trained = trained and values[text]
    return not trained


def parse_conversation(
    turns: Sequence[object], tools: object = None, system: object = None
) -> tuple[str, str, str | None]:
    """Return the problem, the solution and the stored conversation; None for a single question and its answer.

    Args:
        turns: the turns, as values of a row; see `row_formats`.
        tools: a list of tool schemas, or its JSON text.
        system: a system text beside the turns.

    Raises:
        RowError: a turn is malformed, or the turns are not a conversation that ends with an answer.
    """
    messages = [_parse_turn(turn, number) for number, turn in enumerate(turns, start=1)]
    messages = [message for message in messages if message["role"] != "system" or not is_blank(message["content"])]
    if not is_blank(system):
        messages.insert(0, {"role": "system", "content": require_text("system", system)})
    _check_order(messages)
    schemas = _parse_tools(tools)
    *before, answer = messages
    if answer.get(UNTRAINED):
        raise RowError(
            "the last answer has weight 0: nothing of the row would be evaluated; remove the turn or the row"
        )
    solution = _describe(answer)
    is_single = [list(message) for message in messages] == [["role", "content"]] * 2 and not schemas
    if is_single:
        return before[0]["content"], solution, None
    tree = {"messages": messages, **({"tools": schemas} if schemas else {})}
    stored = json.dumps(tree, ensure_ascii=False)
    return _transcript(before, schemas), solution, require_text("a tool call or a tool", stored)


def ends_with_tool_calls(conversation: str | None) -> bool:
    """Return whether the answer of a stored conversation calls tools."""
    return conversation is not None and "tool_calls" in json.loads(conversation)["messages"][-1]


def _transcript(messages: Sequence[Message], tools: Sequence[Message]) -> str:
    """Return the text by which conversations are compared.

    System texts and tools are the same in many rows, so only their hash is in it. Otherwise all rows would overlap.
    """
    context = [message["content"] for message in messages if message["role"] == "system"]
    lines = []
    if context or tools:
        key = json.dumps([context, tools], ensure_ascii=False).encode()
        lines.append(f"[context {blake2b(key, digest_size=6).hexdigest()}]")
    lines += [f"{message['role']}: {_describe(message)}" for message in messages if message["role"] != "system"]
    return "\n".join(lines)


def _describe(message: Message) -> str:
    """Return the text of a turn, with one line of JSON per tool call."""
    calls = [json.dumps(call["function"], ensure_ascii=False) for call in message.get("tool_calls", ())]
    return "\n".join([*([message["content"]] if message["content"] else []), *calls])


def _check_order(messages: Sequence[Message]) -> None:
    roles = [message["role"] for message in messages]
    if not roles or roles[-1] != "assistant":
        raise RowError(f"the last turn is not the assistant's: found {_list(roles)}")
    turns = roles[1:] if roles[0] == "system" else roles
    if "system" in turns:
        raise RowError(f"a system turn after the first turn: found {_list(roles)}")
    if turns[0] != "user":
        raise RowError(f"the first turn is not the user's: found {_list(roles)}")
    for place, message in enumerate(messages):
        if message["role"] == "tool" and not (
            messages[place - 1]["role"] == "tool" or "tool_calls" in messages[place - 1]
        ):
            raise RowError(f"a tool result without a tool call: found in turn {place + 1} of {_list(roles)}")


def _parse_turn(turn: object, number: int) -> Message:
    where = f"turn {number}"
    if not isinstance(turn, tuple):
        raise RowError(f"a turn is not an object: found in {where}")
    fields: dict[str, object] = dict(turn)
    if len(fields) < len(turn):
        raise RowError("a key occurs twice")
    fields = {key: value for key, value in fields.items() if not is_blank(value) or key in ("content", "value")}
    name = fields.get("role", fields.get("from"))
    if not isinstance(name, str):
        raise RowError(f"a turn has no role: found {_list(fields)} in {where}; expected 'role' or 'from'")
    role = find_role(name)
    if role is None:
        raise RowError(f"unknown role: found {name[:60]!r} in {where}; known are {_list(ROLES)}")
    if dropped := fields.keys() - TURN_KEYS - ({_REASONING, *TRAINED_KEYS} if role == "assistant" else set()):
        names = _list(sorted(dropped))
        raise RowError(f"keys of a turn would be dropped: found {names} in {where}; {IGNORE_ADVICE}")
    content = join_text_parts(fields.get("content", fields.get("value")))
    if name.strip().lower() in _CALL_NAMES:
        return {"role": "assistant", "content": "", "tool_calls": [_parse_call(_from_json_text(content, where), where)]}
    return _message(role, content, fields, where)


def _message(role: str, content: object, fields: Mapping[str, object], where: str) -> Message:
    """Return the message of a turn whose speaker is known."""
    calls = [_parse_call(call, where) for call in _calls(fields, where)]
    if calls and role != "assistant":
        raise RowError(f"tool calls in a turn of {role!r}: found in {where}")
    if role == "assistant" and isinstance(content, (bool, Number)):
        content = json.dumps(content) if isinstance(content, bool) else content.text
    may_be_blank = bool(calls) or role in ("tool", "system")
    if is_blank(content) and may_be_blank:
        content = ""
    elif not isinstance(content, str):
        raise RowError(
            f"the content of a turn is not a text: found {_describe_parts(content)} in {where}, a turn of {role!r}"
        )
    else:
        content = require_text(f"content of {where}", content)
    message: Message = {"role": role, "content": content}
    for key in (_REASONING, "name", "tool_call_id"):
        if key in fields:
            message[key] = require_text(f"{key} of {where}", fields[key])
    if is_untrained(fields):
        message[UNTRAINED] = True
    return {**message, "tool_calls": calls} if calls else message


def _describe_parts(content: object) -> str:
    """Return what a content is that is not a text, for error messages."""
    if isinstance(content, list):
        types = {str(dict(part).get("type")): None for part in content if isinstance(part, tuple)}
        return f"parts of type {_list(types)}" if types else "a list"
    return "nothing" if is_blank(content) else "an object" if isinstance(content, tuple) else "another value"


def _calls(fields: Mapping[str, object], where: str) -> list[object]:
    """Return the tool calls of a turn, also that of the older key `function_call`."""
    calls = fields.get("tool_calls", [])
    if not isinstance(calls, list):
        raise RowError(f"tool_calls is not a list: found in {where}")
    return [*calls, *([fields["function_call"]] if "function_call" in fields else [])]


def _parse_call(call: object, where: str) -> Message:
    """Return a tool call of the OpenAI format. Its arguments become an object, which chat templates write as JSON."""
    tree = to_json(call)
    function = tree.get("function", tree) if isinstance(tree, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"].strip():
        raise RowError(f"a tool call has no function name: found in {where}; expected 'name' and 'arguments'")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        arguments = _loads(arguments, f"the arguments of {function['name']!r} in {where}") if arguments.strip() else {}
    if not isinstance(arguments, dict):
        raise RowError(f"the arguments of a tool call are not an object: found in {where}")
    identity = {"id": tree["id"]} if isinstance(tree.get("id"), str) else {}
    return {**identity, "type": "function", "function": {"name": function["name"], "arguments": arguments}}


def _parse_tools(tools: object) -> list[Message]:
    """Return the schemas of the tools of a row."""
    if is_blank(tools):
        return []
    schemas = _loads(tools, "tools") if isinstance(tools, str) else to_json(tools)
    if not isinstance(schemas, list) or not all(isinstance(schema, dict) for schema in schemas):
        raise RowError("tools is not a list of objects")
    return schemas


def _from_json_text(value: object, where: str) -> object:
    return _loads(value, where) if isinstance(value, str) else value


def _loads(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise RowError(f"malformed JSON in {what}") from None


def to_json(value: object) -> Any:
    """Return a value of a row as a JSON value."""
    match value:
        case Number():
            return _loads(value.text, "a number")
        case tuple():
            return {key: to_json(item) for key, item in value}
        case list():
            return [to_json(item) for item in value]
    return value


def _list(names: Iterable[str]) -> str:
    return ", ".join(repr(name[:60]) for name in list(names)[:12])
