"""What the parts of a recipe that name a server share: the types of their options, the client, and a run of requests.

It imports no optional package until a client is created.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field

from keeptune.errors import RecipeError

if TYPE_CHECKING:
    from keeptune.remote_models.client import Client, ServerSettings


def _check_url(url: str) -> str:
    if re.fullmatch(r"https?://[^\s/@?#]+(/[^\s@?#]*)?", url) is None:
        raise ValueError("must be a base URL such as http://localhost:8000/v1, without a user name or key in it")
    return url


ServerUrl = Annotated[
    str,
    AfterValidator(_check_url),
    Field(description="base URL of the server, such as `http://localhost:8000/v1`"),
]
ServedModelName = Annotated[str, Field(min_length=1, description="name of the model on that server")]
Concurrency = Annotated[int, Field(ge=1, le=256, description="maximum number of concurrent requests")]
RequestsPerMinute = Annotated[float | None, Field(gt=0, le=10**9, description="rate limit; null: none")]
TimeoutSeconds = Annotated[float, Field(gt=0, le=86_400, description="timeout per attempt")]
Attempts = Annotated[int, Field(ge=1, le=20, description="attempts per request, with growing pauses between them")]
KeyVariable = Annotated[
    str,
    Field(
        pattern="^[A-Za-z_][A-Za-z0-9_]*$",
        description="environment variable with the API key; the key itself is never stored",
    ),
]


def create_client(settings: ServerSettings, section: str, needed_by: str) -> Client:
    """Creates the client of a server.

    Args:
        settings: the address of the server, and the limits of requests to it.
        section: the place of the settings in a recipe, for error messages.
        needed_by: what needs the client, for error messages.

    Raises:
        RecipeError: an optional package is missing, or as `Client`.
    """
    try:
        from keeptune.remote_models.client import Client
    except ImportError as error:
        raise RecipeError(
            f"{needed_by} needs a package that is missing ({error.name}): pip install 'keeptune[writer]'"
        ) from None
    return Client(settings, section)


def run_requests(requests: Coroutine[Any, Any, None]) -> None:
    """Runs tasks that ask a server together.

    Raises:
        the error of the first task that fails, which stops the others.
    """
    try:
        asyncio.run(requests)
    except BaseExceptionGroup as group:
        # A signal that arrives in the meantime is also in the group.
        raise group.exceptions[0] from None
