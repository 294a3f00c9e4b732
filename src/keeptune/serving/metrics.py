"""Metrics of the server in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """Counters of one server, in one registry per server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "keeptune_requests", "Requests by their end", ["model", "outcome"], registry=self.registry
        )
        self.prompt_tokens = Counter(
            "keeptune_prompt_tokens", "Prompt tokens that were prefilled", ["model"], registry=self.registry
        )
        self.generated_tokens = Counter(
            "keeptune_generated_tokens", "Tokens that were generated", ["model"], registry=self.registry
        )
        self.passes = Counter(
            "keeptune_forward_passes",
            "Decoding passes; each gives one token per row",
            ["model"],
            registry=self.registry,
        )
        self.first_token_seconds = Histogram(
            "keeptune_first_token_seconds", "From arrival to the first token", buckets=_SECONDS, registry=self.registry
        )
        self.request_seconds = Histogram(
            "keeptune_request_seconds", "From arrival to the end", buckets=_SECONDS, registry=self.registry
        )

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Adds a gauge that is read whenever the metrics are."""
        Gauge(name, text, registry=self.registry).set_function(value)

    def text(self) -> bytes:
        """All metrics in the text format."""
        text: bytes = generate_latest(self.registry)
        return text
