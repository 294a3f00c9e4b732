"""Requests of several models that come and go at any time get the answers of `Generator`, for every adapter family."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tiny
from serving.expected import PROBLEM, SCALES, WORDS, Expected, questions

pytest.importorskip("prometheus_client", reason="pip install 'keeptune[serve]'")

from keeptune.generation.engine import Generator, never_stop
from keeptune.generation.sampling import Sampling
from keeptune.serving.api_error import ApiError
from keeptune.serving.decoder import BatchDecoder
from keeptune.serving.engine import Engine
from keeptune.serving.generation import Event, Finished, Generation, Part
from keeptune.serving.metrics import Metrics
from keeptune.serving.served_run import open_run

CONTEXT = 400
PATIENCE_SECONDS = 60


@dataclass
class Reply:
    """What one request received."""

    events: list[Event] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def deliver(self, event: Event) -> None:
        self.events.append(event)
        if not isinstance(event, Part):
            self.ended.set()

    def wait(self) -> Event:
        assert self.ended.wait(PATIENCE_SECONDS)
        return self.events[-1]

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, Part))


def submit(engine: Engine, problem: str, tokens: int, model: str, **sampling: Any) -> tuple[Reply, Generation]:
    reply = Reply()
    prompt = tiny.PROMPT.encode(WORDS, problem)
    return reply, engine.submit(prompt, tokens, model, Sampling(**sampling), [], reply.deliver)


@contextmanager
def running(folder: Path, slots: int = 3, queue: int = 100, timeout: float = 60.0) -> Iterator[Engine]:
    decoder = open_run(str(folder), [0.5], CONTEXT, slots).decoder
    engine = Engine(decoder, SCALES, queue, timeout, Metrics())
    engine.start()
    try:
        yield engine
    finally:
        engine.stop()


FAMILIES = [
    family if family in ("lora", "dora", "ia3") else pytest.param(family, marks=pytest.mark.slow)
    for family in tiny.FAMILIES
]


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_equal_those_of_the_generator(family: str, tuned_folder: Callable[[str], Path]) -> None:
    expected, draw = Expected(tuned_folder(family)), random.Random(family)
    requests = [(problem, draw.randint(1, 24), draw.choice(list(SCALES))) for problem in questions(12)]
    with running(tuned_folder(family)) as engine:
        replies = []
        for problem, tokens, model in requests:
            replies.append(submit(engine, problem, tokens, model)[0])
            time.sleep(draw.choice([0, 0.002]))
        ends = [reply.wait() for reply in replies]
    answers = [expected.answer(*request) for request in requests]
    assert [reply.text for reply in replies] == [answer.text for answer in answers]
    for (problem, _, _), answer, end in zip(requests, answers, ends, strict=True):
        length = len(tiny.PROMPT.encode(WORDS, problem))
        assert end == Finished("stop" if answer.stopped else "length", length, answer.tokens)
    texts = [tuple(expected.answer(problem, 24, model).text for problem in questions(2)) for model in SCALES]
    assert len(set(texts)) == 3


def test_a_sample_depends_on_its_seed_alone(tuned_folder: Callable[[str], Path]) -> None:
    [problem, *others] = questions(8)
    sampling = {"temperature": 1.0, "top_p": 0.9}
    with running(tuned_folder("lora"), slots=8) as engine:
        alone = submit(engine, problem, 20, "tuned", seed=1, **sampling)[0]
        alone.wait()
        crowd = [submit(engine, other, 20, "base", seed=3, **sampling)[0] for other in others]
        again, other = (submit(engine, problem, 20, "tuned", seed=seed, **sampling)[0] for seed in (1, 2))
        for reply in (*crowd, again, other):
            reply.wait()
    assert alone.text == again.text != other.text


def test_a_cancelled_request_frees_its_slot(endless_folder: Path, endless: Expected) -> None:
    with running(endless_folder, slots=1) as engine:
        first, generation = submit(engine, PROBLEM, 300, "tuned")
        waiting, withdrawn = submit(engine, PROBLEM, 300, "tuned")
        last, _ = submit(engine, PROBLEM, 5, "base")
        generation.is_cancelled = withdrawn.is_cancelled = True
        assert isinstance(last.wait(), Finished)
        assert isinstance(first.wait(), ApiError)
        assert isinstance(waiting.wait(), ApiError)
        assert (engine.running, engine.waiting, engine.decoder.running) == (0, 0, 0)
        assert engine.metrics.requests.labels("tuned", "cancelled")._value.get() == 2
    assert last.text == endless.answer(PROBLEM, 5, "base").text


def test_a_request_ends_at_its_deadline(endless_folder: Path) -> None:
    with running(endless_folder, timeout=0.02) as engine:
        end = submit(engine, PROBLEM, 300, "tuned")[0].wait()
        assert isinstance(end, ApiError)
        assert (end.status, end.code) == (504, "timeout")


def test_a_full_queue_refuses_requests(endless_folder: Path) -> None:
    with running(endless_folder, slots=1, queue=2) as engine:
        with pytest.raises(ApiError) as caught:
            for _ in range(4):
                submit(engine, PROBLEM, 300, "tuned")
        assert caught.value.status == 429


def test_a_stop_ends_all_requests(endless_folder: Path) -> None:
    with running(endless_folder, slots=1) as engine:
        replies = [submit(engine, PROBLEM, 300, "tuned")[0] for _ in range(3)]
    ends = [reply.wait() for reply in replies]
    assert all(isinstance(end, ApiError) and end.status == 503 for end in ends[1:])
    with pytest.raises(ApiError):
        submit(engine, PROBLEM, 5, "base")


def test_an_error_in_a_pass_ends_only_the_running_requests(
    tuned_folder: Callable[[str], Path], expected: Expected, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, fails = BatchDecoder.step, threading.Event()

    def sometimes_fails(decoder: BatchDecoder, model: str) -> Any:
        if fails.is_set():
            fails.clear()
            raise RuntimeError("no memory")
        return step(decoder, model)

    monkeypatch.setattr(BatchDecoder, "step", sometimes_fails)
    with running(tuned_folder("lora"), slots=1) as engine:
        fails.set()
        end = submit(engine, PROBLEM, 9, "tuned")[0].wait()
        assert isinstance(end, ApiError)
        assert end.status == 500
        reply, _ = submit(engine, PROBLEM, 9, "tuned")
        reply.wait()
    assert reply.text == expected.answer(PROBLEM, 9, "tuned").text


def test_the_adapter_is_as_before_afterwards(tuned_folder: Callable[[str], Path], expected: Expected) -> None:
    with running(tuned_folder("lora")) as engine:
        submit(engine, PROBLEM, 5, "base")[0].wait()
        submit(engine, PROBLEM, 5, "tuned@0.5")[0].wait()
    tokens = tiny.PROMPT.encode(WORDS, PROBLEM)
    [answer] = Generator(engine.decoder.model, WORDS).answer([tokens], [24], never_stop)
    assert answer == expected.answer(PROBLEM, 24, "tuned")
