"""A small server that stands where the Hugging Face hub's API would be, and keeps what is committed to it."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Hub:
    """What a client did: requests for repositories, validated model cards, committed files, sent tokens."""

    url: str = ""
    created: list[dict[str, Any]] = field(default_factory=list)
    cards: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    message: str = ""
    tokens: set[str] = field(default_factory=set)


@contextmanager
def local_hub() -> Iterator[Hub]:
    """Context with the server; it accepts every file inside a commit, as the hub does for small ones."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])) if "Content-Length" in self.headers else b""
            hub.tokens.add(self.headers.get("Authorization", ""))
            self._answer(self._reply(body))

        def _reply(self, body: bytes) -> dict[str, Any]:
            if self.path == "/api/repos/create":
                hub.created.append(json.loads(body))
                return {"url": f"{hub.url}/acme/sums"}
            if self.path == "/api/validate-yaml":
                hub.cards.append(json.loads(body)["content"])
                return {"errors": [], "warnings": []}
            if "/preupload/" in self.path:
                names = [file["path"] for file in json.loads(body)["files"]]
                return {"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]}
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    hub.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                elif line["key"] == "header":
                    hub.message = line["value"]["summary"]
            return {"commitUrl": f"{hub.url}/acme/sums/commit/1", "commitOid": "1" * 40, "success": True}

        def _answer(self, reply: dict[str, Any]) -> None:
            content = json.dumps(reply).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
