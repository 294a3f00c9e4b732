"""Generates texts with a teacher model: requests samples for each problem until one is verified.

If a request fails, its row keeps its original text. If too many requests fail, the run stops, because the data would
depend on temporary problems of the server. All answers are cached, including rejected ones, so no request is repeated.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from keeptune.config.teacher import TeacherSection
from keeptune.data.teacher import judge
from keeptune.data.teacher.prompts import render_prompt
from keeptune.errors import WriterError
from keeptune.grading.answers import ANSWER_MARKER
from keeptune.progress import Reporter, SilentReporter
from keeptune.remote_models.cache import AnswerCache
from keeptune.remote_models.exchange import Answer, Request, RequestError
from keeptune.remote_models.server import create_client, run_requests
from keeptune.skills.base import Question

MIN_REQUESTS = 20
"""While requests are sent, the share of failed requests is computed over at least this many requests."""


@dataclass(frozen=True, slots=True)
class TeacherTask:
    """A problem for which a text is requested."""

    question: Question
    answer: str
    """The final answer in the recipe's rounding."""
    answer_format: str
    """The rounding of the final answer in words."""
    find_obstacle: Callable[[str], str | None]
    """Returns why a text cannot be trained on for reasons other than its content, or None."""


@dataclass(frozen=True, slots=True)
class TeacherSummary:
    """The counts in writer.json. Tokens and cost include cached answers, so they cover all runs."""

    problems: int
    """Problems for which a text was requested."""
    asked: int
    """Requests that were sent to the server."""
    from_cache: int
    """Requests that the cache answered."""
    accepted: int
    """Problems with a verified text."""
    rejected: dict[str, int]
    """Rejected texts per reason."""
    failed: dict[str, int]
    """Requests without an answer after all attempts, per reason."""
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    seconds: float


@dataclass(frozen=True, slots=True)
class TeacherTexts:
    """The accepted texts, keyed by the text of the problem in the order of the problems, and the summary."""

    texts: dict[str, str]
    summary: TeacherSummary


def generate_texts(
    tasks: Sequence[TeacherTask],
    settings: TeacherSection,
    cache: Path,
    reporter: Reporter = SilentReporter(),  # noqa: B008  (holds nothing)
) -> TeacherTexts:
    """Return verified texts for as many problems as possible. `cache` is the file of the server's answers.

    Raises:
        RecipeError: the package `openai` is missing, or the key is invalid.
        WriterError: the server cannot be reached, rejects the requests, or fails too often.
        RunError: the cache cannot be read or written.
    """
    started = time.monotonic()
    advance = reporter.counter(f"texts of {settings.model}", len(tasks))
    session = _Session(settings, AnswerCache(cache), advance)
    run_requests(session.run(tasks))
    problems = [task.question.text for task in tasks]
    texts = {problem: session.texts[problem] for problem in problems if problem in session.texts}
    return TeacherTexts(texts, session.summary(len(problems), time.monotonic() - started))


class _Session:
    """Sends requests, verifies the answers and counts them. It works on data.teacher.concurrency problems at a time."""

    def __init__(self, settings: TeacherSection, cache: AnswerCache, advance: Callable[[int], None]) -> None:
        self.settings, self.advance = settings, advance
        self.texts: dict[str, str] = {}
        self._cache = cache
        self._asked = self._from_cache = self._prompt_tokens = self._completion_tokens = 0
        self._rejected: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._generate = self._generate_solution if settings.task == "reasoning" else self._generate_paraphrase

    async def run(self, tasks: Sequence[TeacherTask]) -> None:
        """Fill `texts`."""
        async with create_client(self.settings, "data.teacher", "data.teacher") as client, asyncio.TaskGroup() as group:
            self._client = client
            remaining = iter(tasks)
            for _ in range(min(self.settings.concurrency, len(tasks))):
                group.create_task(self._work(remaining))
        self._require_few_failures(0)

    def summary(self, problems: int, seconds: float) -> TeacherSummary:
        """Return the counts so far."""
        prices, cost = self.settings.prices, None
        if prices is not None:
            prompt, completion = prices.prompt_per_million, prices.completion_per_million
            cost = (self._prompt_tokens * prompt + self._completion_tokens * completion) / 1_000_000
        return TeacherSummary(
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

    async def _work(self, remaining: Iterator[TeacherTask]) -> None:
        """Process tasks from the iterator that all workers share."""
        for task in remaining:
            for sample in range(self.settings.samples):
                is_answered, text = await self._generate(task, sample)
                if text is not None:
                    self.texts[task.question.text] = text
                if text is not None or not is_answered:
                    break
            self.advance(1)

    async def _generate_solution(self, task: TeacherTask, sample: int) -> tuple[bool, str | None]:
        """Return whether the server answered, and the solution if it is accepted."""
        answer = await self._ask(render_prompt("reasoning", task.question.text, task.answer_format), sample)
        if answer is None:
            return False, None
        text = judge.clean_answer(answer.text)
        fault = _find_answer_fault(answer) or judge.find_reasoning_fault(text, task.question, task.answer)
        # All rows end in the same form: the answer in the recipe's rounding, without a unit.
        text = f"{text.rpartition(ANSWER_MARKER)[0]}{ANSWER_MARKER} {task.answer}"
        return True, self._accept_or_count(text, fault or task.find_obstacle(text))

    async def _generate_paraphrase(self, task: TeacherTask, sample: int) -> tuple[bool, str | None]:
        """Return whether the server answered, and the paraphrase if it is accepted."""
        answer = await self._ask(render_prompt("paraphrase", task.question.text), sample)
        if answer is None:
            return False, None
        text = judge.strip_quotes(judge.clean_answer(answer.text))
        fault = (
            _find_answer_fault(answer) or judge.find_paraphrase_fault(text, task.question) or task.find_obstacle(text)
        )
        if fault is None:
            formula = await self._ask(render_prompt("formula", text), sample)
            if formula is None:
                return False, None
            fault = _find_answer_fault(formula) or judge.find_meaning_fault(
                judge.clean_answer(formula.text), task.question.truth
            )
        return True, self._accept_or_count(text, fault)

    def _accept_or_count(self, text: str, fault: str | None) -> str | None:
        """Return the text if it has no fault, or else count the fault."""
        if fault is None:
            return text
        self._rejected[fault] += 1
        return None

    async def _ask(self, prompt: str, sample: int) -> Answer | None:
        """Return the answer from the cache or the server, or None if the request failed."""
        settings = self.settings
        request = Request(settings.model, prompt, settings.temperature, settings.max_tokens, sample)
        answer = self._cache.get(request)
        if answer is not None:
            self._from_cache += 1
        else:
            self._asked += 1
            try:
                answer = await self._client.ask(request)
            except RequestError as failure:
                self._failed[str(failure)] += 1
                self._require_few_failures(MIN_REQUESTS)
                return None
            self._cache.put(request, answer)
        self._prompt_tokens += answer.prompt_tokens
        self._completion_tokens += answer.completion_tokens
        return answer

    def _require_few_failures(self, min_requests: int) -> None:
        """Check the share of failed requests.

        Requests answered by the cache count as requests: an earlier run sent them, and its failures were checked then.
        """
        failed, limit, requests = self._failed, self.settings.failure_limit, self._asked + self._from_cache
        if failed.total() <= limit * max(min_requests, requests):
            return
        listed = "\n".join(f"  {count} × {reason}" for reason, count in failed.most_common())
        raise WriterError(
            f"{self.settings.url}: {failed.total()} of {requests} requests failed, more than "
            f"data.teacher.failure_limit = {limit:g} allows:\n{listed}\nCheck the server, lower "
            f"data.teacher.concurrency, or raise timeout_seconds or failure_limit. The answers so far are in "
            f"{self._cache.path}; run the same command again to continue."
        )


def _find_answer_fault(answer: Answer) -> str | None:
    if answer.finish_reason == "length":
        return "cut off at max_tokens"
    if answer.finish_reason == "content_filter":
        return "held back by the server"
    return None if answer.text.strip() else "empty"
