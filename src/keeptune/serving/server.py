"""Runs the server until a signal stops it."""

from __future__ import annotations

import signal
import socket
from dataclasses import dataclass, field

import uvicorn

from keeptune.errors import RunError
from keeptune.progress import Reporter
from keeptune.serving.app import AppSettings, create_app
from keeptune.serving.engine import Engine
from keeptune.serving.guard import LOOPBACK
from keeptune.serving.metrics import Metrics
from keeptune.serving.served_run import open_run

GRACE_SECONDS = 30
"""The time that running answers have to finish after a stop signal."""


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Settings of `keeptune serve`; see its options."""

    host: str = "127.0.0.1"
    port: int = 8000
    scales: tuple[float, ...] = ()
    context_tokens: int | None = None
    slots: int = 0
    queue_limit: int = 256
    timeout_seconds: float = 600.0
    api_key: str | None = field(default=None, repr=False)

    @property
    def app(self) -> AppSettings:
        """Settings of the HTTP interface: on a loopback address without a key, only its names are allowed."""
        is_private = self.host in LOOPBACK and self.api_key is None
        return AppSettings(self.api_key, LOOPBACK if is_private else None)


def serve(target: str, settings: ServerSettings, reporter: Reporter) -> None:
    """Serves a run until SIGTERM or SIGINT. Running answers may then finish within GRACE_SECONDS.

    Raises:
        RunError: the address cannot be used.
        as `open_run`.
    """
    listener = _listen(settings.host, settings.port)
    with listener:
        reporter.info(f"loading {target}")
        run = open_run(target, settings.scales, settings.context_tokens, settings.slots)
        engine = Engine(run.decoder, run.scales, settings.queue_limit, settings.timeout_seconds, Metrics())
        config = uvicorn.Config(
            create_app(run, engine, settings.app),
            log_level="warning",
            access_log=False,
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        address = f"[{settings.host}]" if ":" in settings.host else settings.host
        reporter.info(
            f"models: {', '.join(run.scales)}; {run.decoder.slots} slots of {run.decoder.context_tokens} tokens"
        )
        if settings.api_key is None and settings.host not in LOOPBACK:
            reporter.info("anyone who can reach this address can use the server; set KEEPTUNE_API_KEY to require a key")
        reporter.info(f"serving on http://{address}:{listener.getsockname()[1]}/v1 (Ctrl+C stops)")
        server = uvicorn.Server(config)
        # uvicorn stops at these signals, and raises them again once it has stopped. A stop is no error.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, server.handle_exit)
        server.run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    """A bound socket. It is bound before the model is loaded, so that a port in use costs no time.

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
