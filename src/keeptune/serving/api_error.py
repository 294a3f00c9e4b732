"""Errors of the server in the form that OpenAI clients read."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """A request that the server refuses or cannot finish.

    Attributes:
        status: the HTTP status.
        message: what happened and what to do.
        kind: the class of the error, such as `invalid_request_error`.
        code: the exact reason, such as `model_not_found`.
        param: the parameter at fault; None if it is no single one.
    """

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param

    @property
    def kind(self) -> str:
        """The class of the error, from its status."""
        if self.status == 401:
            return "authentication_error"
        if self.status == 429:
            return "rate_limit_error"
        return "invalid_request_error" if self.status < 500 else "server_error"

    def body(self) -> dict[str, Any]:
        """The JSON body of the response."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}
