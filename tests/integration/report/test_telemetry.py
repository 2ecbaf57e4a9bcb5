"""A run is told of to a real OTLP receiver: a span for it, one for each attempt, and nothing secret."""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from conftest import MIGRATOR, Finished, Workplace
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from sandboxes import SECRET, SandboxProcess


@dataclass
class Received:
    """What a receiver was told."""

    url: str = ""
    spans: list[Span] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    raw: list[bytes] = field(default_factory=list)


@contextmanager
def receiver() -> Iterator[Received]:
    """Serve an OTLP receiver over HTTP (opentelemetry.io/docs/specs/otlp, "OTLP/HTTP")."""
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.raw.append(body)
            if self.path == "/v1/traces":
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    for scope in resource.scope_spans:
                        received.spans += scope.spans
            else:
                for told in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                    for one in told.scope_metrics:
                        for metric in one.metrics:
                            for point in metric.sum.data_points:
                                names = [f"{pair.key}={pair.value.string_value}" for pair in point.attributes]
                                received.metrics[" ".join([metric.name, *names])] = point.as_int or point.as_double
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class names it
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        received.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield received
        finally:
            server.shutdown()


def run(workplace: Workplace, sandbox: SandboxProcess, endpoint: str) -> Finished:
    """Run the job and tell a receiver of it."""
    env = workplace.env | {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
    return workplace.run("run", "job.json", "--base-url", sandbox.url, env=env)


def value(span: Span, name: str) -> object:
    """Return an attribute of a span."""
    (found,) = [pair.value for pair in span.attributes if pair.key == name]
    return found.int_value or found.string_value


def test_spans_and_metrics(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """There is one span for the run and one for each attempt beneath it, retries included."""
    workplace.write_job(5)
    sandbox.order({"match": "i-00003", "fault": "status", "status": 503})

    with receiver() as received:
        done = run(workplace, sandbox, received.url)

    assert done.code == 0, done.err
    (whole,) = [span for span in received.spans if span.name == "migrator run"]
    attempts = [span for span in received.spans if span.name == "PATCH"]
    assert len(attempts) == 6
    assert {span.parent_span_id for span in attempts} == {whole.span_id}
    assert {span.trace_id for span in attempts} == {whole.trace_id}
    (failed,) = [span for span in attempts if span.status.code == Status.STATUS_CODE_ERROR]
    assert (value(failed, "http.response.status_code"), value(failed, "migrator.key")) == (503, "i-00003")
    assert received.metrics["migrator.items migrator.status=succeeded"] == 5
    assert not any(text in body for body in received.raw for text in (b"new-secret", SECRET.encode()))


def test_receiver_that_is_down(workplace: Workplace, sandbox: SandboxProcess) -> None:
    """A receiver that is not there changes nothing about a run, and is not complained of."""
    workplace.write_job(3)

    done = run(workplace, sandbox, "http://127.0.0.1:9")

    assert done.code == 0
    assert "opentelemetry" not in done.err.lower()


def test_nothing_is_imported_unasked() -> None:
    """Without a receiver in the environment the packages are not even imported."""
    script = "import sys, migrator.run.runner; sys.exit('opentelemetry' in sys.modules)"
    assert subprocess.run([MIGRATOR[0], "-c", script], check=False).returncode == 0
