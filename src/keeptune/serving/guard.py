"""What happens to each HTTP request before its endpoint: host, API key, and limits of its body."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Sequence

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from keeptune.serving.api_error import ApiError

OPEN_PATHS = ("/health",)
"""Paths that need no API key."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Guard:
    """Refuses requests without the API key, with a foreign host name, or with a body that is too long or too slow.

    A page in a browser can reach a server on this machine under any host name (DNS rebinding). So a server
    without a key on a loopback address answers only to the names of that address.

    Args:
        app: the application behind it.
        api_key: the key; None for none.
        hosts: the host names that are allowed; None for all.
        body_bytes, body_seconds: the maximum size of a body, and the maximum time until it is complete.
    """

    def __init__(
        self, app: ASGIApp, api_key: str | None, hosts: Sequence[str] | None, body_bytes: int, body_seconds: float
    ) -> None:
        self.app, self.api_key, self.hosts = app, api_key, hosts
        self.body_bytes, self.body_seconds = body_bytes, body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request of the ASGI protocol."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            self._check(scope)
        except ApiError as error:
            await JSONResponse(error.body(), error.status)(scope, receive, send)
            return
        await self.app(scope, self._limited(receive), send)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if self.hosts is not None and _host_name(headers.get("host", "")) not in self.hosts:
            names = ", ".join(self.hosts)
            raise ApiError(403, f"this server answers only to {names}; use one of these names, or another --host")
        if self.api_key is None or scope["path"] in OPEN_PATHS:
            return
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(key.strip().encode(), self.api_key.encode()):
            raise ApiError(401, "send the API key of this server as Authorization: Bearer KEY", code="invalid_api_key")

    def _limited(self, receive: Receive) -> Receive:
        """`receive`, with limits for the time and the size of the body."""
        end = asyncio.get_running_loop().time() + self.body_seconds
        is_complete, size = False, 0

        async def limited() -> Message:
            nonlocal is_complete, size
            if is_complete:
                return await receive()
            try:
                async with asyncio.timeout_at(end):
                    message = await receive()
                    size += len(message.get("body", b""))
                    # The rest is dropped, so that the client has sent all and reads the response.
                    while size > self.body_bytes and message.get("more_body"):
                        message = await receive()
            except TimeoutError:
                raise ApiError(408, f"the body did not arrive within {self.body_seconds:g} s", code="timeout") from None
            if size > self.body_bytes:
                raise ApiError(413, f"the body must have at most {self.body_bytes} bytes", code="body_too_large")
            is_complete = not message.get("more_body", False)
            return message

        return limited


def _host_name(host: str) -> str:
    """The name in a Host header, without the port and the brackets of IPv6."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()
