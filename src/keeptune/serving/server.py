"""Runs the server until a signal stops it."""

from __future__ import annotations

from dataclasses import dataclass, field

from keeptune.progress import Reporter
from keeptune.serving.app import AppSettings, create_app
from keeptune.serving.engine import Engine
from keeptune.serving.guard import LOOPBACK
from keeptune.serving.listener import address_of, listen, run_until_stopped
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
    listener = listen(settings.host, settings.port)
    with listener:
        reporter.info(f"loading {target}")
        run = open_run(target, settings.scales, settings.context_tokens, settings.slots)
        engine = Engine(run.decoder, run.scales, settings.queue_limit, settings.timeout_seconds, Metrics())
        app = create_app(run, engine, settings.app)
        reporter.info(
            f"models: {', '.join(run.scales)}; {run.decoder.slots} slots of {run.decoder.context_tokens} tokens"
        )
        if settings.api_key is None and settings.host not in LOOPBACK:
            reporter.info("anyone who can reach this address can use the server; set KEEPTUNE_API_KEY to require a key")
        reporter.info(f"serving on {address_of(settings.host, listener)}/v1 (Ctrl+C stops)")
        run_until_stopped(app, listener, GRACE_SECONDS)
