"""Worker process in the Python that has llama.cpp (xllamacpp). It runs llama.cpp's server until its input ends.

    python -I llamacpp_worker.py JOB DESCRIPTOR

The job is JSON: the model file, adapter files, threads, slots, and the context of a slot in tokens. The worker writes
the address of the server as a line of JSON to the file descriptor. This module imports nothing from keeptune, which
need not be installed here.
"""

from __future__ import annotations

import json
import os
import sys

import xllamacpp


def main() -> None:
    """Serves until standard input ends."""
    _, text, descriptor = sys.argv
    job = json.loads(text)
    params = xllamacpp.CommonParams()
    params.model.path = job["model"]
    params.n_ctx = job["context"] * job["slots"]
    params.n_parallel = job["slots"]
    params.kv_unified = False  # each slot has its own part of the context
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = job["threads"]
    params.warmup = False
    params.verbosity = -1
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(adapter, 1.0) for adapter in job["adapters"]]
    server = xllamacpp.Server(params)
    with os.fdopen(int(descriptor), "w", encoding="utf-8") as pipe:
        print(json.dumps({"url": server.listening_address}), file=pipe, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
