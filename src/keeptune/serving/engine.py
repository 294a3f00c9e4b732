"""The thread that decodes all requests together: admits waiting ones, and advances the running ones by a token.

Base and tuned take turns: each round runs one forward pass per model with running rows. Clients never block the thread,
because events go to a queue per request, which the length of an answer limits.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

from keeptune.generation.sampling import Choice, Sampling
from keeptune.serving.api_error import ApiError
from keeptune.serving.decoder import BatchDecoder
from keeptune.serving.generation import Event, Finished, Generation
from keeptune.serving.metrics import Metrics
from keeptune.serving.scheduler import select_admissions
from keeptune.serving.text_stream import TextStream

logger = logging.getLogger("keeptune.serving")


class Engine:
    """Decodes all requests in one thread.

    Args:
        decoder: the models.
        models: their names.
        queue_limit: the maximum number of waiting requests.
        timeout_seconds: the maximum time from the arrival of a request to its end.
    """

    def __init__(
        self, decoder: BatchDecoder, models: Iterable[str], queue_limit: int, timeout_seconds: float, metrics: Metrics
    ) -> None:
        self.decoder, self.models = decoder, tuple(models)
        self.queue_limit, self.timeout_seconds, self.metrics = queue_limit, timeout_seconds, metrics
        self._waiting: deque[Generation] = deque()
        self._running: dict[int, Generation] = {}
        self._changed = threading.Condition()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="keeptune-engine", daemon=True)
        metrics.watch("keeptune_running", "Requests that are decoded", lambda: self.running)
        metrics.watch("keeptune_waiting", "Requests that wait for a slot", lambda: self.waiting)
        metrics.watch("keeptune_slots", "Requests that can be decoded together", lambda: decoder.slots)

    @property
    def running(self) -> int:
        """The number of requests that are decoded."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """The number of requests that wait for a slot."""
        return len(self._waiting)

    @property
    def is_alive(self) -> bool:
        """Whether requests are served."""
        return self._thread.is_alive() and not self._is_stopping

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread. Requests that have not finished get an error."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join()

    def submit(
        self,
        prompt: Sequence[int],
        budget: int,
        model: str,
        sampling: Sampling,
        stops: Sequence[str],
        deliver: Callable[[Event], None],
    ) -> Generation:
        """Queues a request. Its events go to `deliver`, which the thread calls and which must not block.

        Raises:
            ApiError: the queue is full, or the server is stopping.
        """
        tokenizer = self.decoder.tokenizer
        stream = TextStream(lambda tokens: str(tokenizer.decode(tokens, skip_special_tokens=True)), stops)
        now = time.monotonic()
        decoded = self.decoder.new_row(prompt, budget, model, sampling)
        generation = Generation(decoded, stream, deliver, now, now + self.timeout_seconds)
        with self._changed:
            if not self.is_alive:
                raise ApiError(503, "the server is stopping; retry on another server", code="stopping")
            if len(self._waiting) >= self.queue_limit:
                raise ApiError(429, f"{self.queue_limit} requests are waiting; retry later", code="queue_full")
            self._waiting.append(generation)
            self._changed.notify()
        return generation

    def _run(self) -> None:
        with self.decoder.ready():
            while self._wait_for_work():
                try:
                    self._round()
                except Exception as error:
                    # The rows of the failed pass have no next token. The server goes on with the waiting requests.
                    logger.exception("a forward pass failed")
                    self._drop_all(ApiError(500, f"a forward pass failed ({type(error).__name__}: {error})"))
            with self._changed:
                self._running |= {generation.decoded.row.index: generation for generation in self._waiting}
                self._waiting.clear()
            self._drop_all(ApiError(503, "the server was stopped", code="stopping"))

    def _wait_for_work(self) -> bool:
        """Waits while there is nothing to decode; returns whether the thread goes on."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_stopping or self._waiting or self._running)
            return not self._is_stopping

    def _round(self) -> None:
        """Drops requests that ended, admits waiting ones, and adds a token to each running one."""
        self._drop_ended()
        free = self.decoder.slots - self.decoder.running
        with self._changed:
            selected = select_admissions(
                self._waiting, free, lambda one: one.decoded.model, lambda one: one.prompt_tokens
            )
            for generation in selected:
                self._waiting.remove(generation)
                self._running[generation.decoded.row.index] = generation
        if selected:
            choices = self.decoder.admit([generation.decoded for generation in selected])
            now = time.monotonic()
            for generation in selected:
                self.metrics.prompt_tokens.labels(generation.decoded.model).inc(generation.prompt_tokens)
                self.metrics.first_token_seconds.observe(now - generation.arrived_seconds)
            self._append(choices)
        for model in self.models:
            if choices := self.decoder.step(model):
                self.metrics.passes.labels(model).inc()
                self._append(choices)

    def _append(self, choices: Mapping[int, Choice]) -> None:
        """Adds one token to each of these rows, and delivers what follows from it."""
        for index, choice in choices.items():
            generation = self._running[index]
            before = generation.completion_tokens
            events = generation.append(choice, self.decoder.end_tokens)
            self.metrics.generated_tokens.labels(generation.decoded.model).inc(generation.completion_tokens - before)
            if events and isinstance(last := events[-1], Finished):
                self._remove(generation, last.reason)
            for event in events:
                generation.deliver(event)

    def _drop_ended(self) -> None:
        """Drops requests whose client has gone or whose time is over."""
        now = time.monotonic()
        with self._changed:
            ended = [
                one
                for one in (*self._waiting, *self._running.values())
                if one.is_cancelled or now > one.deadline_seconds
            ]
            for generation in ended:
                if generation.decoded.row.index not in self._running:
                    self._waiting.remove(generation)
        timeout = f"the answer took longer than {self.timeout_seconds:g} s; lower max_tokens"
        for generation in ended:
            if generation.is_cancelled:
                self._remove(generation, "cancelled")
                generation.deliver(ApiError(499, "the request was cancelled", code="cancelled"))
            else:
                self._remove(generation, "timeout")
                generation.deliver(ApiError(504, timeout, code="timeout"))

    def _remove(self, generation: Generation, outcome: str) -> None:
        if self._running.pop(generation.decoded.row.index, None) is not None:
            self.decoder.release(generation.decoded)
        self.metrics.requests.labels(generation.decoded.model, outcome).inc()
        self.metrics.request_seconds.observe(time.monotonic() - generation.arrived_seconds)

    def _drop_all(self, error: ApiError) -> None:
        """Ends all running requests with an error."""
        dropped, self._running = list(self._running.values()), {}
        self.decoder.reset()
        for generation in dropped:
            self._remove(generation, "error")
            generation.deliver(error)
