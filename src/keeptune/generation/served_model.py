"""A model behind an HTTP server, evaluated as its clients use it: texts in, texts out.

The tokenizer is that of the run. Each prompt is sent as text, because clients send texts, and the server's tokens of it
are compared with the run's. Answers end by the same rule as those of keeptune's own engine.

Log-likelihoods of given continuations need more than OpenAI's interface. vLLM echoes the log-probabilities of a prompt
(`echo`). llama.cpp samples under a grammar that allows exactly the continuation, token by token, and reports the
log-probability that the model itself gives to each token. Other servers cannot return them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal, TypeVar

from keeptune.errors import ModelError
from keeptune.generation.engine import Answer, AnswerCollector, ReportProgress, StopRule, line_end_tokens
from keeptune.generation.scheduling import Row
from keeptune.generation.server_connection import RefusedError, ServerConnection
from keeptune.prompts.template import encode_prompt, encode_text

CONCURRENT_REQUESTS = 8

R = TypeVar("R")


class NotMeasurableError(ModelError):
    """The server cannot do what a measurement needs."""


@dataclass(frozen=True, slots=True)
class PromptDifference:
    """A prompt whose tokens differ: its text, and the tokens of the run and of the server from the first difference
    on. Servers that report only the number of tokens have none in `served`."""

    prompt: str
    place: int
    expected: tuple[int, ...]
    served: tuple[int, ...]


class ServedModel:
    """Evaluates one model of a server. It offers what abilities use of `Generator`.

    Attributes:
        tokenizer: the tokenizer of the run.
        vocabulary: the number of tokens of the base model.
        stop_ids: the tokens that end an answer.
        compared: the prompts whose tokens were compared.
        differences: those that have other tokens on the server.
        compares: what the server tells about the tokens of a prompt.
    """

    def __init__(
        self, server: ServerConnection, model: str, tokenizer: Any, vocabulary: int, stop_ids: Iterable[int]
    ) -> None:
        self.server, self.model, self.tokenizer, self.vocabulary = server, model, tokenizer, vocabulary
        self.stop_ids, self.line_ends = set(stop_ids), line_end_tokens(tokenizer)
        self.compared: set[str] = set()
        self.differences: list[PromptDifference] = []
        plain, whole = encode_text(tokenizer, "a", special_tokens=False), encode_prompt(tokenizer, "a")
        self._begin = whole[: len(whole) - len(plain)] if whole[-len(plain) :] == plain else []
        self._continuation_log_likelihood: Callable[[Sequence[int], Sequence[int]], float | None] | None = None
        self.compares: Literal["token ids", "token counts"] = "token ids"
        try:
            self._tokenize("a")
        except RefusedError:
            self.compares = "token counts"

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
        rows = [Row(i, list(p), b) for i, (p, b) in enumerate(zip(prompts, budgets, strict=True))]
        collector = AnswerCollector(self, stop, progress)
        replies = _concurrently(self._complete, texts, budgets)
        for row, text, reply in zip(rows, texts, replies, strict=True):
            choice = reply["choices"][0]
            if self.compares == "token counts":
                self._compare_count(text, row.prompt, reply)
            self._collect(collector, row, str(choice["text"]), choice.get("finish_reason") == "stop")
        return collector.in_order()

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
        """Compares the server's tokens of each text with the run's. Differences are added to `differences`."""
        if self.compares == "token counts":
            return  # they are known once a prompt is answered
        new = {text: tuple(prompt) for text, prompt in zip(texts, prompts, strict=True) if text not in self.compared}
        for (text, expected), served in zip(new.items(), _concurrently(self._tokenize, list(new)), strict=True):
            self.compared.add(text)
            if tuple(served) != expected:
                place = next(
                    (i for i, pair in enumerate(zip(expected, served, strict=False)) if pair[0] != pair[1]),
                    min(len(expected), len(served)),
                )
                self.differences.append(PromptDifference(text, place, expected[place:], tuple(served[place:])))

    def render_chat(self, problem: str) -> str | None:
        """How the server's chat template renders a single question; None if the server does not tell (llama.cpp
        does)."""
        try:
            reply = self.server.post("/apply-template", {"messages": [{"role": "user", "content": problem}]})
        except RefusedError:
            return None
        return str(reply["prompt"]) if "prompt" in reply else None

    def text_of(self, prompt: Sequence[int]) -> str:
        """The text that a client sends for the tokens of a prompt: without what a tokenizer puts before a text."""
        start = len(self._begin) if list(prompt[: len(self._begin)]) == self._begin else 0
        return str(
            self.tokenizer.decode(list(prompt[start:]), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        )

    def _complete(self, text: str, budget: int) -> Any:
        body = {"model": self.model, "prompt": text, "max_tokens": budget, "temperature": 0}
        try:
            return self.server.post("/v1/completions", body)
        except RefusedError as error:
            raise NotMeasurableError(str(error)) from None

    def _collect(self, collector: AnswerCollector, row: Row, text: str, stopped: bool) -> None:
        """Ends an answer where the stop rule ends it, also if the server went on."""
        for token in self.tokenizer.encode(text, add_special_tokens=False):
            if collector.append(row, token):
                return
        collector.finish(row, stopped)

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

    def _compare_count(self, text: str, prompt: Sequence[int], reply: Any) -> None:
        count = (reply.get("usage") or {}).get("prompt_tokens")
        if count is None or text in self.compared:
            return
        self.compared.add(text)
        if count != len(prompt):
            self.differences.append(PromptDifference(text, min(count, len(prompt)), tuple(prompt), ()))

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
        reply = self.server.post("/completion", body)
        if reply.get("tokens") != list(continuation):
            return None
        return float(sum(token["logprob"] for token in reply["completion_probabilities"]))


def _concurrently(call: Callable[..., R], *arguments: Sequence[Any]) -> Iterator[R]:
    """The results of calls in the order of their arguments. Several calls run at a time."""
    with ThreadPoolExecutor(CONCURRENT_REQUESTS) as pool:
        yield from pool.map(call, *arguments)
