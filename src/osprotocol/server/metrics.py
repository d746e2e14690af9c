"""What a server tells Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from osprotocol._clock import monotonic_s
from osprotocol.protocol.statistics import Statistics
from osprotocol.server.hub import Hub

CONTENT_TYPE = CONTENT_TYPE_LATEST
_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The numbers of one application, in a registry of their own.

    Args:
        hub: its live streams.
    """

    def __init__(self, hub: Hub) -> None:
        self._registry = CollectorRegistry()
        self._runs = Gauge("osp_runs", "Runs by status.", ["status"], registry=self._registry)
        self._open = Gauge("osp_requests_open", "Requests that wait for a person.", registry=self._registry)
        self._oldest = Gauge(
            "osp_requests_oldest_wait_seconds", "Since when the oldest of them waits.", registry=self._registry
        )
        self._problems = Gauge(
            "osp_problems", "Reasons why nothing can be accepted at the moment.", registry=self._registry
        )
        self._answers = Counter(
            "osp_http_requests", "HTTP requests answered.", ["method", "route", "status"], registry=self._registry
        )
        self._durations = Histogram(
            "osp_http_request_duration_seconds",
            "Time until the answer was sent; of a stream, until it began.",
            ["method", "route"],
            buckets=_BUCKETS_S,
            registry=self._registry,
        )
        streams = Gauge("osp_streams_open", "Live streams that are open.", registry=self._registry)
        streams.set_function(lambda: hub.streams)
        self._registry.register(_HubCounters(hub))

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """One HTTP request was answered."""
        self._answers.labels(method, route, str(status)).inc()
        self._durations.labels(method, route).observe(seconds)

    def text(self, statistics: Statistics, problems: int) -> bytes:
        """Everything in Prometheus's text format."""
        for status, count in statistics.runs.items():
            self._runs.labels(status).set(count)
        self._open.set(statistics.open_requests)
        oldest = statistics.oldest_request_at
        self._oldest.set(0 if oldest is None else max(0.0, (statistics.at - oldest).total_seconds()))
        self._problems.set(problems)
        return generate_latest(self._registry)


class _HubCounters(Collector):
    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def collect(self) -> Iterator[CounterMetricFamily]:
        yield CounterMetricFamily(
            "osp_stream_events_sent", "Events and log lines queued for live streams.", value=self._hub.sent
        )
        yield CounterMetricFamily(
            "osp_stream_resets", "Live streams that were too far behind and had to start anew.", value=self._hub.resets
        )


class Measured:
    """ASGI middleware that counts and times every request under the template of its route."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass it on, and note how it was answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = monotonic_s()

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                template = _template(scope)
                method = scope["method"] if template else "other"  # anything can be sent as a method
                self._metrics.answered(method, template or "none", message["status"], monotonic_s() - began)
            await send(message)

        await self._app(scope, receive, noted)


def _template(scope: Scope) -> str:
    """The path of the route that answered, with its parameters' names; empty when there was none."""
    path: str = getattr(scope.get("route"), "path", "")
    return path
