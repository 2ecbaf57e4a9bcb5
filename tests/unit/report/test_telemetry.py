"""Telemetry is asked for by the environment alone, and its spans say what happened without what is secret."""

from collections.abc import Mapping

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from summaries import summary

from migrator.messages import Failure, FailureKind, Instant, Reply, Request, Stage
from migrator.report.telemetry import Telemetry, check_telemetry

SENT, RECEIVED = Instant(mono=1.0, utc=1_795_435_200.0), Instant(mono=1.25, utc=1_795_435_200.5)
REQUEST = Request(item=7, key="i-7", method="PATCH", url="https://api.example/v1/i-7?token=hidden", body=b"hidden")


@pytest.mark.parametrize(
    ("env", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_SDK_DISABLED": "True"}, False),
    ],
)
def test_the_environment_decides(env: Mapping[str, str], *, wanted: bool) -> None:
    """A receiver is told only where a variable names it, and the SDK is not switched off."""
    assert check_telemetry(env) is wanted


@pytest.mark.anyio
async def test_spans() -> None:
    """A run and each attempt have a span; an error has its status; no URL, key of a query or body is in any."""
    exporter = InMemorySpanExporter()
    tracing = TracerProvider()
    tracing.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry = Telemetry(tracing.get_tracer("test"), MeterProvider().get_meter("test"))

    await telemetry.started({"run": "rotate-1", "job": "rotate", "server": "https://api.example"})
    telemetry.attempt(REQUEST, Reply(status=200, headers={}, body=b"hidden", sent=SENT, received=RECEIVED))
    telemetry.attempt(
        REQUEST,
        Failure(
            kind=FailureKind.TIMEOUT, stage=Stage.READ, maybe_sent=True, message="hidden", sent=SENT, received=RECEIVED
        ),
    )
    await telemetry.ended(summary(exit_code=1))
    telemetry.close()

    good, bad, run = exporter.get_finished_spans()
    assert good.attributes is not None
    assert good.attributes["http.response.status_code"] == 200
    assert (good.start_time, good.end_time) == (1_795_435_200_000_000_000, 1_795_435_200_500_000_000)
    assert good.parent is not None
    assert good.parent.span_id == run.context.span_id
    assert (bad.attributes or {})["error.type"] == "timeout"
    assert [span.status.is_ok for span in (good, bad, run)] == [True, False, False]
    assert "hidden" not in "".join(span.to_json() for span in (good, bad, run))


def test_run_that_did_not_start() -> None:
    """A run that was refused before it started has no span to end."""
    Telemetry(TracerProvider().get_tracer("test"), MeterProvider().get_meter("test")).close()
