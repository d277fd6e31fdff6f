"""A collector of OpenTelemetry: receives OTLP over HTTP, and decodes it."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class ReceivedSpan:
    """A span as it came."""

    name: str
    trace: bytes
    id: bytes
    parent: bytes
    attributes: dict[str, Any]


@dataclass
class Collector:
    """What was received so far.

    Attributes:
        url: For `OTEL_EXPORTER_OTLP_ENDPOINT`.
        spans: All spans.
        values: Of each metric, the value by its attributes: a sum, or the number of times.
    """

    url: str
    spans: list[ReceivedSpan] = field(default_factory=list)
    values: dict[str, dict[tuple[tuple[str, str], ...], float]] = field(default_factory=dict)

    def named(self, name: str) -> list[ReceivedSpan]:
        """The spans of a name."""
        return [span for span in self.spans if span.name == name]

    def receive_spans(self, body: bytes) -> None:
        """Take a request with spans."""
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            assert _attributes(resource.resource)["service.name"] == "swath"
            for scope in resource.scope_spans:
                for span in scope.spans:
                    ids = span.trace_id, span.span_id, span.parent_span_id
                    self.spans.append(ReceivedSpan(span.name, *ids, _attributes(span)))

    def receive_metrics(self, body: bytes) -> None:
        """Take a request with metrics."""
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            assert _attributes(resource.resource)["service.name"] == "swath"
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    found = self.values.setdefault(metric.name, {})
                    for point in getattr(metric, metric.WhichOneof("data")).data_points:
                        key = tuple(sorted(_attributes(point).items()))
                        times = metric.WhichOneof("data") == "histogram"
                        found[key] = point.count if times else point.as_double or point.as_int


def _attributes(message: Any) -> dict[str, Any]:
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value")) for each in message.attributes
    }


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector while the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            take = {"/v1/traces": collector.receive_spans, "/v1/metrics": collector.receive_metrics}
            take[self.path](body)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_port}")
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield collector
        finally:
            server.shutdown()
