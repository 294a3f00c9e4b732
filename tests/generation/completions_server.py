"""A server with the part of vLLM's interface that evaluations use, on a tiny model in this process."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch

from keeptune.generation.engine import Generator, never_stop
from keeptune.prompts.template import encode_prompt

Json = dict[str, Any]


class Completions:
    """The replies of the server. `reads` is what it makes of a text before it tokenizes it."""

    def __init__(self, generator: Generator, reads: Callable[[str], str] = str) -> None:
        self.generator, self.reads, self.lock = generator, reads, threading.Lock()

    def get(self, path: str) -> Json | None:
        replies = {"/v1/models": {"data": [{"id": "base"}, {"id": "tuned"}]}, "/version": {"version": "0.0"}}
        return replies.get(path)

    def post(self, path: str, body: Json) -> Json | None:
        with self.lock:
            if path == "/tokenize":
                return {"tokens": self.tokens(body["prompt"])}
            return self.complete(body) if path == "/v1/completions" else None

    def tokens(self, prompt: str | list[int]) -> list[int]:
        return encode_prompt(self.generator.tokenizer, self.reads(prompt)) if isinstance(prompt, str) else prompt

    def complete(self, body: Json) -> Json:
        tokens = self.tokens(body["prompt"])
        [answer] = self.generator.answer([tokens], [body["max_tokens"]], never_stop)
        usage = {"prompt_tokens": len(tokens), "completion_tokens": answer.tokens}
        choice = {"text": answer.text, "finish_reason": "stop" if answer.stopped else "length"}
        if body.get("echo"):
            with torch.no_grad():
                logits = self.generator.model(input_ids=torch.tensor([tokens])).logits[0].float()
            values = logits[:-1].log_softmax(-1).gather(1, torch.tensor(tokens[1:])[:, None])[:, 0].tolist()
            choice["logprobs"] = {"token_logprobs": [None, *values, -1.0]}
        return {"choices": [choice], "usage": usage}


@contextmanager
def running(completions: Completions) -> Iterator[str]:
    """The address of the server, which runs in a thread."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply(completions.get(self.path))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.reply(completions.post(self.path, body))

        def reply(self, tree: Json | None) -> None:
            content = json.dumps(tree or {"error": {"message": f"no {self.path}"}}).encode()
            self.send_response(404 if tree is None else 200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
