"""The studio behind a test client of ASGI applications, with the token that its page has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from keeptune.serving.studio.app import Studio, create_studio
from keeptune.serving.studio.server import StudioSettings, open_studio

ADDRESS = "http://127.0.0.1:8010"


@dataclass
class Client:
    """Requests to a studio."""

    studio: Studio
    http: TestClient

    def get(self, path: str, **parameters: Any) -> Any:
        """The JSON at a path, which must be there."""
        response = self.http.get(path, params=parameters)
        assert response.status_code == 200, response.text
        return response.json()

    def refused(self, path: str, status: int, **parameters: Any) -> str:
        """The message of a request that must fail."""
        return _refused(self.http.get(path, params=parameters), status)

    def post(self, path: str, body: Any) -> Any:
        """The JSON that answers a request with the token."""
        response = self.http.post(path, json=body, headers=self.headers)
        assert response.status_code == 200, response.text
        return response.json()

    def post_refused(self, path: str, body: Any, status: int) -> str:
        """The message of a request with the token that must fail."""
        return _refused(self.http.post(path, json=body, headers=self.headers), status)

    @property
    def headers(self) -> dict[str, str]:
        return {"X-Keeptune-Token": self.studio.token}


def _refused(response: Any, status: int) -> str:
    assert response.status_code == status, response.text
    return str(response.json()["error"]["message"])


@contextmanager
def client_of(folder: Path, **settings: Any) -> Iterator[Client]:
    """A client of the studio over a run or a folder of runs. Its end stops what the studio has started."""
    studio = open_studio(folder, StudioSettings(**settings))
    with TestClient(create_studio(studio), base_url=ADDRESS) as http:
        yield Client(studio, http)
