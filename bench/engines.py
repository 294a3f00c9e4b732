"""Both training engines on the embedded model: whether they train alike, and how much slower MindSpore is.

    KEEPTUNE_MINDSPORE_PYTHON=.venv-mindspore/bin/python python bench/engines.py [--steps 30] [--questions 40]

Both engines get the same rows, batches, learning rates and start, in float32. Both models then answer the same unseen
problems. The speed is that of the median step, because the first step also compiles a graph.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from common import LENGTH_MIX, examples, problems, write_result

from keeptune.config.adapter import AdapterSection
from keeptune.config.prompt import PromptSection
from keeptune.config.train import TrainSection
from keeptune.evaluation.skill_score import has_final_answer
from keeptune.generation.engine import Generator
from keeptune.mindspore.step_engine import MindSporeEngine
from keeptune.models import adapters
from keeptune.models import load as models
from keeptune.prompts.template import Prompt
from keeptune.training.loop import StepRecord, Trainer

ENGINES = ("torch", "mindspore")
STEP_TOKENS = 1024
ANSWER_TOKENS = 200


def trained(engine: str, steps: int, questions: int) -> dict[str, Any]:
    """The losses of an engine, its speed, and what its adapter answers."""
    tokenizer = models.load_tokenizer(models.EMBEDDED)
    model = adapters.attach(models.load_model(models.EMBEDDED, "float32"), AdapterSection(), 0)
    sizes = {"tokens_per_step": STEP_TOKENS, "tokens_per_batch": 512, "tokens": steps * STEP_TOKENS}
    # Of one width, for MindSpore keeps 5 GB for each.
    rows = [row for row in examples(tokenizer, 40 * steps) if 64 < len(row.tokens) <= 128]
    seen, started = list[StepRecord](), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        settings, run = TrainSection.model_validate(sizes), Path(folder)
        steps_by = MindSporeEngine(model, rows, settings, run) if engine == "mindspore" else None
        Trainer(model, rows, settings, 0, run, engine=steps_by).run(seen.append)
    prompt = Prompt(PromptSection().template)
    asked = [prompt.encode(tokenizer, problem) for _, problem, _ in problems(questions, LENGTH_MIX, 99)]
    answers = Generator(model.eval(), tokenizer).answer(asked, [ANSWER_TOKENS] * len(asked), has_final_answer)
    return {
        "losses": [step.loss for step in seen],
        "useful_tokens_per_second": statistics.median(step.tokens / step.seconds for step in seen),
        "seconds": time.perf_counter() - started,
        "answers": [answer.text for answer in answers],
    }


def main() -> None:
    """Prints how far the losses are apart, the equal answers, and the speeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--questions", type=int, default=40)
    options = parser.parse_args()
    made = {engine: trained(engine, options.steps, options.questions) for engine in ENGINES}
    ours, theirs = (made[engine]["losses"] for engine in ENGINES)
    apart = max(abs(other / own - 1) for own, other in zip(ours, theirs, strict=True))
    alike = sum(one == other for one, other in zip(*(made[engine]["answers"] for engine in ENGINES), strict=True))
    print(f"{len(ours)} steps, loss {ours[0]:.3f} to {ours[-1]:.3f}; at most {apart:.1e} apart, relatively")
    print(f"{alike} of {options.questions} answers equal")
    for engine, own in made.items():
        speed = own["useful_tokens_per_second"]
        print(f"{engine:10} {speed:7.0f} useful tokens/s in the median step, {own['seconds']:.0f} s")
    write_result("engines", {"losses_apart": apart, "equal_answers": alike, "questions": options.questions, **made})


if __name__ == "__main__":
    main()
