"""Asks llama.cpp's server, which keeptune starts in the Python that has it."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from keeptune.generation.llamacpp import SLOTS, serving
from keeptune.generation.server_connection import ServerConnection


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
    with serving(model, [adapter] if adapter else [], context) as server, ThreadPoolExecutor(SLOTS) as pool:
        return {
            "tokens": [
                server.post("/tokenize", {"content": text, "add_special": True, "parse_special": True})["tokens"]
                for text in texts
            ],
            "renderings": [server.post("/apply-template", {"messages": messages})["prompt"] for messages in chats],
            "answers": list(pool.map(lambda pair: _answer(server, *pair), zip(prompts, budgets, strict=True))),
        }


def _answer(server: ServerConnection, prompt: str, budget: int) -> dict[str, Any]:
    """A greedy answer, without its end token."""
    body = {"prompt": prompt, "n_predict": budget, "temperature": 0, "return_tokens": True, "cache_prompt": False}
    reply = server.post("/completion", body)
    return {"text": reply["content"], "tokens": reply["tokens"], "stopped": reply["stop_type"] == "eos"}
