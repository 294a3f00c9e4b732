"""One request while it is decoded: its tokens, its text, and why it ends. No threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Literal

from keeptune.generation.sampling import Choice
from keeptune.serving.api_error import ApiError
from keeptune.serving.decoder import DecodedRow
from keeptune.serving.text_stream import TextStream

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Part:
    """Text that is certain, with the tokens that begin in it if their log probabilities are reported."""

    text: str
    choices: tuple[Choice, ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of an answer."""

    reason: FinishReason
    prompt_tokens: int
    completion_tokens: int


Event = Part | Finished | ApiError
"""What a request receives: parts of its answer, then either its end or an error."""


@dataclass(slots=True, eq=False)
class Generation:
    """A request from its arrival to its end.

    Attributes:
        decoded: its row in the decoder.
        stream: its text.
        deliver: receives its events. It is called from the thread of the engine and must not block.
        arrived_seconds, deadline_seconds: on the monotonic clock.
        is_cancelled: set by any thread; the engine then drops the request.
    """

    decoded: DecodedRow
    stream: TextStream
    deliver: Callable[[Event], None]
    arrived_seconds: float
    deadline_seconds: float
    is_cancelled: bool = False
    _pending: deque[tuple[int, Choice]] = field(default_factory=deque)
    """Choices whose text is held back, each with the place in the text where it begins."""

    @property
    def prompt_tokens(self) -> int:
        """The length of the prompt."""
        return len(self.decoded.row.prompt)

    @property
    def completion_tokens(self) -> int:
        """The number of tokens generated so far, without the end token."""
        return len(self.decoded.row.output)

    def append(self, choice: Choice, end_tokens: Collection[int]) -> list[Event]:
        """Adds the next token; returns the events that follow from it. The last one tells whether the answer ended."""
        row = self.decoded.row
        if choice.token in end_tokens:
            return self._end("stop", self.stream.finish())
        row.output.append(choice.token)
        if choice.logprob is not None:
            self._pending.append((len(self.stream.text), choice))
        text = self.stream.push(choice.token)
        if self.stream.is_stopped:
            return self._end("stop", text)
        if len(row.output) >= row.budget:
            text += self.stream.finish()
            return self._end("stop" if self.stream.is_stopped else "length", text)
        return self._parts(text)

    def _end(self, reason: FinishReason, text: str) -> list[Event]:
        return [*self._parts(text, is_last=True), Finished(reason, self.prompt_tokens, self.completion_tokens)]

    def _parts(self, text: str, is_last: bool = False) -> list[Event]:
        """The part with a text and the choices that begin before its end; none if there is neither."""
        choices = []
        includes_end = is_last and not self.stream.is_stopped
        while self._pending and (includes_end or self._pending[0][0] < self.stream.released):
            choices.append(self._pending.popleft()[1])
        return [Part(text, tuple(choices))] if text or choices else []
