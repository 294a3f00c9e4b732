"""What protects the studio from other web pages: headers of responses, and the origin and token of requests.

A page of another site can make a browser send requests to 127.0.0.1. It cannot read the token, nor set its header
without permission. `keeptune.serving.guard` checks the host name, against names that such a page points here.
"""

from __future__ import annotations

import hmac
from collections.abc import MutableMapping
from typing import Any

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send

from keeptune.serving.api_error import ApiError

TOKEN_HEADER = "x-keeptune-token"

SAFE_METHODS = ("GET", "HEAD")

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; frame-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'"
)
"""The Content-Security-Policy of the page: only its own files, and no text that becomes markup."""

REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'; sandbox"
)
"""The policy of report.html, which has its style inside and needs no script."""

_HEADERS = {
    "Content-Security-Policy": PAGE_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class StudioGuard:
    """Refuses requests that change something unless the studio's own page sends them, and adds the headers.

    Args:
        app: the application behind it.
        token: the token of this process, which the page got with its address.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request of the ASGI protocol."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            if scope["method"] not in SAFE_METHODS:
                self._check(scope)
        except ApiError as error:
            await JSONResponse(error.body(), error.status)(scope, receive, send_with_headers)
            return
        await self.app(scope, receive, send_with_headers)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        page_origin = f"{scope['scheme']}://{headers.get('host', '')}"
        if (origin is not None and origin != page_origin) or site not in (None, "same-origin"):
            raise ApiError(403, "the request comes from another page than the studio's", code="foreign_origin")
        if not hmac.compare_digest(headers.get(TOKEN_HEADER, "").encode(), self.token.encode()):
            raise ApiError(
                403,
                "the token is missing or old; open the address that `keeptune studio` has printed",
                code="invalid_token",
            )
