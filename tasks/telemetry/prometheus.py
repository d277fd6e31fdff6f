"""Totals in Prometheus's text format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from tasks.telemetry.catalogue import METRICS, Kind, Metric, Namespace, snake_case
from tasks.telemetry.source import Key
from tasks.telemetry.totals import BOUNDS, Histogram, Totals

Value = TypeVar("Value")


def exposition(totals: Totals) -> bytes:
    """Totals in Prometheus's text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(totals))
    return generate_latest(registry)


def name_of(metric: Metric) -> str:
    """The name of a metric in Prometheus, without the `_total` of counters."""
    prefix = "osml" if metric.namespace is Namespace.OSML else "swath"
    return "_".join(filter(None, [prefix, snake_case(metric.name), metric.suffix]))


class _Collector(Collector):
    """Gives totals to prometheus_client."""

    def __init__(self, totals: Totals) -> None:
        self._totals = totals

    def collect(self) -> Iterator[Family]:
        """The families of all metrics that have a value."""
        for metric in METRICS:
            if (family := self._family(metric)).samples:
                yield family

    def _family(self, metric: Metric) -> Family:
        name, labels = name_of(metric), [snake_case(each) for each in metric.dimensions]
        if metric.kind is Kind.DURATION:
            durations = HistogramMetricFamily(name, metric.about, labels=labels)
            for key, histogram in _of(metric, self._totals.histograms):
                durations.add_metric(_values(key), _buckets(histogram), histogram.total)
            return durations
        if metric.kind is Kind.COUNTER:
            counters = CounterMetricFamily(name, metric.about, labels=labels)
            for key, amount in _of(metric, self._totals.counters):
                counters.add_metric(_values(key), amount)
            return counters
        gauges = GaugeMetricFamily(name, metric.about, labels=labels)
        for key, value in _of(metric, self._totals.gauges):
            gauges.add_metric(_values(key), value)
        return gauges


def _of(metric: Metric, found: Mapping[Key, Value]) -> Iterator[tuple[Key, Value]]:
    return ((key, value) for key, value in found.items() if key[0] is metric)


def _values(key: Key) -> list[str]:
    metric, dimensions = key
    given = dict(dimensions)
    return [given.get(name, "") for name in metric.dimensions]


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    so_far = 0
    for bound, count in zip([*map(str, BOUNDS), "+Inf"], histogram.counts, strict=True):
        so_far += count
        found.append((bound, so_far))
    return found
