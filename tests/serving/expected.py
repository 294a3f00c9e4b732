"""What the server must answer: `Generator.answer` with another copy of the model, at the scale of each served model."""

from pathlib import Path

import tiny

from keeptune.generation.engine import Answer, Generator, never_stop
from keeptune.models import adapter_metadata, adapters

SCALES = {"base": 0.0, "tuned": 1.0, "tuned@0.5": 0.5}
WORDS = tiny.tokenizer()


def questions(number: int) -> list[str]:
    return [problem for _, problem, _ in tiny.problems(number)]


PROBLEM = questions(1)[0]


class Expected:
    """Greedy answers of base and tuned model, one prompt at a time."""

    def __init__(self, folder: Path) -> None:
        card = adapter_metadata.load(folder)
        tuned = adapters.load_adapter(tiny.load(Path(card.model)), folder)
        adapters.set_scale(tuned, card.scale)
        self.generator = Generator(tuned, WORDS)
        self._cached: dict[tuple[str, int, str], Answer] = {}

    def answer(self, problem: str, tokens: int, model: str) -> Answer:
        """The answer to a problem under the stored prompt."""
        key = problem, tokens, model
        if key not in self._cached:
            with adapters.scaled(self.generator.model, SCALES[model]):
                [self._cached[key]] = self.generator.answer([tiny.PROMPT.encode(WORDS, problem)], [tokens], never_stop)
        return self._cached[key]
