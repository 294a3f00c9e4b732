"""Runs llama.cpp's server on GGUF files. The Python that runs this file has xllamacpp but not keeptune.

    python llamacpp_program.py JOB.json RESULT.json

A job names a model and an adapter, texts to tokenize, conversations to render, and prompts to answer. The result has
the tokens of each text, the rendering of each conversation, and text and tokens of each greedy answer.
"""

import json
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import xllamacpp

SLOTS = 4
"""Prompts that are answered at the same time."""


def start(job: dict[str, Any]) -> xllamacpp.Server:
    """The server of a job, on a free port."""
    params = xllamacpp.CommonParams()
    params.model.path = job["model"]
    params.n_ctx = job["context"] * SLOTS
    params.n_parallel = SLOTS
    params.kv_unified = False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = job["threads"]
    params.warmup = False
    params.verbosity = -1
    if job["adapter"]:
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(job["adapter"], 1.0)]
    return xllamacpp.Server(params)


def post(server: xllamacpp.Server, path: str, body: dict[str, Any]) -> Any:
    """The reply of the server to a request."""
    request = urllib.request.Request(
        f"{server.listening_address}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as reply:
        return json.load(reply)


def answer(server: xllamacpp.Server, prompt: str, budget: int) -> dict[str, Any]:
    """A greedy answer, without its end token."""
    body = {"prompt": prompt, "n_predict": budget, "temperature": 0, "return_tokens": True, "cache_prompt": False}
    reply = post(server, "/completion", body)
    return {"text": reply["content"], "tokens": reply["tokens"], "stopped": reply["stop_type"] == "eos"}


def main() -> None:
    """Writes the result of a job."""
    _, job_path, result_path = sys.argv
    job = json.loads(Path(job_path).read_text(encoding="utf-8"))
    server = start(job)
    with ThreadPoolExecutor(SLOTS) as pool:
        answers = pool.map(lambda pair: answer(server, *pair), zip(job["prompts"], job["budgets"], strict=True))
        result = {
            "tokens": [
                post(server, "/tokenize", {"content": text, "add_special": True, "parse_special": True})["tokens"]
                for text in job["texts"]
            ],
            "renderings": [
                post(server, "/apply-template", {"messages": messages})["prompt"] for messages in job["chats"]
            ],
            "answers": list(answers),
        }
    Path(result_path).write_text(json.dumps(result, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main()
