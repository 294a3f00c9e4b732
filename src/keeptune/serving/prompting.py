"""Prompts of requests: the prompt that is stored with the run, and no other.

A tuned model gives its measured answers only under the prompt that it was trained with. So a conversation is rendered
with the stored prompt, for base and tuned alike, and a text for tuned must be what that prompt could have rendered.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from keeptune.data.row import is_utf8
from keeptune.errors import PromptError
from keeptune.models.invocation import Invocation
from keeptune.prompts.chat_prompt import AnyPrompt, ChatPrompt
from keeptune.prompts.template import encode_prompt, encode_text
from keeptune.serving.api_error import ApiError
from keeptune.serving.requests import Message

_PROBE = "0x70726f6265"
"""A problem that occurs in no template."""


class StoredPrompt:
    """Encodes conversations and texts under the prompt of a run.

    Args:
        prompt: the prompt.
        tokenizer: the tokenizer of the model.
        invocation: that of the adapter; None if it always acts.
    """

    def __init__(self, prompt: AnyPrompt, tokenizer: Any, invocation: Invocation | None) -> None:
        self.prompt, self.tokenizer, self.invocation = prompt, tokenizer, invocation
        rendering = prompt.render(_PROBE)
        self._before, self._after = rendering.partition(_PROBE)[0], rendering.rpartition(_PROBE)[2]

    def encode_chat(self, messages: Sequence[Message], is_tuned: bool) -> list[int]:
        """The tokens of a conversation up to the start of its answer.

        Raises:
            ApiError: the stored prompt cannot render it, or it does not invoke the adapter.
        """
        turns = [{"role": message.role, "content": message.content} for message in messages]
        _require_utf8(*(turn["content"] for turn in turns))
        if turns[-1]["role"] != "user":
            raise ApiError(400, "messages: the last message must be of role user", param="messages")
        if isinstance(self.prompt, ChatPrompt):
            tokens = self._encode_turns(turns)
        elif len(turns) == 1:
            tokens = self.prompt.encode(self.tokenizer, turns[0]["content"].strip())
        else:
            raise ApiError(
                400,
                f"messages: this model was trained on single questions with the prompt {self.prompt.template!r}; "
                "send one message of role user",
                code="prompt_mismatch",
                param="messages",
            )
        return self._invoked(tokens, "messages") if is_tuned else tokens

    def encode_text(self, text: str, is_tuned: bool) -> list[int]:
        """The tokens of a text. For the tuned model, the text must be a rendering of the stored prompt.

        Raises:
            ApiError: it is not, or it does not invoke the adapter.
        """
        _require_utf8(text)
        is_rendering = text.startswith(self._before) and text[len(self._before) :].endswith(self._after)
        if is_tuned and not is_rendering:
            raise ApiError(
                400,
                f"prompt: this model was trained with prompts that begin with {self._before!r} and end with "
                f"{self._after!r}; send such a prompt, use /v1/chat/completions, or use the model base",
                code="prompt_mismatch",
                param="prompt",
            )
        if isinstance(self.prompt, ChatPrompt):
            tokens = encode_text(self.tokenizer, text, special_tokens=False)
        else:
            tokens = encode_prompt(self.tokenizer, text)
        if not tokens:
            raise ApiError(400, "prompt must not be empty", param="prompt")
        return self._invoked(tokens, "prompt") if is_tuned else tokens

    def _encode_turns(self, turns: Sequence[dict[str, str]]) -> list[int]:
        conversation = json.dumps({"messages": [*turns, {"role": "assistant"}]}, ensure_ascii=False)
        try:
            return self.prompt.encode(self.tokenizer, "", conversation)
        except PromptError as error:
            raise ApiError(400, f"messages: {error}", code="prompt_mismatch", param="messages") from None

    def _invoked(self, tokens: list[int], param: str) -> list[int]:
        """The tokens, if they invoke the adapter or it always acts."""
        if self.invocation and self.invocation.start(tokens) is None:
            raise ApiError(
                400,
                f"{param}: the text changes the tokens that invoke the adapter, so the base model would answer",
                code="prompt_mismatch",
                param=param,
            )
        return tokens


def _require_utf8(*texts: str) -> None:
    if not all(map(is_utf8, texts)):
        raise ApiError(400, "a text contains a lone surrogate, which is no character", code="invalid_value")
