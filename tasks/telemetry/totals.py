"""What one or several processes have counted: sums, and histograms of times."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from tasks.telemetry.catalogue import BY_NAME, Kind
from tasks.telemetry.source import Dimensions, Key, Series, combined

BOUNDS = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0,
    3600.0,
)  # fmt: skip
"""Upper bounds of a histogram's buckets in seconds; one more bucket has no bound."""


@dataclass(slots=True)
class Histogram:
    """How many times a duration fell into each bucket.

    Attributes:
        counts: Number of values in each bucket, of `BOUNDS` and above.
        total: Sum of the values in seconds.
    """

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    total: float = 0.0

    def observe(self, values: Iterable[float]) -> None:
        """Add values in seconds."""
        for value in values:
            self.counts[bisect_left(BOUNDS, value)] += 1
            self.total += value

    def merge(self, other: Histogram) -> None:
        """Add the values of another one."""
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.total += other.total


@dataclass(slots=True)
class Totals:
    """Sums, histograms, and the last values of gauges.

    Attributes:
        counters: Sum of each counter.
        gauges: Last value of each gauge.
        histograms: Histogram of each duration.
    """

    counters: dict[Key, float] = field(default_factory=dict)
    gauges: dict[Key, float] = field(default_factory=dict)
    histograms: dict[Key, Histogram] = field(default_factory=dict)

    def add(self, series: Iterable[Series]) -> None:
        """Add what was drained from a source; gauges that it has no value of are gone."""
        self.gauges = {}
        for each in series:
            key = each.metric, each.dimensions
            match each.metric.kind:
                case Kind.DURATION:
                    self.histograms.setdefault(key, Histogram()).observe(each.values)
                case Kind.COUNTER:
                    self.counters[key] = self.counters.get(key, 0.0) + each.values[0]
                case _:
                    self.gauges[key] = each.values[0]

    def merge(self, other: Totals) -> None:
        """Add the totals of another process."""
        for key, amount in other.counters.items():
            self.counters[key] = self.counters.get(key, 0.0) + amount
        for key, histogram in other.histograms.items():
            self.histograms.setdefault(key, Histogram()).merge(histogram)
        for key, value in other.gauges.items():
            present = [self.gauges[key]] if key in self.gauges else []
            self.gauges[key] = combined(key[0], [*present, value])

    def to_json(self) -> bytes:
        """All of it as JSON."""
        return orjson.dumps(
            {
                "counters": [[*_names(key), value] for key, value in self.counters.items()],
                "gauges": [[*_names(key), value] for key, value in self.gauges.items()],
                "histograms": [
                    [*_names(key), [each.counts, each.total]]
                    for key, each in self.histograms.items()
                ],
            }
        )

    @classmethod
    def from_json(cls, text: bytes) -> Totals:
        """The totals of which `to_json` made a text; metrics that are not known are left out.

        Raises:
            ValueError: It is no such text.
        """
        try:
            found = orjson.loads(text)
            return cls(
                _keyed(found["counters"]),
                _keyed(found["gauges"]),
                {key: Histogram(*value) for key, value in _keyed(found["histograms"]).items()},
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"these are no totals of metrics: {error!r}") from error


def _names(key: Key) -> tuple[str, str, Dimensions]:
    metric, dimensions = key
    return metric.namespace.value, metric.name, dimensions


def _keyed(rows: list[Any]) -> dict[Key, Any]:
    return {
        (BY_NAME[namespace, name], tuple((key, value) for key, value in dimensions)): found
        for namespace, name, dimensions, found in rows
        if (namespace, name) in BY_NAME
    }
