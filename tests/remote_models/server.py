"""An HTTP server on the loopback interface whose answers the tests script: correct, wrong, late, or none."""

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
    """The response to one request. `drip_seconds` is the time for which single blanks are sent before the body."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    drip_seconds: float = 0.0
    hang_up: bool = False


@dataclass
class Received:
    """A received request: its JSON, its headers and its time."""

    body: dict[str, Any]
    headers: dict[str, str]
    seconds: float

    @property
    def prompt(self) -> str:
        return str(self.body["messages"][0]["content"])


Behavior = Callable[[str, int], Reply]
"""Returns the reply to a prompt, given the number of earlier requests with the same prompt."""


def completion(text: Any, finish_reason: str = "stop", **changes: Any) -> Reply:
    """Returns a chat completion in the usual format."""
    tree = {
        "id": "1",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        **changes,
    }
    return Reply(json.dumps(tree).encode())


class Server:
    """The state of the server: the received requests, and the maximum number of concurrent ones."""

    def __init__(self, behavior: Behavior) -> None:
        self.received: list[Received] = []
        self.max_concurrent = 0
        self._behavior = behavior
        self._active = 0
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
            self._active += 1
            self.max_concurrent = max(self.max_concurrent, self._active)
        reply = self._behavior(received.prompt, before)
        with self._lock:
            self._active -= 1
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
def serve(behavior: Behavior) -> Iterator[tuple[str, Server]]:
    """Starts a server with this behavior and yields its base address and its state."""
    server = Server(behavior)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            try:
                server.answer(self)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            """Log nothing; the tests inspect the received requests."""

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
