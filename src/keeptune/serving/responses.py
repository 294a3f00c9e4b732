"""The JSON objects of OpenAI's API, for complete and for streamed answers."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from keeptune.generation.sampling import Choice
from keeptune.serving.generation import Finished, Part

Json = dict[str, Any]

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")
_INCOMPLETE = "\ufffd"


class TokenTexts:
    """Texts and bytes of single tokens."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._byte_of = _byte_level_alphabet()

    def text(self, token: int) -> str:
        """The text of a token; the replacement character for a part of a character."""
        return str(self._tokenizer.decode([token]))

    def bytes(self, token: int) -> list[int] | None:
        """The bytes of a token; None if the vocabulary does not tell them."""
        if _INCOMPLETE not in (text := self.text(token)):
            return list(text.encode())
        piece = str(self._tokenizer.convert_ids_to_tokens(token))
        if match := _BYTE_TOKEN.fullmatch(piece):
            return [int(match[1], 16)]
        codes = [self._byte_of.get(character) for character in piece]
        return None if None in codes else [code for code in codes if code is not None]


def _byte_level_alphabet() -> dict[str, int]:
    """The byte of each character of byte-level vocabularies (GPT-2): printable ones stand for themselves, the others
    follow from U+0100."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [code for code in range(256) if code not in printable]
    return {chr(code): code for code in printable} | {chr(256 + place): code for place, code in enumerate(others)}


class Form(Protocol):
    """How an endpoint writes an answer."""

    def first_chunks(self) -> list[Json]:
        """The chunks before the first text of a stream."""

    def chunk(self, part: Part) -> Json:
        """One part of a streamed answer."""

    def last_chunk(self, end: Finished) -> Json:
        """The chunk with the reason for the end."""

    def usage_chunk(self, end: Finished) -> Json:
        """The chunk with the numbers of tokens."""

    def complete(self, parts: Sequence[Part], end: Finished) -> Json:
        """A complete answer."""


class _Form:
    """What both endpoints share: id, time, model, usage."""

    def __init__(self, prefix: str, kind: str, model: str, tokens: TokenTexts) -> None:
        self._head = {"id": f"{prefix}-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
        self._kind, self._tokens = kind, tokens

    def _object(self, choices: Sequence[Mapping[str, Any]], kind: str = "", **others: Any) -> Json:
        return {**self._head, "object": kind or self._kind, "choices": list(choices), **others}


class ChatForm(_Form):
    """The objects of /v1/chat/completions."""

    def __init__(self, model: str, tokens: TokenTexts) -> None:
        super().__init__("chatcmpl", "chat.completion.chunk", model, tokens)

    def first_chunks(self) -> list[Json]:
        return [self._delta({"role": "assistant", "content": ""})]

    def chunk(self, part: Part) -> Json:
        return self._delta({"content": part.text}, logprobs=self._logprobs(part.choices))

    def last_chunk(self, end: Finished) -> Json:
        return self._delta({}, end.reason)

    def usage_chunk(self, end: Finished) -> Json:
        return self._object([], usage=usage(end))

    def complete(self, parts: Sequence[Part], end: Finished) -> Json:
        message = {"role": "assistant", "content": "".join(part.text for part in parts), "refusal": None}
        choice = {
            "index": 0,
            "message": message,
            "logprobs": self._logprobs([choice for part in parts for choice in part.choices]),
            "finish_reason": end.reason,
        }
        return self._object([choice], "chat.completion", usage=usage(end))

    def _delta(self, delta: Json, reason: str | None = None, logprobs: Json | None = None) -> Json:
        return self._object([{"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": reason}])

    def _logprobs(self, choices: Sequence[Choice]) -> Json | None:
        if not choices:
            return None
        content = [
            {
                **self._token(choice.token, choice.logprob),
                "top_logprobs": [self._token(token, logprob) for token, logprob in choice.top],
            }
            for choice in choices
        ]
        return {"content": content, "refusal": None}

    def _token(self, token: int, logprob: float | None) -> Json:
        return {"token": self._tokens.text(token), "logprob": logprob, "bytes": self._tokens.bytes(token)}


class CompletionForm(_Form):
    """The objects of /v1/completions."""

    def __init__(self, model: str, tokens: TokenTexts) -> None:
        super().__init__("cmpl", "text_completion", model, tokens)
        self._offset = 0

    def first_chunks(self) -> list[Json]:
        return []

    def chunk(self, part: Part) -> Json:
        return self._object([self._choice(part.text, part.choices)])

    def last_chunk(self, end: Finished) -> Json:
        return self._object([self._choice("", (), end.reason)])

    def usage_chunk(self, end: Finished) -> Json:
        return self._object([], usage=usage(end))

    def complete(self, parts: Sequence[Part], end: Finished) -> Json:
        choices = [choice for part in parts for choice in part.choices]
        text = "".join(part.text for part in parts)
        return self._object([self._choice(text, choices, end.reason)], usage=usage(end))

    def _choice(self, text: str, choices: Sequence[Choice], reason: str | None = None) -> Json:
        return {"index": 0, "text": text, "logprobs": self._logprobs(choices), "finish_reason": reason}

    def _logprobs(self, choices: Sequence[Choice]) -> Json | None:
        if not choices:
            return None
        texts = [self._tokens.text(choice.token) for choice in choices]
        offsets = []
        for text in texts:
            offsets.append(self._offset)
            self._offset += len(text)
        return {
            "tokens": texts,
            "token_logprobs": [choice.logprob for choice in choices],
            "top_logprobs": [
                {self._tokens.text(token): logprob for token, logprob in reversed(choice.top)} for choice in choices
            ],
            "text_offset": offsets,
        }


def usage(end: Finished) -> Json:
    """The numbers of tokens of an answer."""
    return {
        "prompt_tokens": end.prompt_tokens,
        "completion_tokens": end.completion_tokens,
        "total_tokens": end.prompt_tokens + end.completion_tokens,
    }
