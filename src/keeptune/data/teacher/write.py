"""Texts of another model for chosen problems: asked for until one is proven, counted by reason where none is.

A failed request costs one row its text; too many failed requests stop the run, for then the data would depend on a
server's bad day. All answers are kept in the cache, the refused ones too, so that no run asks twice.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from keeptune.config.teacher import TeacherSection
from keeptune.data.teacher import judge
from keeptune.data.teacher.cache import Cache
from keeptune.data.teacher.exchange import Answer, Request, Unanswered
from keeptune.data.teacher.wording import wording
from keeptune.errors import RecipeError, WriterError
from keeptune.grading.answers import ANSWER_MARKER
from keeptune.progress import Reporter, SilentReporter
from keeptune.skills.base import Question

if TYPE_CHECKING:
    from keeptune.data.teacher.client import Client

FEWEST_REQUESTS = 20
"""A share of failed requests is judged as if there were at least so many, until all are done."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A problem to have a text for: its final answer as the recipe writes it, how that is rounded, in words, and why
    a text cannot be trained on for other reasons than what it says (None where it can)."""

    question: Question
    answer: str
    form: str
    obstacle: Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Summary:
    """What was asked and what became of it.

    Of so many `problems`, `accepted` have a text now. `asked` requests went to the server and `from_cache` needed
    not; `failed` counts by reason those of them that had no answer after all attempts, and `rejected` the texts that
    were refused. Tokens and cost are of all answers, from the cache too: what the texts have cost, not this run alone.
    """

    problems: int
    asked: int
    from_cache: int
    accepted: int
    rejected: dict[str, int]
    failed: dict[str, int]
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Written:
    """The accepted texts by their problem's own text, in the order of the problems, and the summary."""

    texts: dict[str, str]
    summary: Summary


def write(
    wanted: Sequence[Wanted],
    settings: TeacherSection,
    cache: Path,
    reporter: Reporter = SilentReporter(),  # noqa: B008  (holds nothing)
) -> Written:
    """A proven text for as many of the problems as the server has one for. `cache` is the file of its answers.

    errors: RecipeError when the package openai is missing or the key is none; WriterError when the server cannot be
    reached, refuses, or fails too often; RunError when the cache cannot be read or written.
    """
    started = time.monotonic()
    count = reporter.counter(f"texts of {settings.model}", len(wanted))
    writer = _Writer(settings, Cache(cache), count)
    try:
        asyncio.run(writer.write_all(wanted))
    except BaseExceptionGroup as group:
        # The first to fail stops the others; a signal that arrives meanwhile is one of these, too.
        raise group.exceptions[0] from None
    order = [one.question.text for one in wanted]
    texts = {problem: writer.texts[problem] for problem in order if problem in writer.texts}
    return Written(texts, writer.summary(len(order), time.monotonic() - started))


def _client(settings: TeacherSection) -> Client:
    """The server. errors: RecipeError when the optional package is missing."""
    try:
        from keeptune.data.teacher.client import Client
    except ImportError as error:
        raise RecipeError(
            f"data.teacher asks a server, and for that a package is missing ({error.name}): "
            "pip install 'keeptune[writer]'"
        ) from None
    return Client(settings)


class _Writer:
    """Asks, judges and counts; so many problems at a time as the settings allow requests."""

    def __init__(self, settings: TeacherSection, cache: Cache, count: Callable[[int], None]) -> None:
        self.settings, self.count = settings, count
        self.texts: dict[str, str] = {}
        self._cache = cache
        self._asked = self._from_cache = self._prompt_tokens = self._completion_tokens = 0
        self._rejected: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._write = self._solution if settings.task == "reasoning" else self._paraphrase

    async def write_all(self, wanted: Sequence[Wanted]) -> None:
        """Fills `texts`."""
        async with _client(self.settings) as client, asyncio.TaskGroup() as group:
            self._client = client
            left = iter(wanted)
            for _ in range(min(self.settings.concurrency, len(wanted))):
                group.create_task(self._work(left))
        self._require_few_failures(0)

    def summary(self, problems: int, seconds: float) -> Summary:
        """What was done so far."""
        prices, cost = self.settings.prices, None
        if prices is not None:
            prompt, completion = prices.prompt_per_million, prices.completion_per_million
            cost = (self._prompt_tokens * prompt + self._completion_tokens * completion) / 1_000_000
        return Summary(
            problems=problems,
            asked=self._asked,
            from_cache=self._from_cache,
            accepted=len(self.texts),
            rejected=dict(self._rejected.most_common()),
            failed=dict(self._failed.most_common()),
            prompt_tokens=self._prompt_tokens,
            completion_tokens=self._completion_tokens,
            cost=cost,
            seconds=seconds,
        )

    async def _work(self, left: Iterator[Wanted]) -> None:
        """Takes problem after problem, from all that nobody has taken."""
        for one in left:
            for sample in range(self.settings.samples):
                answered, text = await self._write(one, sample)
                if text is not None:
                    self.texts[one.question.text] = text
                if text is not None or not answered:
                    break
            self.count(1)

    async def _solution(self, one: Wanted, sample: int) -> tuple[bool, str | None]:
        """Whether the server answered, and the solution if it may be taught."""
        answer = await self._ask(wording("reasoning", one.question.text, one.form), sample)
        if answer is None:
            return False, None
        text = judge.cleaned(answer.text)
        fault = _cut_off(answer) or judge.reasoning_fault(text, one.question, one.answer)
        # All rows end alike: in the recipe's rounding, without a unit.
        text = f"{text.rpartition(ANSWER_MARKER)[0]}{ANSWER_MARKER} {one.answer}"
        return True, self._kept(text, fault or one.obstacle(text))

    async def _paraphrase(self, one: Wanted, sample: int) -> tuple[bool, str | None]:
        """Whether the server answered, and the other words if they may be taught."""
        answer = await self._ask(wording("paraphrase", one.question.text), sample)
        if answer is None:
            return False, None
        text = judge.unquoted(judge.cleaned(answer.text))
        fault = _cut_off(answer) or judge.paraphrase_fault(text, one.question) or one.obstacle(text)
        if fault is None:
            formula = await self._ask(wording("formula", text), sample)
            if formula is None:
                return False, None
            fault = _cut_off(formula) or judge.meaning_fault(judge.cleaned(formula.text), one.question.truth)
        return True, self._kept(text, fault)

    def _kept(self, text: str, fault: str | None) -> str | None:
        if fault is None:
            return text
        self._rejected[fault] += 1
        return None

    async def _ask(self, prompt: str, sample: int) -> Answer | None:
        """The answer, from the cache or the server; None when the request failed."""
        settings = self.settings
        request = Request(settings.model, prompt, settings.temperature, settings.max_tokens, sample)
        answer = self._cache.get(request)
        if answer is not None:
            self._from_cache += 1
        else:
            self._asked += 1
            try:
                answer = await self._client.ask(request)
            except Unanswered as failure:
                self._failed[str(failure)] += 1
                self._require_few_failures(FEWEST_REQUESTS)
                return None
            self._cache.put(request, answer)
        self._prompt_tokens += answer.prompt_tokens
        self._completion_tokens += answer.completion_tokens
        return answer

    def _require_few_failures(self, fewest: int) -> None:
        """What the cache answered was asked for, too: by an earlier start, which had its failures then."""
        failed, limit, requests = self._failed, self.settings.failure_limit, self._asked + self._from_cache
        if failed.total() <= limit * max(fewest, requests):
            return
        listed = "\n".join(f"  {count} × {reason}" for reason, count in failed.most_common())
        raise WriterError(
            f"{self.settings.url}: {failed.total()} of {requests} requests failed, more than "
            f"data.teacher.failure_limit = {limit:g} allows:\n{listed}\nSee to the server, lower "
            f"data.teacher.concurrency, or raise timeout_seconds or failure_limit. {self._cache.path} keeps what "
            "was answered: the same command goes on from there."
        )


def _cut_off(answer: Answer) -> str | None:
    if answer.finish_reason == "length":
        return "cut off at max_tokens"
    if answer.finish_reason == "content_filter":
        return "held back by the server"
    return None if answer.text.strip() else "empty"
