"""Lines in the log that CloudWatch turns into metrics: the embedded metric format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from tasks.telemetry.catalogue import Kind, Namespace, Operation
from tasks.telemetry.source import Dimensions, Series

MOST_VALUES = 100
"""Values of a metric in one line."""

_MILLISECONDS = ("Operation", Operation.SCHEDULING.value)
"""The operation whose duration OSML gives in milliseconds."""


def lines(series: Iterable[Series], milliseconds: int) -> Iterator[bytes]:
    """The lines for the values of a process, with a line break each.

    A series of more than a hundred values takes several lines. So averages, percentiles, sums and
    numbers of samples are exact.

    Args:
        series: The values since the last lines.
        milliseconds: The time to which they belong, since 1970.
    """
    groups: dict[tuple[Namespace, Dimensions], list[Series]] = {}
    for each in series:
        groups.setdefault((each.metric.namespace, each.dimensions), []).append(each)
    for (namespace, dimensions), members in groups.items():
        parts = {each.metric.name: _parts(each) for each in members}
        units = {each.metric.name: _unit(each) for each in members}
        for place in range(max(map(len, parts.values()))):
            here = {name: found[place] for name, found in parts.items() if place < len(found)}
            directive = {
                "Namespace": namespace.value,
                "Dimensions": [[name for name, _ in dimensions]],
                "Metrics": [{"Name": name, "Unit": units[name]} for name in here],
            }
            metadata = {"Timestamp": milliseconds, "CloudWatchMetrics": [directive]}
            document: dict[str, Any] = {"_aws": metadata, **dict(dimensions), **here}
            yield orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)


def _unit(series: Series) -> str:
    return "Milliseconds" if _is_scheduling(series) else series.metric.unit


def _parts(series: Series) -> list[float | list[float]]:
    """The values of a series, as many as a line may have in each; a counter has one number."""
    if series.metric.kind is not Kind.DURATION:
        return [series.values[0]]
    factor = 1000 if _is_scheduling(series) else 1
    values = [float(f"{value * factor:.5g}") for value in series.values]
    return [values[at : at + MOST_VALUES] for at in range(0, len(values), MOST_VALUES)]


def _is_scheduling(series: Series) -> bool:
    return series.metric.kind is Kind.DURATION and _MILLISECONDS in series.dimensions
