"""Requests to a model server on this machine or elsewhere, as JSON over HTTP.

It uses only the standard library, so that a GGUF file can be evaluated without optional packages.
"""

from __future__ import annotations

import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from typing import Any

from keeptune.errors import ModelError

KEY = "KEEPTUNE_API_KEY"
"""Environment variable with the key that `keeptune serve` asks for, and other servers may ask for."""

TIMEOUT_SECONDS = 600.0
_QUOTED_CHARACTERS = 300
_LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Makes a redirect an HTTP error."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class RefusedError(ModelError):
    """The server is there, and refuses the request. `status` is the HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class ServerConnection:
    """A server with OpenAI's completions, such as llama-server, vLLM or `keeptune serve`.

    `root` is its address without `/v1`, such as `http://127.0.0.1:8080`.
    """

    root: str
    key: str = field(default_factory=lambda: os.environ.get(KEY, "").strip(), repr=False)

    def get(self, path: str) -> Any:
        """The reply to a GET request. Raises as `post`."""
        return self._send(urllib.request.Request(self.root + path, headers=self._headers()))

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The reply to a POST request.

        Raises:
            RefusedError: the server answers with another status than 200, or not with a JSON object.
            ModelError: the server cannot be reached, or does not answer in time.
        """
        content = json.dumps(body).encode()
        return self._send(urllib.request.Request(self.root + path, content, self._headers()))

    def _opener(self) -> urllib.request.OpenerDirector:
        """Follows no redirects, which would pass the key on, and asks this machine without a proxy."""
        is_local = urllib.parse.urlsplit(self.root).hostname in _LOCAL_HOSTS
        proxies = [urllib.request.ProxyHandler({})] if is_local else []
        return urllib.request.build_opener(_NoRedirects, *proxies)

    def _headers(self) -> dict[str, str]:
        authorization = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        return {"Content-Type": "application/json", **authorization}

    def _send(self, request: urllib.request.Request) -> Any:
        try:
            with self._opener().open(request, timeout=TIMEOUT_SECONDS) as reply:
                content = reply.read()
        except urllib.error.HTTPError as error:
            with error:
                quoted = _message(error.read())
            raise RefusedError(f"{request.full_url}: HTTP {error.code} ({quoted})", error.code) from None
        except OSError as error:
            reason = getattr(error, "reason", error)
            raise ModelError(f"{self.root}: no answer ({reason}); start the server, or correct the address") from None
        try:
            tree = json.loads(content)
        except ValueError:
            tree = None
        if not isinstance(tree, dict):
            raise RefusedError(f"{request.full_url}: the reply is no JSON object ({_message(content)})", 200)
        return tree


def connect(url: str) -> ServerConnection:
    """The connection to an address with or without `/v1` at its end.

    Raises:
        ModelError: the address contains a user name, a query or no host.
    """
    if re.fullmatch(r"https?://[^\s/@?#]+(/[^\s@?#]*)?", url) is None:
        raise ModelError(
            f"{url}: must be an address such as http://localhost:8000/v1, without a user name or key; a key goes into "
            f"{KEY}"
        )
    return ServerConnection(url.rstrip("/").removesuffix("/v1"))


def _message(content: bytes) -> str:
    """The message of OpenAI's error object, or the beginning of the body in one line."""
    text = content.decode(errors="replace")
    try:
        tree = json.loads(text)
        text = str(tree["error"]["message"])
    except (ValueError, KeyError, TypeError):
        pass
    return " ".join(text.split())[:_QUOTED_CHARACTERS]
