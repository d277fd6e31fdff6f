"""OpenTelemetry: metrics and spans to a collector, by OTLP over HTTP.

The collector and its headers are set by OpenTelemetry's own variables, such as
`OTEL_EXPORTER_OTLP_ENDPOINT`. The libraries are an extra, `otel`.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar, cast
from uuid import uuid4

from tasks.telemetry.catalogue import Metric, Namespace, snake_case
from tasks.telemetry.fields import current_fields
from tasks.telemetry.source import Key
from tasks.telemetry.totals import BOUNDS, Totals

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.metrics.export import AggregationTemporality
    from opentelemetry.sdk.metrics.export import Metric as Exported
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import Span, SpanProcessor

Value = TypeVar("Value")

logger = logging.getLogger(__name__)

_MISSING = (
    "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry's SDK is not installed, so nothing is "
    "sent: pip install 'swath[otel]'"
)
_INSTANCE = str(uuid4())
_UNITS = {"Seconds": "s", "Percent": "%", "Count": "{count}", "None": ""}


def wanted(signal: str) -> bool:
    """Whether a collector is set for a signal.

    Args:
        signal: METRICS or TRACES.
    """
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if os.environ.get(f"OTEL_{signal}_EXPORTER", "").lower() == "none":
        return False
    names = "OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT"
    return any(map(os.environ.get, names))


def _resource() -> Resource:
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - an extra

    own = {"service.instance.id": _INSTANCE}
    if not os.environ.get("OTEL_SERVICE_NAME"):
        own["service.name"] = "swath"
    return Resource.create(own)


def metric_exporter() -> Callable[[Totals], None] | None:
    """What sends all that this process has counted; None without the extra."""
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import (  # noqa: PLC0415 - an extra
            OTLPMetricExporter,
        )
        from opentelemetry.sdk.metrics.export import (  # noqa: PLC0415 - likewise
            AggregationTemporality,
            MetricsData,
            ResourceMetrics,
            ScopeMetrics,
        )
        from opentelemetry.sdk.util.instrumentation import (  # noqa: PLC0415 - likewise
            InstrumentationScope,
        )
    except ImportError:
        logger.warning(_MISSING)
        return None
    exporter, resource, began = OTLPMetricExporter(), _resource(), time.time_ns()
    scope = InstrumentationScope("swath")

    def export(totals: Totals) -> None:
        metrics = _exported(totals, began, AggregationTemporality.CUMULATIVE)
        if metrics:
            scopes = [ScopeMetrics(scope, metrics, "")]
            exporter.export(MetricsData([ResourceMetrics(resource, scopes, "")]))

    return export


def _exported(totals: Totals, began: int, temporality: AggregationTemporality) -> list[Exported]:
    """Totals as the metrics of OpenTelemetry's SDK."""
    from opentelemetry.sdk.metrics.export import (  # noqa: PLC0415 - an extra
        Gauge,
        Histogram,
        HistogramDataPoint,
        NumberDataPoint,
        Sum,
    )
    from opentelemetry.sdk.metrics.export import Metric as Exported  # noqa: PLC0415 - likewise

    now = time.time_ns()
    no_bound = cast("float", None)  # OTLP's least and greatest value are optional
    data: dict[Metric, Sum | Gauge | Histogram] = {}
    for metric, found in _by_metric(totals.counters).items():
        points = [NumberDataPoint(each, began, now, value) for each, value in found]
        data[metric] = Sum(points, temporality, is_monotonic=True)
    for metric, found in _by_metric(totals.gauges).items():
        data[metric] = Gauge([NumberDataPoint(each, began, now, value) for each, value in found])
    for metric, times in _by_metric(totals.histograms).items():
        histograms = [
            HistogramDataPoint(
                each, began, now, sum(of.counts), of.total, of.counts, BOUNDS, no_bound, no_bound
            )
            for each, of in times
        ]
        data[metric] = Histogram(histograms, temporality)
    return [
        Exported(otel_name(metric), metric.about, _UNITS[metric.unit], values)
        for metric, values in data.items()
    ]


def otel_name(metric: Metric) -> str:
    """The name of a metric in OpenTelemetry: from which a collector makes the one in Prometheus."""
    prefix = "osml" if metric.namespace is Namespace.OSML else "swath"
    area = "_" + metric.suffix if metric.suffix and metric.unit == "None" else ""
    return f"{prefix}.{snake_case(metric.name)}{area}"


def _by_metric(
    found: Mapping[Key, Value],
) -> dict[Metric, list[tuple[dict[str, str], Value]]]:
    grouped: dict[Metric, list[tuple[dict[str, str], Value]]] = {}
    for (metric, dimensions), value in found.items():
        names = {snake_case(name): text for name, text in dimensions}
        grouped.setdefault(metric, []).append((names, value))
    return grouped


def start_tracing() -> Callable[[], None] | None:
    """Send spans of this process to the collector: Swath's own, and those of Prefect's runs.

    Returns:
        Sends those that wait; None without the extra, or if another part of the program has set up
        tracing.
    """
    try:
        from opentelemetry import trace  # noqa: PLC0415 - an extra
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - likewise
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - likewise
    except ImportError:
        if not wanted("METRICS"):
            logger.warning(_MISSING)
        return None
    if isinstance(trace.get_tracer_provider(), TracerProvider):
        return None
    provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
    provider.add_span_processor(_named_processor())
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return lambda: cast("None", provider.force_flush())


def _named_processor() -> SpanProcessor:
    """What gives each span the fields of the log lines as attributes, such as `swath.job`."""
    from opentelemetry.sdk import trace  # noqa: PLC0415 - an extra

    class Named(trace.SpanProcessor):
        def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002
            for name, value in current_fields().items():
                span.set_attribute(f"swath.{name}", value)

    return Named()
