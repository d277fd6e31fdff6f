"""Reads lines of CloudWatch's embedded metric format as CloudWatch does, and evaluates searches."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

_UNITS = {
    "Seconds", "Microseconds", "Milliseconds", "Bytes", "Kilobytes", "Megabytes", "Percent",
    "Count", "None",
}  # fmt: skip


@dataclass(frozen=True)
class Point:
    """The values of a metric in one line."""

    namespace: str
    name: str
    dimensions: dict[str, str]
    unit: str
    values: list[float]


def points(text: str | bytes) -> list[Point]:
    """All values in a log; each line that has any must follow the specification."""
    found: list[Point] = []
    for line in text.splitlines():
        if b"_aws" in (line if isinstance(line, bytes) else line.encode()):
            found += _points(json.loads(line), len(line))
    return found


def _points(document: dict[str, Any], size: int) -> Iterable[Point]:
    assert size < 256 * 1024
    assert isinstance(document["_aws"]["Timestamp"], int)
    for directive in document["_aws"]["CloudWatchMetrics"]:
        assert directive.keys() == {"Namespace", "Dimensions", "Metrics"}
        assert 1 <= len(directive["Namespace"]) <= 255
        (names,) = directive["Dimensions"]
        assert len(names) <= 30
        assert len(directive["Metrics"]) <= 100
        dimensions = {name: document[name] for name in names}
        for value in dimensions.values():
            assert isinstance(value, str)
            assert value.isascii()
            assert 1 <= len(value.strip()) <= 1024
        for metric in directive["Metrics"]:
            assert metric.keys() == {"Name", "Unit"}
            assert 1 <= len(metric["Name"]) <= 255
            assert metric["Unit"] in _UNITS
            target = document[metric["Name"]]
            values = target if isinstance(target, list) else [target]
            assert 1 <= len(values) <= 100
            assert all(isinstance(value, int | float) for value in values)
            yield Point(directive["Namespace"], metric["Name"], dimensions, metric["Unit"], values)


def search(found: Iterable[Point], expression: str) -> dict[tuple[str, ...], float]:
    """The series that a CloudWatch `SEARCH('{…} terms', 'statistic', …)` finds, each as one value.

    Args:
        found: The values of a log.
        expression: As in a dashboard; a function around it, such as SUM, is left out.
    """
    match = re.search(r"SEARCH\('\{(.*?)\}\s+(.*?)',\s*'(\w+)'", expression)
    assert match, expression
    (namespace, *names), terms, statistic = match[1].split(", "), match[2].split(), match[3]
    series: dict[tuple[str, ...], list[float]] = {}
    for point in found:
        values = tuple(point.dimensions[name] for name in sorted(point.dimensions))
        words = {point.name, *values}
        same = point.namespace == namespace and sorted(names) == sorted(point.dimensions)
        if same and all(term in words for term in terms):
            series.setdefault(values, []).extend(point.values)
    statistics = {"Sum": sum, "Average": lambda values: sum(values) / len(values)}
    return {key: statistics[statistic](values) for key, values in series.items()}
