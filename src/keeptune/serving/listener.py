"""Binds the address of a server, and runs an application there until a signal stops it."""

from __future__ import annotations

import signal
import socket
from typing import Any

import uvicorn

from keeptune.errors import RunError


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. It is bound before a model is loaded, so that a port in use costs no time.

    Raises:
        RunError: the address is in use, or it does not belong to this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunError(f"--host {host} --port {port}: cannot listen there ({reason}); choose another address") from None
    return listener


def address_of(host: str, listener: socket.socket) -> str:
    """The address that a browser or client uses, such as http://127.0.0.1:8000."""
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}"


def run_until_stopped(app: Any, listener: socket.socket, grace_seconds: int) -> None:
    """Serves an application until SIGTERM or SIGINT. Running responses may then finish within `grace_seconds`."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=grace_seconds,
    )
    server = uvicorn.Server(config)
    # uvicorn stops at these signals, and raises them again once it has stopped. A stop is no error.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)
    server.run(sockets=[listener])
