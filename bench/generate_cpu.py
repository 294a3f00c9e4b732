"""Answering speed on the processor: keeptune's generator against `model.generate`, same questions, in one run.

    python bench/generate_cpu.py runs/demo/adapter

The peer answers shuffled batches of 32, padded on the left, with PEFT's adapter on transformers' attention. Both are
greedy with the same budget. Outputs are compared as texts, in bfloat16 and in float32: in bfloat16 two orders of
summation pick different tokens where two are nearly equal, and one such token changes the rest of an answer.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path
from typing import Any

import torch
from common import problems, write_result
from peft import PeftModel
from transformers import AutoModelForCausalLM

from keeptune.generation.engine import Generator
from keeptune.models import adapter_metadata, adapters
from keeptune.models import load as models
from keeptune.prompts.template import encode_prompt

BATCH_ROWS = 32


def peer_answers(folder: Path, dtype: str, prompts: list[str], budget: int) -> tuple[list[str], int, float]:
    """What `model.generate` writes, how many tokens that is, and the seconds it took."""
    card = adapter_metadata.load(folder)
    tokenizer: Any = models.load_tokenizer(card.model)
    tokenizer.padding_side = "left"
    base = AutoModelForCausalLM.from_pretrained(models.resolve(card.model), dtype=models.dtype(dtype))
    model = PeftModel.from_pretrained(base, str(folder)).eval()
    order = list(range(len(prompts)))
    random.Random(0).shuffle(order)
    texts, tokens, started = [""] * len(prompts), 0, time.perf_counter()
    for start in range(0, len(order), BATCH_ROWS):
        batch = order[start : start + BATCH_ROWS]
        encoded = tokenizer([prompts[i] for i in batch], return_tensors="pt", padding=True)
        with torch.inference_mode():
            outputs = model.generate(
                **encoded, max_new_tokens=budget, do_sample=False, pad_token_id=tokenizer.eos_token_id
            )
        for index, row in zip(batch, outputs[:, encoded.input_ids.shape[1] :].tolist(), strict=True):
            ended = row.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in row else len(row)
            texts[index] = tokenizer.decode(row[:ended], skip_special_tokens=True)
            tokens += ended
    return texts, tokens, time.perf_counter() - started


def own_answers(folder: Path, dtype: str, prompts: list[str], budget: int) -> tuple[list[str], int, float]:
    """The same of keeptune's generator."""
    card = adapter_metadata.load(folder)
    tokenizer: Any = models.load_tokenizer(card.model)
    generator = Generator(adapters.load_adapter(models.load_model(card.model, dtype), folder), tokenizer)
    tokens = [encode_prompt(tokenizer, text) for text in prompts]
    started = time.perf_counter()
    answers = generator.answer(tokens, [budget] * len(tokens), lambda _: False)
    seconds = time.perf_counter() - started
    return [answer.text for answer in answers], sum(answer.tokens for answer in answers), seconds


def compare(folder: Path, dtype: str, prompts: list[str], budget: int) -> dict[str, Any]:
    """Both sides' speeds in one number format, their ratio, and the share of equal outputs."""
    own, own_tokens, own_seconds = own_answers(folder, dtype, prompts, budget)
    peer, peer_tokens, peer_seconds = peer_answers(folder, dtype, prompts, budget)
    equal = sum(a == b for a, b in zip(own, peer, strict=True)) / len(prompts)
    own_speed, peer_speed = own_tokens / own_seconds, peer_tokens / peer_seconds
    print(f"{dtype}, {len(prompts)} questions")
    print(f"  keeptune        {own_speed:7.0f} new tokens/s  ({own_tokens:,} tokens, {own_seconds:.1f} s)")
    print(f"  model.generate  {peer_speed:7.0f} new tokens/s  ({peer_tokens:,} tokens, {peer_seconds:.1f} s)")
    print(f"  ratio           {own_speed / peer_speed:7.2f}   equal outputs {equal:.1%}", flush=True)
    return {
        "questions": len(prompts),
        "new_tokens_per_second": {"keeptune": own_speed, "model_generate": peer_speed},
        "ratio": own_speed / peer_speed,
        "equal_outputs": equal,
    }


def main() -> None:
    """Times both sides in each number format."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("adapter", type=Path, help="an adapter folder of keeptune")
    parser.add_argument("--questions", type=int, default=192)
    parser.add_argument("--kinds", default="area,mass,sales")
    parser.add_argument("--dtypes", default="bfloat16,float32")
    options = parser.parse_args()
    card = adapter_metadata.load(options.adapter)
    budget = max(card.budgets.values())
    asked = [problem for _, problem, _ in problems(options.questions, tuple(options.kinds.split(",")), seed=1)]
    prompts = [card.prompt.render(problem) for problem in asked]
    measured = {dtype: compare(options.adapter, dtype, prompts, budget) for dtype in options.dtypes.split(",")}
    write_result(
        "generate_cpu",
        {"kinds": options.kinds, "budget_tokens": budget, "batch_rows_peer": BATCH_ROWS, "by_dtype": measured},
    )


if __name__ == "__main__":
    main()
