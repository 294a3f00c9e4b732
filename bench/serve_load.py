"""`keeptune serve` under load: many streams for minutes, tokens per second, errors, and memory over time.

    python bench/serve_load.py adapters/smollm2-135m-arithmetic --streams 64 --seconds 120
    python bench/serve_load.py adapters/smollm2-135m-arithmetic --seconds 60 --peer

Each stream sends one chat request after the other and reads the streamed answer. The server runs in another process,
whose resident memory is sampled each second. With `--peer`, `transformers serve` then gets the same requests for the
same base model, on the same processors; it needs `pip install 'transformers[serving]'`. The client runs on the same
machine, so it takes a part of the processors from both.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from common import problems, write_result

from keeptune.evaluation.model_pair import find_adapter
from keeptune.models import adapter_metadata
from keeptune.models import load as models

START_SECONDS = 180
KINDS = ("add", "sub", "area", "mass", "sales")


@dataclass
class Load:
    """What the streams received."""

    texts: list[str] = field(default_factory=list)
    """What arrived before the end, one text per answer."""
    errors: list[str] = field(default_factory=list)
    first_token_seconds: list[float] = field(default_factory=list)
    resident_bytes: list[int] = field(default_factory=list)


@contextmanager
def running(command: Sequence[str], port: int) -> Iterator[psutil.Process]:
    """A server process, once it answers /health."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + START_SECONDS
            while not asyncio.run(answers_health(port)):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the server did not start: {' '.join(command)}")
                time.sleep(0.5)
            yield psutil.Process(process.pid)
        finally:
            process.terminate()


async def answers_health(port: int) -> bool:
    """Whether the server answers."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.write(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    status = await reader.readline()
    writer.close()
    return b" 200 " in status


async def stream_answer(port: int, body: dict[str, Any], load: Load, end: float) -> None:
    """One streamed answer. The text that arrives before the end of the measurement counts."""
    started, data = time.monotonic(), json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(data)}\r\n"
    writer.write(f"{head}Content-Type: application/json\r\nConnection: close\r\n\r\n".encode() + data)
    text = ""
    while line := await reader.readline():
        if line.startswith(b"HTTP/1.1 ") and b" 200 " not in line:
            load.errors.append(line.decode().strip())
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line[6:])
        if "error" in event:
            load.errors.append(str(event["error"]))
            continue
        for choice in event["choices"]:
            if choice.get("delta", {}).get("content") and time.monotonic() < end:
                if not text:
                    load.first_token_seconds.append(time.monotonic() - started)
                text += choice["delta"]["content"]
    writer.close()
    load.texts.append(text)


async def stream_until(port: int, bodies: Sequence[dict[str, Any]], place: int, load: Load, end: float) -> None:
    """Requests one after the other until the time is over."""
    while time.monotonic() < end:
        try:
            await stream_answer(port, bodies[place % len(bodies)], load, end)
        except (OSError, ValueError) as error:
            load.errors.append(repr(error))
            await asyncio.sleep(0.5)
        place += 1


async def measure(port: int, process: psutil.Process, bodies: Sequence[dict[str, Any]], options: Any) -> Load:
    """Runs all streams and samples the memory of the server."""
    load, end = Load(), time.monotonic() + options.seconds
    stride = max(1, len(bodies) // options.streams)
    streams = [
        asyncio.create_task(stream_until(port, bodies, place * stride, load, end)) for place in range(options.streams)
    ]
    while time.monotonic() < end:
        load.resident_bytes.append(process.memory_info().rss)
        await asyncio.sleep(1)
    await asyncio.gather(*streams)
    return load


def figures(load: Load, seconds: float, tokenizer: Any) -> dict[str, Any]:
    """Speed, errors and memory. Memory is compared between the end of the first quarter and the last quarter.

    Tokens are counted in the texts, by the same tokenizer for each server.
    """
    resident, quarter = load.resident_bytes, max(1, len(load.resident_bytes) // 4)
    return {
        "tokens_per_second": sum(len(tokenizer.encode(text)) for text in load.texts) / seconds,
        "answers": len(load.texts),
        "errors": len(load.errors),
        "first_errors": load.errors[:3],
        "median_first_token_seconds": median(load.first_token_seconds or [float("nan")]),
        "resident_megabytes": [round(size / 2**20) for size in (resident[0], resident[quarter], resident[-1])],
        "resident_growth": max(resident[-quarter:]) / resident[quarter] - 1,
    }


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def load_server(command: Sequence[str], names: Sequence[str], tokenizer: Any, options: Any) -> dict[str, Any]:
    """Starts a server, loads it with requests for these models in turn, and returns its figures."""
    port = free_port()
    bodies = [
        {
            "model": names[place % len(names)],
            "messages": [{"role": "user", "content": problem}],
            "max_tokens": options.max_tokens,
            "temperature": 0,
            "stream": True,
        }
        for place, (_, problem, _) in enumerate(problems(64 * options.streams, KINDS, seed=2))
    ]
    with running([*command, "--host", "127.0.0.1", "--port", str(port)], port) as process:
        return figures(asyncio.run(measure(port, process, bodies, options)), options.seconds, tokenizer)


def main() -> None:
    """Loads the server, and the peer if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("adapter", type=Path, help="a run or an adapter folder of keeptune")
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--max-tokens", type=int, default=96)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--models", default="base,tuned")
    parser.add_argument("--peer", action="store_true", help="also load `transformers serve` with the base model")
    options = parser.parse_args()
    own = [sys.executable, "-m", "keeptune", "serve", str(options.adapter), "--context", str(options.context)]
    folder = find_adapter(str(options.adapter))
    if folder is None:
        raise SystemExit(f"{options.adapter}: no adapter")
    base = models.resolve(adapter_metadata.load(folder).model)
    tokenizer = models.load_tokenizer(base)
    measured = {"keeptune": load_server(own, options.models.split(","), tokenizer, options)}
    if options.peer:
        measured["keeptune_base"] = load_server(own, ["base"], tokenizer, options)
        peer = [sys.executable, "-m", "transformers.cli.transformers", "serve", base, "--device", "cpu"]
        peers = {"transformers_serve": peer, "transformers_serve_continuous": [*peer, "--continuous-batching"]}
        measured |= {name: load_server(command, [base], tokenizer, options) for name, command in peers.items()}
        speed = measured["keeptune_base"]["tokens_per_second"]
        measured["ratios"] = {name: speed / max(measured[name]["tokens_per_second"], 1e-9) for name in peers}
    print(json.dumps(measured, indent=1))
    settings = {name: str(value) for name, value in vars(options).items()}
    write_result("serve_load", {"settings": settings, **measured})


if __name__ == "__main__":
    main()
