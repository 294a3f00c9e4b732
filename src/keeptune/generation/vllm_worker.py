"""Worker process in the Python that has vLLM. It decodes all running answers step by step.

The worker gets a job as JSON on its command line and requests as JSON lines on standard input. After each step it
writes one JSON line to a pipe: the new token of every running answer. The parent process replies with the numbers of
the answers that have ended. It alone decides where an answer ends, so that the rule is the same as without vLLM. This
module imports nothing from keeptune, which is not installed here.
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
"""Share of the free accelerator memory that vLLM may use. The parent process keeps its own model there."""

PROCESSOR_CACHE_GB = "2"
"""Size of the key-value cache on a processor. By default, vLLM takes nearly all memory. The environment variable
VLLM_CPU_KVCACHE_SPACE overrides it."""


def load_engine(job: dict[str, Any]) -> Any:
    """Loads the model of a job into vLLM's engine, prepared for adapters up to the job's rank."""
    settings: dict[str, Any] = {"enforce_eager": True}
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", PROCESSOR_CACHE_GB)
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        settings = {"gpu_memory_utilization": FREE_MEMORY_SHARE * free / total}
    if job["rank"]:
        settings |= {"enable_lora": True, "max_lora_rank": job["rank"], "max_loras": 1}
    return LLM(model=job["model"], dtype=job["dtype"], skip_tokenizer_init=True, **settings).llm_engine


def decode(engine: Any, request: dict[str, Any], replies: TextIO, pipe: TextIO) -> None:
    """Decodes the prompts of a request. Writes `{number: [token]}` after every step, and null at the end."""
    adapter = LoRARequest("adapter", request["adapter_number"], request["adapter"]) if request["adapter"] else None
    for number, (prompt, budget) in enumerate(zip(request["prompts"], request["budgets"], strict=True)):
        greedy = SamplingParams(
            temperature=0,
            max_tokens=budget,
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )
        engine.add_request(str(number), TokensPrompt(prompt_token_ids=prompt), greedy, lora_request=adapter)
    while engine.has_unfinished_requests():
        write_line(pipe, {output.request_id: list(output.outputs[0].token_ids) for output in engine.step()})
        if ended := json.loads(next(replies)):
            engine.abort_request(ended)
    write_line(pipe, None)


def write_line(pipe: TextIO, value: Any) -> None:
    """Writes a value as a line of JSON."""
    print(json.dumps(value), file=pipe, flush=True)


def main() -> None:
    """Serves requests until standard input ends."""
    _, job, descriptor = sys.argv
    pipe = os.fdopen(int(descriptor), "w", encoding="utf-8")
    engine = load_engine(json.loads(job))
    write_line(pipe, {"ready": True})
    for line in sys.stdin:
        decode(engine, json.loads(line), sys.stdin, pipe)


if __name__ == "__main__":
    main()
