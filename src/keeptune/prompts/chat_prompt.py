"""The chat prompt: the tokenizer's chat template around a conversation, with target masks that are exact per token.

A prompt at inference is the rendering of all turns before an answer, with the start of an assistant's turn. Training is
only useful if the rendering of the complete conversation begins with exactly these tokens. So each row is checked: the
renderings up to each target must be prefixes of the whole, as text and as tokens. Templates that rewrite earlier turns,
such as those that remove reasoning, do not fulfill this for every turn.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from keeptune.errors import ModelError, PromptError
from keeptune.prompts.chat_template import UNTRAINED, JsonObject, Rendering, render_chat
from keeptune.prompts.template import EncodedExample, Prompt, decode_tokens, encode_text

LossOn = Literal["all", "last"]
"""The assistant turns whose tokens are targets."""

LOSS_ON: tuple[LossOn, ...] = ("all", "last")
"""Its values, the one that trains on more first."""

CHAT = "chat"
"""The name of this prompt in recipes."""

NOT_PREFIX_STABLE = "the chat template is not prefix-stable"
"""The reason to reject a row that a template renders differently in training and at inference."""

_PROBE = ({"role": "user", "content": "Hello"},)
_END_OF_REASONING = "</think>"
_TOOLS_ADVICE = "use a model whose template has tools, or name tools in data.ignore_columns"
_NO_END = "the chat template writes no end token after the last turn, so no answer would end"


def _unstable(part: str, is_last: bool) -> str:
    """Return the reason to reject a row that a template renders differently in training and at inference."""
    advice = "" if is_last else "; set prompt.loss_on: last"
    return f"{NOT_PREFIX_STABLE}: it renders {part} differently once later turns follow{advice}"


class Conversation(NamedTuple):
    """The turns of a row and the JSON schemas of its tools. The last turn is the answer to train on."""

    messages: list[JsonObject]
    tools: list[JsonObject] | None

    @classmethod
    def parse(cls, text: str) -> Conversation:
        """Return the conversation of a stored row; see `data/conversations.py`."""
        tree = json.loads(text)
        return cls(tree["messages"], tree.get("tools"))


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """A chat template with everything that determines its renderings.

    Attributes:
        template: the text of the chat template.
        special_tokens: the texts of the special tokens, by the names that templates use, such as `bos_token`.
        arguments: further variables of the template, such as `enable_thinking`.
        system: the system turn of conversations that have none; None for no system turn.
        loss_on: the assistant turns whose tokens are targets in training. It does not change any rendering.
        end_tokens: the ids of the tokens that end an answer.
    """

    template: str
    special_tokens: Mapping[str, str]
    arguments: JsonObject
    system: str | None = None
    loss_on: LossOn = "all"
    end_tokens: tuple[int, ...] = ()

    @property
    def sha256(self) -> str:
        """The fingerprint: a hash of the template, special tokens, arguments, system turn and generation prompt."""
        return hashlib.sha256(json.dumps(self._identity(), sort_keys=True).encode()).hexdigest()

    @property
    def cache_key(self) -> str:
        """What cached answers depend on."""
        return self.sha256

    @property
    def generation_prompt(self) -> str:
        """The text that begins an assistant's turn."""
        before, after = (self._render(_PROBE, None, start).text for start in (False, True))
        return after.removeprefix(before)

    def render(self, problem: str, conversation: str | None = None) -> str:
        """Return the text of the prompt for a problem, or for the turns of a stored conversation before its answer.

        Raises:
            PromptError: the template rejects the conversation.
        """
        turns = self._turns(problem, "", conversation)
        return self._render(turns.messages[:-1], turns.tools, True).text

    def encode(self, tokenizer: Any, problem: str, conversation: str | None = None) -> list[int]:
        """Return the prompt tokens. A BOS token is among them if the template writes one."""
        return encode_text(tokenizer, self.render(problem, conversation), special_tokens=False)

    def encode_example(
        self, tokenizer: Any, problem: str, solution: str, conversation: str | None = None
    ) -> EncodedExample:
        """Return the tokens of a row up to the end token of its last target, with the targets of the loss.

        Raises:
            PromptError: the template rejects the row, leaves out a part of it, or renders it in a way that differs from
                inference. The message is the reason.
        """
        turns = self._turns(problem, solution, conversation)
        rendering = self._render(turns.messages, turns.tools, False)
        self._require_complete(turns, rendering.text)
        tokens = encode_text(tokenizer, rendering.text, special_tokens=False)
        loss_mask = [False] * len(tokens)
        targets = self._targets(turns, rendering)
        for target in targets:
            first, stop = self._token_range(tokenizer, rendering.text, tokens, target)
            loss_mask[first:stop] = [True] * (stop - first)
        prompt = encode_text(tokenizer, rendering.text[: targets[-1].prompt_end], special_tokens=False)
        _require_prefix(prompt, tokens, rendering.text[targets[-1].prompt_end :])
        return EncodedExample(tuple(tokens[:stop]), tuple(loss_mask[:stop]), len(prompt))

    def expected_answer(self, tokenizer: Any, problem: str, solution: str, conversation: str | None = None) -> str:
        """Return the answer that a perfect model writes: the solution, or the template's text of its tool calls.

        Raises:
            PromptError: as `encode_example`.
        """
        example = self.encode_example(tokenizer, problem, solution, conversation)
        if conversation is None or not Conversation.parse(conversation).messages[-1].get("tool_calls"):
            return solution
        return decode_tokens(tokenizer, example.tokens[example.prompt_tokens :]).strip()

    def require_same(self, other: Prompt | ChatPrompt, where: str) -> None:
        """Check that the prompt `other`, stored at `where`, equals this one.

        Raises:
            PromptError: they differ; the message shows both fingerprints and what differs.
        """
        if self.sha256 == other.sha256:
            return
        if isinstance(other, ChatPrompt):
            mine, theirs = self._identity(), other._identity()
            differing = ", ".join(name.replace("_", " ") for name in mine if mine[name] != theirs[name])
            difference = f"differing: {differing}"
        else:
            difference = f"the stored prompt is the template {other.template!r}"
        raise PromptError(
            f"{where} was trained with a different prompt ({difference}).\n"
            f"  trained with: {other.sha256}\n  current:      {self.sha256}\n"
            "Use the tokenizer that the adapter was trained with, or pass --other-prompt to keeptune score; the report "
            "records that."
        )

    def to_json(self) -> dict[str, Any]:
        """Return all fields but the end tokens, which belong to the model, as a JSON object."""
        fields = {
            "template": self.template,
            "special_tokens": dict(self.special_tokens),
            "arguments": dict(self.arguments),
            "system": self.system,
            "loss_on": self.loss_on,
        }
        return {"template": fields.pop("template"), "sha256": self.sha256, CHAT: fields}

    def _identity(self) -> dict[str, Any]:
        return {
            "template": self.template,
            "special_tokens": dict(self.special_tokens),
            "arguments": dict(self.arguments),
            "system": self.system,
            "generation_prompt": self.generation_prompt,
        }

    def _turns(self, problem: str, solution: str, conversation: str | None) -> Conversation:
        """Return the conversation of a row, with the recipe's system turn if it has none, and with this solution."""
        if conversation is None:
            turns = Conversation([{"role": "user", "content": problem}, {"role": "assistant"}], None)
        else:
            turns = Conversation.parse(conversation)
        *messages, last = turns.messages
        if not last.get("tool_calls"):
            last = {**last, "content": solution}
        if self.system is not None and messages[0]["role"] != "system":
            messages.insert(0, {"role": "system", "content": self.system})
        return Conversation([*messages, last], turns.tools)

    def _render(
        self, messages: Sequence[JsonObject], tools: Sequence[JsonObject] | None, add_generation_prompt: bool
    ) -> Rendering:
        variables = {**self.special_tokens, **self.arguments}
        return render_chat(self.template, messages, tools, add_generation_prompt, variables)

    def _require_complete(self, turns: Conversation, text: str) -> None:
        """Check that the template renders every turn and the tools.

        Reasoning before `</think>` is not required, because templates remove it from earlier turns.
        """
        if turns.tools and self._render(turns.messages, None, False).text == text:
            raise PromptError(f"the chat template leaves out the tools: {_TOOLS_ADVICE}")
        for number, message in enumerate(turns.messages, start=1):
            parts = [str(message["content"]).rpartition(_END_OF_REASONING)[2].strip()]
            parts += [call["function"]["name"] for call in message.get("tool_calls", ())]
            if number == len(turns.messages):
                parts.append(message.get("reasoning_content", "").strip())
            # Some templates write the results of tools as JSON strings.
            if not all(part in text or json.dumps(part, ensure_ascii=False)[1:-1] in text for part in parts):
                raise PromptError(f"the chat template leaves out a part of turn {number} ({message['role']})")

    def _targets(self, turns: Conversation, rendering: Rendering) -> list[_Target]:
        """Return the targets in order. The last one ends the conversation, and none begins inside a prompt."""
        last = len(turns.messages) - 1
        if not rendering.marked:
            assistant = [
                place
                for place, turn in enumerate(turns.messages)
                if turn["role"] == "assistant" and not turn.get(UNTRAINED)
            ]
            return [
                self._unmarked_target(turns, place, rendering.text)
                for place in (assistant if self.loss_on == "all" else [last])
            ]
        start = self._prompt_length(turns, last, rendering.text)
        answer = [(max(begin, start), end) for begin, end in rendering.marked if end > start]
        if not answer:
            raise PromptError(f"the chat template marks nothing of turn {last + 1} with a generation block")
        earlier = [block for block in rendering.marked if block[1] <= start] if self.loss_on == "all" else []
        for place in [place for place, turn in enumerate(turns.messages[:-1]) if turn.get(UNTRAINED)]:
            begin = self._prompt_length(turns, place, rendering.text)
            end = _common_length(rendering.text, self._render(turns.messages[: place + 1], turns.tools, False).text)
            earlier = [block for block in earlier if block[1] <= begin or block[0] >= end]
        blocks = [*earlier, *answer]
        *parts, complete = [_Target(*block, start) for block in blocks]
        return [*parts, complete._replace(missing_end=_NO_END)]

    def _unmarked_target(self, turns: Conversation, place: int, text: str) -> _Target:
        """Return the target of a turn. It reaches at most to where the rendering depends on later turns."""
        start = self._prompt_length(turns, place, text)
        if place == len(turns.messages) - 1:
            return _Target(start, len(text), start, _NO_END)
        through = self._render(turns.messages[: place + 1], turns.tools, False).text
        end = _common_length(text, through)
        return _Target(start, max(start, end), start, _unstable(f"turn {place + 1}", is_last=False))

    def _prompt_length(self, turns: Conversation, place: int, text: str) -> int:
        """Return the length of the prompt of a turn at inference, which must be a prefix of the whole rendering."""
        prompt = self._render(turns.messages[:place], turns.tools, True).text
        if not text.startswith(prompt):
            raise PromptError(_unstable(f"the prompt of turn {place + 1}", is_last=place == len(turns.messages) - 1))
        return len(prompt)

    def _token_range(self, tokenizer: Any, text: str, tokens: Sequence[int], target: _Target) -> tuple[int, int]:
        """Return the token range of a target. It ends with the last end token in it, or right behind it."""
        before, through = (
            encode_text(tokenizer, text[:cut], special_tokens=False) for cut in (target.start, target.end)
        )
        first, stop = len(before), len(through)
        ends = [place for place in range(first, len(tokens[: stop + 1])) if tokens[place] in self.end_tokens]
        if ends:
            stop = ends[-1] + 1
        elif target.missing_end:
            raise PromptError(target.missing_end)
        _require_prefix(before, tokens, text[target.start :])
        _require_prefix(through[:stop], tokens, text[target.end :])
        return first, stop


def _common_length(one: str, other: str) -> int:
    """Return the length of the longest common prefix of two texts."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (left, right) in pairs if left != right), min(len(one), len(other)))


def _require_prefix(prefix: Sequence[int], tokens: Sequence[int], text: str) -> None:
    """Check that the tokens of a row begin with those of a part of its text. `text` is what follows that part."""
    if list(tokens[: len(prefix)]) != list(prefix):
        raise PromptError(f"the tokenizer merges the text before {text[:20]!r} with it, which inference would not do")


class _Target(NamedTuple):
    """A character range of a rendering that is a target of the loss.

    `prompt_end` is where the prompt at inference ends. `missing_end` is the reason to reject a row whose target has no
    end token; None for a part of a turn, which needs none.
    """

    start: int
    end: int
    prompt_end: int
    missing_end: str | None = None


AnyPrompt = Prompt | ChatPrompt
"""A prompt of a recipe: a template around one problem, or the tokenizer's chat template."""


def parse_stored_prompt(tree: Mapping[str, Any]) -> AnyPrompt:
    """Return the prompt that `to_json` wrote.

    Raises:
        KeyError, TypeError, ValueError, PromptError: it is damaged.
    """
    template = str(tree["template"])
    if CHAT not in tree:
        return Prompt(template)
    fields = tree[CHAT]
    if fields["loss_on"] not in ("all", "last"):
        raise ValueError(f"loss_on must be all or last (got {fields['loss_on']!r:.40})")
    special_tokens = {str(name): str(text) for name, text in fields["special_tokens"].items()}
    return ChatPrompt(template, special_tokens, dict(fields["arguments"]), fields["system"], fields["loss_on"])


def chat_prompt(
    tokenizer: Any,
    end_tokens: Sequence[int],
    arguments: JsonObject,
    system: str | None = None,
    loss_on: LossOn = "all",
) -> ChatPrompt:
    """Return the chat prompt of a tokenizer.

    Args:
        tokenizer: a transformers tokenizer.
        end_tokens: see `end_token_ids`.
        arguments: further variables of the template.
        system: see `ChatPrompt`.
        loss_on: see `ChatPrompt`.

    Raises:
        ModelError: the tokenizer has no chat template.
        PromptError: the template rejects a question, or the recipe's system turn.
    """
    template = getattr(tokenizer, "chat_template", None)
    if not isinstance(template, str):
        has_several = template is not None
        advice = "keep one of them in the model's folder" if has_several else "use an instruction-tuned model"
        raise ModelError(
            "prompt: chat needs a tokenizer with one chat template, and this one has "
            f"{'several' if has_several else 'none'}; {advice}, or set prompt.template"
        )
    prompt = ChatPrompt(template, _special_tokens(tokenizer), arguments, system, loss_on, tuple(end_tokens))
    prompt.render("Hello")
    return prompt


def end_token_ids(tokenizer: Any, configured: int | Sequence[int] | None) -> list[int]:
    """Return all tokens that end an answer.

    They are the tokenizer's end token, those of the model's generation config, and the special token that the chat
    template writes after an assistant's turn. A base model's template often ends turns with a token that is not its end
    token.

    Args:
        tokenizer: a transformers tokenizer.
        configured: `eos_token_id` of the generation config.
    """
    ids = [configured] if isinstance(configured, int) else list(configured or ())
    return sorted({*ids, *_end_token(tokenizer), *turn_end(tokenizer)})


def turn_end(tokenizer: Any) -> list[int]:
    """Return the special token that the chat template writes after an assistant's turn, or else the end token.

    The list is empty if the tokenizer has neither.
    """
    template, content = getattr(tokenizer, "chat_template", None), "xyzzy"
    if not isinstance(template, str):
        return _end_token(tokenizer)
    try:
        turns = [*_PROBE, {"role": "assistant", "content": content}]
        text = render_chat(template, turns, None, False, _special_tokens(tokenizer)).text
    except PromptError:
        return _end_token(tokenizer)
    after = encode_text(tokenizer, text.rpartition(content)[2], special_tokens=False)[:1]
    special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    return after if special.issuperset(after) and after else _end_token(tokenizer)


def _end_token(tokenizer: Any) -> list[int]:
    return [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]


def _special_tokens(tokenizer: Any) -> dict[str, str]:
    """Return the texts of the special tokens by the names that templates use."""
    return {name: text for name, text in tokenizer.special_tokens_map.items() if isinstance(text, str)}
