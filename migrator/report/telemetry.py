"""Traces and metrics for OpenTelemetry: one span a run, one an attempt, sent to the OTLP receiver of the environment.

The names are those of OpenTelemetry's conventions for HTTP clients where there are any; URLs, headers and bodies are in
no span, since they may hold secrets. The packages are the extra `otel`, and are imported only when they are used.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final
from urllib.parse import urlsplit

from migrator import __version__
from migrator.errors import MigratorError
from migrator.messages import Answer, Instant, Reply, Request
from migrator.report.observer import Observer
from migrator.report.summary import Summary

__all__ = ["Telemetry", "check_telemetry", "open_telemetry"]

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
EXPORT_S: Final = 2
"""Seconds for one message to the receiver, with all attempts."""

FLUSH_MS: Final = 2000
"""Milliseconds for what is left at a run's end; a receiver that is down does not hold the run up."""


class Telemetry(Observer):
    """Reports one run; made by `open_telemetry`.

    Args:
        tracer: makes spans.
        meter: makes instruments.
    """

    def __init__(self, tracer: Any, meter: Any) -> None:
        self._trace = import_module("opentelemetry.trace")
        self._tracer = tracer
        self._span: Any = None
        self._within: Any = None
        self._duration = meter.create_histogram("http.client.request.duration", unit="s")
        self._items = meter.create_counter("migrator.items", unit="{item}")
        self._refusals = meter.create_counter("migrator.refusals", unit="{request}")

    async def started(self, facts: Mapping[str, str]) -> Sequence[str]:
        """Start the run's span."""
        host = urlsplit(facts["server"]).hostname or ""
        attributes = {"migrator.run": facts["run"], "migrator.job": facts["job"], "server.address": host}
        self._span = self._tracer.start_span("migrator run", attributes=attributes)
        self._within = self._trace.set_span_in_context(self._span)
        return ()

    def attempt(self, request: Request, answer: Answer) -> None:
        """Make a span of an attempt."""
        attributes = {"http.request.method": request.method, "server.address": urlsplit(request.url).hostname or ""}
        told = attributes | {"migrator.item": request.item, "migrator.key": request.key}
        span = self._tracer.start_span(
            request.method, context=self._within, attributes=told, start_time=_nanoseconds(answer.sent)
        )
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
        span.end(end_time=_nanoseconds(answer.received))
        self._duration.record(answer.received.mono - answer.sent.mono, attributes)

    async def ended(self, summary: Summary) -> Sequence[str]:
        """Report how the run ended."""
        for status, count in summary["counts"].items():
            self._items.add(count, {"migrator.status": status})
        self._refusals.add(summary["quota"]["refused"])
        self._span.set_attribute("migrator.exit_code", summary["exit_code"])
        if summary["exit_code"]:
            self._span.set_status(self._trace.Status(self._trace.StatusCode.ERROR))
        return ()

    def close(self) -> None:
        """End the run's span, if the run had started."""
        if self._span is not None:
            self._span.end()


def _nanoseconds(at: Instant) -> int:
    return round(at.utc * 1e9)


def check_telemetry(env: Mapping[str, str]) -> bool:
    """Tell whether the environment names a receiver.

    Raises:
        MigratorError: it does, and the packages are not there.
    """
    if env.get("OTEL_SDK_DISABLED", "").lower() == "true" or not any(env.get(name) for name in ENDPOINTS):
        return False
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.exporter") is None:
        raise MigratorError(f"{ENDPOINTS[0]} is set, which needs the extra otel (package opentelemetry-sdk)")
    return True


@contextmanager
def open_telemetry() -> Iterator[Telemetry]:
    """Report a run to the receiver that the environment names; what cannot be sent within two seconds is dropped."""
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
    telemetry = Telemetry(tracer, meter)
    try:
        yield telemetry
    finally:
        telemetry.close()
        for provider in (traces, metrics):
            with suppress(Exception):
                provider.force_flush(FLUSH_MS)
        with suppress(Exception):
            metrics.shutdown(timeout_millis=FLUSH_MS)
        with suppress(Exception):
            traces.shutdown()
