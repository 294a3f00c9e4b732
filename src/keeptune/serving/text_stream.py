"""The text of an answer while its tokens arrive: complete characters only, and up to the first stop text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Decode = Callable[[Sequence[int]], str]

_INCOMPLETE = "\ufffd"
"""What tokenizers decode a part of a character to."""


class TextStream:
    """Decodes growing tokens and holds back what could still change.

    A token may end inside a character, and its text may depend on the token before it. So each step decodes the tokens
    of the last two steps, and adds what the new ones contribute (as text-generation-inference and vLLM do). Text that
    may be the beginning of a stop text is held back until that is certain.
    """

    def __init__(self, decode: Decode, stops: Sequence[str] = ()) -> None:
        self._decode, self._stops = decode, tuple(stops)
        self._tokens: list[int] = []
        self._window = self._read = 0
        self._released = 0
        self.text = ""
        """The text so far, without incomplete characters; up to the stop text once it has occurred."""
        self.is_stopped = False
        """Whether a stop text has occurred."""

    @property
    def released(self) -> int:
        """The number of characters that were returned so far."""
        return self._released

    def push(self, token: int) -> str:
        """Appends a token; returns the text that is now certain."""
        self._tokens.append(token)
        before = self._decode(self._tokens[self._window : self._read])
        after = self._decode(self._tokens[self._window :])
        if len(after) <= len(before) or after.endswith(_INCOMPLETE):
            return ""
        self._window, self._read = self._read, len(self._tokens)
        return self._extend(self.text + after[len(before) :], self._held_back)

    def finish(self) -> str:
        """Ends the text; returns what was held back. The text then equals that of all tokens, unless it was stopped."""
        if self.is_stopped:
            return ""
        whole = self._decode(self._tokens)
        return self._extend(whole if whole.startswith(self.text) else self.text, lambda: 0)

    def _extend(self, text: str, held_back: Callable[[], int]) -> str:
        """Replaces the text by a longer one, cut at the first stop text; returns what is certain."""
        longest = max(map(len, self._stops), default=0)
        start = max(0, len(self.text) - longest + 1)
        cuts = [place for stop in self._stops if (place := text.find(stop, start)) >= 0]
        self.text, self.is_stopped = (text[: min(cuts)], True) if cuts else (text, False)
        end = len(self.text) if self.is_stopped else len(self.text) - held_back()
        part, self._released = self.text[self._released : end], max(end, self._released)
        return part

    def _held_back(self) -> int:
        """The length of the longest end of the text that is the beginning of a stop text."""
        lengths = (length for stop in self._stops for length in range(len(stop) - 1, 0, -1))
        return max((length for length in lengths if self._ends_with_start(length)), default=0)

    def _ends_with_start(self, length: int) -> bool:
        return any(len(stop) > length and self.text.endswith(stop[:length]) for stop in self._stops)
