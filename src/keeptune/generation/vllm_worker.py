"""What runs in the Python that has vLLM: one step for all running answers at a time, told to the process that asks.

It is started with a job as JSON, reads requests as lines of JSON, and writes lines of JSON to a pipe: for each step the
new token of every running answer; then it is told which answers have ended. What ends an answer, and what counts as its
text, is decided by the one who asks, so that it is the same as without vLLM. Nothing of keeptune is imported here.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, TextIO

import torch
from vllm import LLM, SamplingParams, TokensPrompt
from vllm.lora.request import LoRARequest
from vllm.sampling_params import RequestOutputKind

FREE_MEMORY_SHARE = 0.9
"""Of what is free on an accelerator: the process that asks keeps its own model there."""

PROCESSOR_CACHE_GB = "2"
"""For keys and values on a processor, where vLLM would take nearly all memory; VLLM_CPU_KVCACHE_SPACE asks for more."""

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Those that vLLM has kernels for; an adapter of another rank is laid into the next larger one."""


def engine(job: dict[str, Any]) -> Any:
    """vLLM's engine with the model, ready to put an adapter on it."""
    settings: dict[str, Any] = {"enforce_eager": True}
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", PROCESSOR_CACHE_GB)
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        settings = {"gpu_memory_utilization": FREE_MEMORY_SHARE * free / total}
    if job["rank"]:
        rank = next(known for known in LORA_RANKS if known >= job["rank"])
        settings |= {"enable_lora": True, "max_lora_rank": rank, "max_loras": 1}
    return LLM(model=job["model"], dtype=job["dtype"], skip_tokenizer_init=True, **settings).llm_engine


def answer(own: Any, request: dict[str, Any], requests: TextIO, answers: TextIO) -> None:
    """Tells every step of all answers to a request, {number: token}, and at last null."""
    adapter = LoRARequest("adapter", request["adapter_number"], request["adapter"]) if request["adapter"] else None
    for number, (prompt, budget) in enumerate(zip(request["prompts"], request["budgets"], strict=True)):
        greedy = SamplingParams(
            temperature=0,
            max_tokens=budget,
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )
        own.add_request(str(number), TokensPrompt(prompt_token_ids=prompt), greedy, lora_request=adapter)
    while own.has_unfinished_requests():
        tell(answers, {out.request_id: list(out.outputs[0].token_ids) for out in own.step()})
        if ended := json.loads(next(requests)):
            own.abort_request(ended)
    tell(answers, None)


def tell(answers: TextIO, told: Any) -> None:
    """Writes a line."""
    print(json.dumps(told), file=answers, flush=True)


def main() -> None:
    """Answers requests until there are no more."""
    _, job, given = sys.argv
    answers = os.fdopen(int(given), "w", encoding="utf-8")
    own = engine(json.loads(job))
    tell(answers, {"ready": True})
    for line in sys.stdin:
        answer(own, json.loads(line), sys.stdin, answers)


if __name__ == "__main__":
    main()
