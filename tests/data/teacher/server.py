"""A real HTTP server on the loopback that answers as it is told: well, wrongly, late, or not at all."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """What is sent for one request; `drip_seconds` sends a blank now and then for so long before the body."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    drip_seconds: float = 0.0
    hang_up: bool = False


@dataclass
class Received:
    """A request as it came in: its JSON, its headers and when."""

    body: dict[str, Any]
    headers: dict[str, str]
    seconds: float

    @property
    def prompt(self) -> str:
        return str(self.body["messages"][0]["content"])


Behaviour = Callable[[str, int], Reply]
"""The reply to a prompt, given how many requests with the same prompt came before it."""


def said(text: Any, finish_reason: str = "stop", **changes: Any) -> Reply:
    """A chat completion of the usual form."""
    tree = {
        "id": "1",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        **changes,
    }
    return Reply(json.dumps(tree).encode())


class Server:
    """Where it is, and what it has received."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.received: list[Received] = []
        self.most_at_once = 0
        self._behaviour = behaviour
        self._under_way = 0
        self._lock = threading.Lock()
        self.closing = threading.Event()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answers one request."""
        length = int(handler.headers["Content-Length"])
        headers = {name.title(): value for name, value in handler.headers.items()}
        received = Received(json.loads(handler.rfile.read(length)), headers, time.monotonic())
        with self._lock:
            before = sum(other.prompt == received.prompt for other in self.received)
            self.received.append(received)
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
        reply = self._behaviour(received.prompt, before)
        with self._lock:
            self._under_way -= 1
        if reply.hang_up:
            handler.close_connection = True
            return
        handler.send_response(reply.status)
        for name, value in {"Content-Type": "application/json", "Connection": "close", **reply.headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        until = time.monotonic() + reply.drip_seconds
        while time.monotonic() < until and not self.closing.wait(0.02):
            handler.wfile.write(b" ")
        handler.wfile.write(reply.body)


@contextmanager
def serve(behaviour: Behaviour) -> Iterator[tuple[str, Server]]:
    """The base address of a server that behaves so, and the server."""
    server = Server(behaviour)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            try:
                server.answer(self)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            """Nothing: the tests look at what was received."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}/v1", server
    finally:
        server.closing.set()
        http.shutdown()
        http.server_close()
        thread.join()
