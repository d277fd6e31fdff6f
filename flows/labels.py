"""Figures that a run leaves on itself, for others to read: labels of its flow run in Prefect."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from uuid import UUID

import httpx
from prefect import get_client, get_run_logger
from prefect.client.schemas.objects import FlowRun
from prefect.runtime import flow_run
from prefect.types import KeyValueLabels

_PREFIX = "swath."


def leave(figures: Mapping[str, float]) -> None:
    """Leave figures on the current run; that Prefect does not take them costs no run."""
    labels: KeyValueLabels = {_PREFIX + name: figure for name, figure in figures.items()}
    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run_labels(UUID(flow_run.id), labels)
    except httpx.HTTPError as error:
        get_run_logger().warning("What this run took cannot be kept: %r", error)


def left(run: FlowRun, name: str) -> float | None:
    """A figure that a run left; None where it left none, or nonsense."""
    figure = run.labels.get(_PREFIX + name)
    if isinstance(figure, int | float) and isfinite(figure) and figure >= 0:
        return float(figure)
    return None
