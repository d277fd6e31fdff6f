"""The one source of metrics: what a process has counted and timed since it was last asked."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isfinite
from threading import Lock

from tasks.telemetry.catalogue import Kind, Metric

logger = logging.getLogger(__name__)

Dimensions = tuple[tuple[str, str], ...]
"""Names and values of the dimensions of a series, in the order in which they were given."""

Key = tuple[Metric, Dimensions]
"""What identifies a series: its metric and its dimensions."""

_LONGEST_VALUE = 250  # characters of the value of a dimension; CloudWatch allows 1,024


@dataclass(frozen=True, slots=True)
class Series:
    """The values of one metric with one set of dimensions.

    Attributes:
        metric: The metric.
        dimensions: Its dimensions.
        values: Of a duration, all values in seconds; of a counter, their sum; of a gauge, the last.
    """

    metric: Metric
    dimensions: Dimensions = ()
    values: list[float] = field(default_factory=list)


class Source:
    """Takes values from all threads of a process.

    Attributes:
        on: Whether anybody asks for them; if not, they are dropped.
    """

    def __init__(self) -> None:
        self.on = False
        self.reset()

    def reset(self) -> None:
        """Forget all values and gauges."""
        self._lock = Lock()
        self._series: dict[Key, list[float]] = {}
        self._gauges: dict[object, tuple[Metric, Dimensions, Callable[[], float | None]]] = {}

    def add(self, metric: Metric, amount: float = 1, **dimensions: str) -> None:
        """Add to a counter."""
        if amount:
            self.record((metric, tuple(dimensions.items())), [amount])

    def observe(self, metric: Metric, *seconds: float, **dimensions: str) -> None:
        """Add values of a duration."""
        self.record((metric, tuple(dimensions.items())), seconds)

    def record(self, key: Key, values: Sequence[float]) -> None:
        """Add values of a counter or a duration.

        Args:
            key: The metric and its dimensions.
            values: The values; NaN and infinity are dropped, as no way out has a form for them.
        """
        if self.on:
            with self._lock:
                self._series.setdefault(key, []).extend(filter(isfinite, values))

    @contextmanager
    def gauge(
        self, metric: Metric, read: Callable[[], float | None], **dimensions: str
    ) -> Iterator[None]:
        """While the context is open, read a gauge whenever values are asked for.

        Args:
            metric: The gauge.
            read: Returns its value, or None if there is none at the moment.
            dimensions: Its dimensions.
        """
        key = object()
        with self._lock:
            self._gauges[key] = metric, tuple(dimensions.items()), read
        try:
            yield
        finally:
            with self._lock:
                self._gauges.pop(key, None)

    def drain(self) -> list[Series]:
        """Take all values since the last call."""
        with self._lock:
            taken, self._series = self._series, {}
            gauges = list(self._gauges.values())
        for metric, dimensions, read in gauges:
            if (value := _read(metric, read)) is not None:
                values = taken.setdefault((metric, dimensions), [])
                values[:] = [combined(metric, [*values, value])]
        return [
            Series(
                metric,
                tuple((name, _dimension_value(value)) for name, value in dimensions),
                values if metric.kind is Kind.DURATION else [combined(metric, values)],
            )
            for (metric, dimensions), values in taken.items()
            if values
        ]


def _read(metric: Metric, read: Callable[[], float | None]) -> float | None:
    """The value of a gauge; an error is logged, as it affects no other metric."""
    try:
        value = read()
    except Exception as error:
        logger.warning("The metric %s is not read: %r", metric.name, error)
        return None
    return value if value is not None and isfinite(value) else None


def combined(metric: Metric, values: Sequence[float]) -> float:
    """The value of a counter or a gauge that has several, at one moment."""
    return max(values) if metric.kind is Kind.GREATEST else sum(values)


def _dimension_value(text: str) -> str:
    """The value of a dimension that CloudWatch accepts: printable ASCII, no colon in front."""
    plain = text.encode("ascii", "replace").decode()[:_LONGEST_VALUE]
    plain = "".join(each if each.isprintable() else " " for each in plain)
    return " ".join(plain.split()).lstrip(":") or "unknown"


SOURCE = Source()
"""The source of this process."""

os.register_at_fork(after_in_child=SOURCE.reset)  # its values are the parent's to tell
