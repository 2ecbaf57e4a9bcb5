"""Traces and metrics for OpenTelemetry: one span a run, one an attempt, sent to the OTLP receiver of the environment.

The names are those of OpenTelemetry's conventions for HTTP clients where there are any; URLs, headers and bodies are in
no span, since they may hold secrets. The packages are the extra `otel`, and are imported only where they are wanted.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final
from urllib.parse import urlsplit

from migrator import __version__
from migrator.errors import MigratorError
from migrator.messages import Answer, Reply, Request, Sender
from migrator.report.summary import Summary

__all__ = ["Telemetry", "check_telemetry", "open_telemetry"]

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
EXPORT_S: Final = 2
"""Seconds that one message to the receiver may take, all attempts included."""

FLUSH_MS: Final = 2000
"""Milliseconds that a receiver has to take what is left at a run's end; one that is down holds nothing up."""


class Telemetry:
    """Tells of one run; made by `open_telemetry`.

    Args:
        tracer: makes spans.
        meter: makes instruments.
        span: of the run.
    """

    def __init__(self, tracer: Any, meter: Any, span: Any) -> None:
        self._trace = import_module("opentelemetry.trace")
        self._tracer = tracer
        self._span = span
        self._within = self._trace.set_span_in_context(span)
        self._duration = meter.create_histogram("http.client.request.duration", unit="s")
        self._items = meter.create_counter("migrator.items", unit="{item}")
        self._refusals = meter.create_counter("migrator.refusals", unit="{request}")

    def traced(self, sender: Sender) -> Sender:
        """Return a sender that tells of each attempt."""
        return _Traced(self, sender)

    async def attempt(self, sender: Sender, request: Request) -> Answer:
        """Make an attempt within a span of its own."""
        parts = urlsplit(request.url)
        attributes = {"http.request.method": request.method, "server.address": parts.hostname or ""}
        told = attributes | {"migrator.item": request.item, "migrator.key": request.key}
        with self._tracer.start_as_current_span(request.method, context=self._within, attributes=told) as span:
            answer = await sender.send(request)
            if isinstance(answer, Reply):
                attributes["http.response.status_code"] = str(answer.status)
                span.set_attribute("http.response.status_code", answer.status)
                failed = answer.status >= 400
            else:
                attributes["error.type"] = answer.kind.value
                span.set_attribute("error.type", answer.kind.value)
                failed = True
            if failed:
                span.set_status(self._trace.Status(self._trace.StatusCode.ERROR))
        self._duration.record(answer.received.mono - answer.sent.mono, attributes)
        return answer

    def ended(self, summary: Summary) -> None:
        """Tell how the run ended."""
        for status, count in summary["counts"].items():
            self._items.add(count, {"migrator.status": status})
        self._refusals.add(summary["quota"]["refused"])
        self._span.set_attribute("migrator.exit_code", summary["exit_code"])
        if summary["exit_code"]:
            self._span.set_status(self._trace.Status(self._trace.StatusCode.ERROR))


class _Traced:
    def __init__(self, telemetry: Telemetry, sender: Sender) -> None:
        self._telemetry = telemetry
        self._sender = sender

    async def send(self, request: Request) -> Answer:
        return await self._telemetry.attempt(self._sender, request)


def check_telemetry(env: Mapping[str, str]) -> bool:
    """Tell whether the environment names a receiver.

    Raises:
        MigratorError: it does, and the packages are not there.
    """
    if env.get("OTEL_SDK_DISABLED", "").lower() == "true" or not any(env.get(name) for name in ENDPOINTS):
        return False
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.exporter") is None:
        raise MigratorError(f"{ENDPOINTS[0]} is set, which needs the extra otel: pip install 'migrator[otel]'")
    return True


@contextmanager
def open_telemetry(*, run: str, job: str, server: str) -> Iterator[Telemetry]:
    """Tell the receiver of the environment of a run; what cannot be sent within a while is dropped."""
    # Its loggers write to standard error whatever our own events do there.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    resource = import_module("opentelemetry.sdk.resources").Resource.create(
        {"service.name": "migrator", "service.version": __version__}
    )
    tracing, metering = import_module("opentelemetry.sdk.trace"), import_module("opentelemetry.sdk.metrics")
    batches = import_module("opentelemetry.sdk.trace.export").BatchSpanProcessor(
        import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter").OTLPSpanExporter(timeout=EXPORT_S)
    )
    reader = import_module("opentelemetry.sdk.metrics.export").PeriodicExportingMetricReader(
        import_module("opentelemetry.exporter.otlp.proto.http.metric_exporter").OTLPMetricExporter(timeout=EXPORT_S)
    )
    traces = tracing.TracerProvider(resource=resource, shutdown_on_exit=False)
    traces.add_span_processor(batches)
    metrics = metering.MeterProvider(resource=resource, metric_readers=[reader], shutdown_on_exit=False)
    tracer, meter = traces.get_tracer("migrator", __version__), metrics.get_meter("migrator", __version__)
    attributes = {"migrator.run": run, "migrator.job": job, "server.address": urlsplit(server).hostname or ""}
    try:
        with tracer.start_as_current_span("migrator run", attributes=attributes, record_exception=False) as span:
            yield Telemetry(tracer, meter, span)
    finally:
        for provider in (traces, metrics):
            with suppress(Exception):
                provider.force_flush(FLUSH_MS)
        with suppress(Exception):
            metrics.shutdown(timeout_millis=FLUSH_MS)
        with suppress(Exception):
            traces.shutdown()
