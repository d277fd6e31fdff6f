"""What runs record in Prefect: their metrics as labels, and whole answers of more than a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from math import isfinite
from typing import TypeVar
from uuid import UUID

import httpx
from prefect import get_client, get_run_logger
from prefect.client.schemas.objects import FlowRun
from prefect.runtime import flow_run
from prefect.types import KeyValueLabels

_PREFIX = "swath."
_PAGE = 200  # rows in one answer of Prefect's server, at the most

T = TypeVar("T")


def write_metrics(metrics: Mapping[str, float]) -> None:
    """Write metrics to the labels of the current flow run.

    An error of Prefect is logged; it does not fail the run.
    """
    labels: KeyValueLabels = {_PREFIX + name: value for name, value in metrics.items()}
    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run_labels(UUID(flow_run.id), labels)
    except httpx.HTTPError as error:
        get_run_logger().warning("The metrics of this run cannot be stored: %r", error)


def read_metric(run: FlowRun, name: str) -> float | None:
    """Read a metric from a run's labels; None if it is missing, negative or not a finite number."""
    value = run.labels.get(_PREFIX + name)
    if isinstance(value, int | float) and isfinite(value) and value >= 0:
        return float(value)
    return None


def read_all(query: Callable[..., list[T]]) -> list[T]:
    """Read all rows that a query finds, page by page.

    Args:
        query: A query of Prefect's client, which takes a `limit` and an `offset`.
    """
    rows: list[T] = []
    for offset in count(0, _PAGE):
        page = query(limit=_PAGE, offset=offset)
        rows += page
        if len(page) < _PAGE:
            break
    return rows
