"""A model behind a server gives what the same model gives in this process."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
from generation.completions_server import Completions, running

from keeptune.errors import ModelError
from keeptune.evaluation.continuation_likelihood import encode_options, log_likelihoods
from keeptune.generation.engine import Generator, never_stop
from keeptune.generation.served_model import NotMeasurableError, PromptComparison, ServedModel
from keeptune.generation.server_connection import RefusedError, connect

WORDS = tiny.tokenizer()
TEXTS = [tiny.PROMPT.render(problem) for _, problem, _ in tiny.problems(6)]
PROMPTS = [WORDS.encode(text) for text in TEXTS]


@pytest.fixture(scope="module")
def generator(model_folder: Path) -> Generator:
    return Generator(tiny.load(model_folder), WORDS)


@pytest.fixture(scope="module")
def address(generator: Generator) -> Iterator[str]:
    with running(Completions(generator)) as url:
        yield url


def served(address: str) -> ServedModel:
    return ServedModel(connect(address), "tuned", WORDS, len(WORDS))


def second_line(text: str) -> bool:
    return text.count("\n") > 1


@pytest.mark.parametrize("stop", [never_stop, second_line])
def test_answers_equal_those_of_the_generator(address: str, generator: Generator, stop: object) -> None:
    model, budgets, finished = served(address), [20 + place for place in range(len(PROMPTS))], []
    answers = model.answer(PROMPTS, budgets, stop, finished.append)  # type: ignore[arg-type]
    expected = generator.answer(PROMPTS, budgets, stop)  # type: ignore[arg-type]
    assert [(one.text, one.stopped) for one in answers] == [(one.text, one.stopped) for one in expected]
    assert sum(finished) == len(model.prompts.compared) == len(PROMPTS)
    assert not model.prompts.differences and model.prompts.by == "token ids"
    assert any(answer.stopped for answer in answers)


def test_log_likelihoods_equal_those_of_the_generator(address: str, generator: Generator) -> None:
    choices = [encode_options(WORDS, text, [" 7.00", " of the two"], True) for text in TEXTS[:4]]
    expected = log_likelihoods(generator, choices)
    for found, own in zip(log_likelihoods(served(address), choices), expected, strict=True):
        assert found == pytest.approx(own, abs=1e-4)


def test_a_prompt_that_the_server_reads_differently_is_named(generator: Generator) -> None:
    with running(Completions(generator, lambda text: text.replace("Answer:", "Reply:"))) as url:
        model = served(url)
        model.compare(TEXTS, PROMPTS)
    assert [one.prompt for one in model.prompts.differences] == TEXTS
    first = model.prompts.differences[0]
    assert WORDS.decode(PROMPTS[0][: first.place]).endswith("\n")
    assert WORDS.decode(first.expected).startswith("Answer") and WORDS.decode(first.served).startswith("Reply")


def test_counts_are_compared_where_a_server_does_not_tokenize(generator: Generator) -> None:
    class WithoutTokenizer(Completions):
        def post(self, path: str, body: dict[str, object]) -> dict[str, object] | None:
            return None if path == "/tokenize" else super().post(path, body)

    for reads, differing in ((str, 0), (lambda text: f"{text} ", len(TEXTS))):
        with running(WithoutTokenizer(generator, reads)) as url:
            model = served(url)
            model.answer(PROMPTS, [2] * len(PROMPTS), never_stop)
        assert model.prompts.by == "token counts"
        assert (len(model.prompts.compared), len(model.prompts.differences)) == (len(TEXTS), differing)


def test_a_server_without_log_probabilities(generator: Generator) -> None:
    class Plain(Completions):
        def complete(self, body: dict[str, object]) -> dict[str, object]:
            return super().complete({**body, "echo": False})

    with running(Plain(generator)) as url, pytest.raises(NotMeasurableError, match="log-probabilities"):
        served(url).log_likelihoods([[1, 2]], [[3]])


def test_an_answer_that_is_refused_is_not_measurable(generator: Generator) -> None:
    class Strict(Completions):
        def post(self, path: str, body: dict[str, object]) -> dict[str, object] | None:
            return super().post(path, body) if path == "/tokenize" else None

    with running(Strict(generator)) as url, pytest.raises(NotMeasurableError, match="no /v1/completions"):
        served(url).answer(PROMPTS[:1], [2], never_stop)


def test_nobody_listens() -> None:
    with pytest.raises(ModelError, match="no answer") as raised:
        connect("http://127.0.0.1:9/v1/").post("/tokenize", {})
    assert not isinstance(raised.value, RefusedError)


def test_the_tokens_that_a_tokenizer_puts_before_a_text_are_not_sent() -> None:
    words = tiny.tokenizer(before=[tiny.BEGIN], after=[tiny.END])
    with running(Completions(Generator.__new__(Generator))) as url:
        model = ServedModel(connect(url.replace("/v1", "/nowhere")), "tuned", words, len(words))
    assert model.text_of(words.encode("Question")[:-1]) == "Question"
    assert model.client_text(f"{tiny.BEGIN}Question") == "Question"


def test_place_of_the_first_difference() -> None:
    prompts = PromptComparison()
    prompts.add("a", [1, 2, 3], [1, 2, 3])
    prompts.add("b", [1, 2, 3], [1, 5])
    prompts.add("c", [1, 2], [1, 2, 9])
    assert [(one.prompt, one.place, one.expected, one.served) for one in prompts.differences] == [
        ("b", 1, (2, 3), (5,)),
        ("c", 2, (), (9,)),
    ]


@pytest.mark.parametrize("url", ["http://me:secret@localhost/v1", "http://localhost/v1?key=1", "http:///v1"])
def test_addresses_that_are_refused(url: str) -> None:
    with pytest.raises(ModelError, match="without a user name"):
        connect(url)


def test_answers_end_at_the_context_of_the_server(address: str, generator: Generator) -> None:
    context = len(PROMPTS[0]) + 3
    model = ServedModel(connect(address), "tuned", WORDS, len(WORDS), context)
    [answer], [expected] = model.answer(PROMPTS[:1], [50], never_stop), generator.answer(PROMPTS[:1], [3], never_stop)
    assert (answer.text, answer.stopped) == (expected.text, expected.stopped)
