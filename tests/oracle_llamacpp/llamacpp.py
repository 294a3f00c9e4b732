"""Asks llama.cpp's server, which keeptune starts in the Python that has it."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keeptune.files import Record
from keeptune.generation.llamacpp import serving
from keeptune.generation.served_model import ServedModel
from keeptune.generation.server_connection import ServerConnection
from keeptune.pipeline.artefact_differences import first_differences

SLOTS = 50
"""Prompts that llama.cpp answers at the same time. Its wheel computes on AVX2, where a step of 50 tokens costs little
more than three times a step of 4: 129 tokens per CPU second with 64 slots, 46 with 4, 25 with 1 (SmolLM2-135M, F16)."""

BEYOND_TOKENS = 8
"""How much longer than the expected answer an answer may get. It is another one by then."""


def run_llamacpp(
    model: Path,
    adapter: Path | None = None,
    texts: Sequence[str] = (),
    chats: Sequence[list[dict[str, str]]] = (),
    prompts: Sequence[str] = (),
    budgets: Sequence[int] = (),
    context: int = 1024,
) -> dict[str, Any]:
    """Tokens of texts, renderings of conversations and greedy answers to prompts, by llama.cpp.

    Args:
        model: a GGUF file.
        adapter: a GGUF file with a LoRA, at full scale.
        texts: to tokenize.
        chats: to render with the chat template of the model file.
        prompts: to answer.
        budgets: the maximum number of new tokens per prompt.
        context: the longest prompt with its answer, in tokens.
    """
    slots = max(1, min(SLOTS, len(prompts)))
    with (
        serving(model, [adapter] if adapter else [], context, slots) as server,
        ThreadPoolExecutor(slots) as pool,
    ):
        return {
            "tokens": [
                server.post("/tokenize", {"content": text, "add_special": True, "parse_special": True})["tokens"]
                for text in texts
            ],
            "renderings": [server.post("/apply-template", {"messages": messages})["prompt"] for messages in chats],
            "answers": list(pool.map(lambda pair: _answer(server, *pair), zip(prompts, budgets, strict=True))),
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """The share of answers with the same text, and where the others part, as `first_differences` reports it.

    `answers` has llama.cpp's answers in the order of the questions.
    """

    share_equal: float
    differences: list[Record]
    answers: list[Record]


def compare_answers(
    model: Path, adapter: Path | None, records: Sequence[Record], prompts: Sequence[Sequence[int]], tokenizer: Any
) -> Comparison:
    """Greedy answers of llama.cpp beside those of a run.

    Args:
        model: a GGUF file.
        adapter: a GGUF file with a LoRA, at full scale.
        records: the questions with the answers of the run.
        prompts: the tokens of each prompt.
        tokenizer: the tokenizer of the run.
    """
    budgets = [record["output_tokens"] + BEYOND_TOKENS for record in records]
    context = max(len(prompt) + budget for prompt, budget in zip(prompts, budgets, strict=True))
    # The longest first, so that all slots have work until shortly before the end.
    order = sorted(range(len(records)), key=lambda place: -budgets[place])
    files = [adapter] if adapter else []
    with serving(model, files, context, SLOTS) as server, ThreadPoolExecutor(SLOTS) as pool:
        replies = list(pool.map(lambda place: _answer(server, records[place]["prompt"], budgets[place]), order))
        answers: list[Record] = [{} for _ in records]
        for place, reply in zip(order, replies, strict=True):
            answers[place] = {**records[place], "output": reply["text"], "stopped": reply["stopped"]}
        source = ServedModel(server, "", tokenizer, len(tokenizer))
        differences = first_differences(source, prompts, records, answers)
    equal = sum(answer["output"] == record["output"] for answer, record in zip(answers, records, strict=True))
    return Comparison(equal / len(records), differences, answers)


def _answer(server: ServerConnection, prompt: str, budget: int) -> dict[str, Any]:
    """A greedy answer, without its end token."""
    body = {"prompt": prompt, "n_predict": budget, "temperature": 0, "return_tokens": True, "cache_prompt": False}
    reply = server.post("/completion", body)
    return {"text": reply["content"], "tokens": reply["tokens"], "stopped": reply["stop_type"] == "eos"}
