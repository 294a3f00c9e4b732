"""A model behind an HTTP server, evaluated as its clients use it: texts in, texts out.

The tokenizer is that of the run. Each prompt is sent as text, because clients send texts, and the server's tokens of it
are compared with the run's. Answers end by the same rule as those of keeptune's own engine.

Log-likelihoods of given continuations need more than OpenAI's interface. vLLM echoes the log-probabilities of a prompt
(`echo`). llama.cpp samples under a grammar that allows exactly the continuation, token by token, and reports the
log-probability that the model itself gives to each token. Other servers cannot return them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Literal, TypeVar

from keeptune.errors import ModelError
from keeptune.generation.engine import Answer, ReportProgress, StopRule, line_end_tokens
from keeptune.generation.server_connection import RefusedError, ServerConnection
from keeptune.prompts.template import encode_prompt, encode_text

CONCURRENT_REQUESTS = 8

R = TypeVar("R")


class NotMeasurableError(ModelError):
    """The server cannot do what a measurement needs."""


@dataclass(frozen=True, slots=True)
class PromptDifference:
    """A prompt whose tokens differ: its text, and the tokens of the run and of the program from the first difference
    on. Programs that report only the number of tokens have none in `served`."""

    prompt: str
    place: int
    expected: tuple[int, ...]
    served: tuple[int, ...]


@dataclass(slots=True)
class PromptComparison:
    """Prompts whose tokens were compared, by text, and those that differ.

    `by` says what the program tells about the tokens of a prompt.
    """

    by: Literal["token ids", "token counts"] = "token ids"
    compared: set[str] = field(default_factory=set)
    differences: list[PromptDifference] = field(default_factory=list)

    def add(self, text: str, expected: Sequence[int], served: Sequence[int]) -> None:
        """Compares the tokens of a prompt in the run with those in the program."""
        self.compared.add(text)
        if list(served) != list(expected):
            pairs = enumerate(zip(expected, served, strict=False))
            end = min(len(expected), len(served))
            place = next((index for index, pair in pairs if pair[0] != pair[1]), end)
            self.differences.append(PromptDifference(text, place, tuple(expected[place:]), tuple(served[place:])))

    def add_count(self, text: str, expected: Sequence[int], served: int) -> None:
        """Compares the number of tokens."""
        self.compared.add(text)
        if served != len(expected):
            self.differences.append(PromptDifference(text, min(served, len(expected)), tuple(expected), ()))


class ServedModel:
    """Evaluates one model of a server. It offers what abilities use of `Generator`.

    Attributes:
        tokenizer: the tokenizer of the run.
        vocabulary: the number of tokens of the base model.
        context_tokens: the longest prompt with its answer; None if the server does not tell. Longer answers end there.
        prompts: the comparison of the tokens of all prompts so far.
    """

    def __init__(
        self,
        server: ServerConnection,
        model: str,
        tokenizer: Any,
        vocabulary: int,
        context_tokens: int | None = None,
    ) -> None:
        self.server, self.model, self.tokenizer, self.vocabulary = server, model, tokenizer, vocabulary
        self.line_ends = line_end_tokens(tokenizer)
        self.context_tokens = context_tokens
        plain, whole = encode_text(tokenizer, "a", special_tokens=False), encode_prompt(tokenizer, "a")
        self._begin = whole[: len(whole) - len(plain)] if whole[-len(plain) :] == plain else []
        self._continuation_log_likelihood: Callable[[Sequence[int], Sequence[int]], float | None] | None = None
        self.prompts = PromptComparison("token ids" if self._can_tokenize() else "token counts")

    def answer(
        self,
        prompts: Sequence[Sequence[int]],
        budgets: Sequence[int],
        stop: StopRule,
        progress: ReportProgress | None = None,
    ) -> list[Answer]:
        """Greedy answers, one per prompt, in the order of the prompts. Arguments as of `Generator.answer`.

        Raises:
            NotMeasurableError: the server refuses a prompt.
        """
        texts = [self.text_of(prompt) for prompt in prompts]
        self.compare(texts, prompts)
        limits = [self._budget(prompt, budget) for prompt, budget in zip(prompts, budgets, strict=True)]
        answers = []
        for text, prompt, reply in zip(texts, prompts, _concurrently(self._complete, texts, limits), strict=True):
            choice, count = reply["choices"][0], (reply.get("usage") or {}).get("prompt_tokens")
            if self.prompts.by == "token counts" and count is not None and text not in self.prompts.compared:
                self.prompts.add_count(text, prompt, count)
            answers.append(self._ended(str(choice["text"]), choice.get("finish_reason") == "stop", stop))
            if progress:
                progress(1)
        return answers

    def log_likelihoods(
        self, contexts: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]]
    ) -> list[float | None]:
        """The log-likelihood of each continuation after its context, Σ log p(token | tokens before it), in nats.

        Both are sent as token ids, so that the server scores exactly these tokens. None where a value is not finite.

        Raises:
            NotMeasurableError: the server returns no log-probabilities of given tokens.
        """
        if self._continuation_log_likelihood is None:
            self._continuation_log_likelihood = self._find_log_likelihood()
        values = _concurrently(self._continuation_log_likelihood, contexts, continuations)
        return [value if value is not None and isfinite(value) else None for value in values]

    def compare(self, texts: Sequence[str], prompts: Sequence[Sequence[int]]) -> None:
        """Compares the server's tokens of each text with the run's, once. Counts are known only with an answer."""
        if self.prompts.by == "token counts":
            return
        known = self.prompts.compared
        new = {text: prompt for text, prompt in zip(texts, prompts, strict=True) if text not in known}
        for (text, expected), served in zip(new.items(), _concurrently(self._tokenize, list(new)), strict=True):
            self.prompts.add(text, expected, served)

    def render_chat(self, problem: str) -> str | None:
        """How the server's chat template renders a single question; None if the server does not tell (llama.cpp
        does)."""
        try:
            reply = self.server.post("/apply-template", {"messages": [{"role": "user", "content": problem}]})
        except RefusedError:
            return None
        return str(reply["prompt"]) if "prompt" in reply else None

    def client_text(self, rendering: str) -> str:
        """The text that a client sends for a rendered prompt: without the special tokens that the tokenizer adds."""
        return rendering.removeprefix(self.tokenizer.decode(self._begin)) if self._begin else rendering

    def text_of(self, prompt: Sequence[int]) -> str:
        """The text that a client sends for the tokens of a prompt: without what a tokenizer puts before a text."""
        start = len(self._begin) if list(prompt[: len(self._begin)]) == self._begin else 0
        return str(
            self.tokenizer.decode(list(prompt[start:]), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        )

    def _budget(self, prompt: Sequence[int], budget: int) -> int:
        return budget if self.context_tokens is None else max(1, min(budget, self.context_tokens - len(prompt)))

    def _complete(self, text: str, budget: int) -> Any:
        body = {"model": self.model, "prompt": text, "max_tokens": budget, "temperature": 0}
        try:
            return self.server.post("/v1/completions", body)
        except RefusedError as error:
            raise NotMeasurableError(str(error)) from None

    def _ended(self, text: str, stopped: bool, stop: StopRule) -> Answer:
        """The answer up to the line at which the stop rule applies. The server does not know it and goes on."""
        tokens = self.tokenizer.encode(text, add_special_tokens=False)
        for place, token in enumerate(tokens, start=1):
            if token in self.line_ends and stop(start := self.tokenizer.decode(tokens[:place])):
                return Answer(start, place, True)
        return Answer(text, len(tokens), stopped)

    def _can_tokenize(self) -> bool:
        try:
            self._tokenize("a")
        except RefusedError:
            return False
        return True

    def _tokenize(self, text: str) -> list[int]:
        # llama.cpp and vLLM name the text differently, and both ignore names that they do not know.
        body = {
            "model": self.model,
            "content": text,
            "prompt": text,
            "add_special": True,
            "parse_special": True,
            "add_special_tokens": True,
        }
        tokens = self.server.post("/tokenize", body).get("tokens")
        if not isinstance(tokens, list):
            raise RefusedError(f"{self.server.root}/tokenize: the reply has no list `tokens`", 200)
        return [int(token) for token in tokens]

    def _find_log_likelihood(self) -> Callable[[Sequence[int], Sequence[int]], float | None]:
        """The first way to ask for log-likelihoods that the server answers."""
        probe = self.tokenizer.encode("one two three", add_special_tokens=False)
        for ask in (self._echoed, self._forced):
            try:
                if ask(probe[:1], probe[1:]) is not None:
                    return ask
            except RefusedError:
                continue
        raise NotMeasurableError(f"{self.server.root} returns no log-probabilities of given tokens")

    def _echoed(self, context: Sequence[int], continuation: Sequence[int]) -> float | None:
        """From the log-probabilities of the prompt, as vLLM echoes them."""
        tokens = [*context, *continuation]
        body = {"model": self.model, "prompt": tokens, "echo": True, "logprobs": 1, "max_tokens": 1, "temperature": 0}
        log_probabilities = (self.server.post("/v1/completions", body)["choices"][0].get("logprobs") or {}).get(
            "token_logprobs"
        )
        if log_probabilities is None or len(log_probabilities) < len(tokens):
            return None
        scored = log_probabilities[len(context) : len(tokens)]
        return None if None in scored else float(sum(scored))

    def _forced(self, context: Sequence[int], continuation: Sequence[int]) -> float | None:
        """From tokens that a grammar forces, with their log-probabilities before it, as llama.cpp reports them."""
        body = {
            "prompt": list(context),
            "n_predict": len(continuation),
            "temperature": 0,
            "grammar": "root ::= " + " ".join(f"<[{token}]>" for token in continuation),
            "n_probs": 1,
            "return_tokens": True,
        }
        try:
            reply = self.server.post("/completion", body)
        except RefusedError as error:
            if error.status != 500:
                raise
            return self._biased(context, continuation)  # llama.cpp loses track of some grammars
        if reply.get("tokens") != list(continuation):
            return None
        return float(sum(token["logprob"] for token in reply["completion_probabilities"]))

    def _biased(self, context: Sequence[int], continuation: Sequence[int]) -> float:
        """As `_forced`, with one request per token, which a bias selects.

        Raises:
            NotMeasurableError: the server reports no probability, as llama.cpp for a part of a character.
        """
        total = 0.0
        for place, token in enumerate(continuation):
            body = {
                "prompt": [*context, *continuation[:place]],
                "n_predict": 1,
                "temperature": 0,
                "logit_bias": [[token, 1000]],
                "n_probs": 1,
                "return_tokens": True,
            }
            reply = self.server.post("/completion", body)
            if reply.get("tokens") != [token] or not reply.get("completion_probabilities"):
                raise NotMeasurableError(
                    f"{self.server.root} returns no log-probability of token {token}, perhaps a part of a character"
                )
            total += float(reply["completion_probabilities"][0]["logprob"])
        return total


def _concurrently(call: Callable[..., R], *arguments: Sequence[Any]) -> Iterator[R]:
    """The results of calls in the order of their arguments. Several calls run at a time."""
    with ThreadPoolExecutor(CONCURRENT_REQUESTS) as pool:
        yield from pool.map(call, *arguments)
