"""The share of a region in what an earlier one learned, from metrics that anybody may change."""

from __future__ import annotations

from math import inf, nan
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun

from flows.capacity import share_of
from tasks.inference.concurrency_estimator import CapacityEstimate

LEARNED = {"concurrency": 12, "latency": 0.25, "concurrent_regions": 2}


def left(metrics: dict[str, Any]) -> FlowRun:
    labels = {f"swath.{name}": value for name, value in metrics.items()}
    return FlowRun(flow_id=uuid4(), labels=labels)


@pytest.mark.parametrize(("regions", "share"), [(1, 12), (2, 12), (3, 8), (24, 1)])
def test_as_many_regions_make_as_many_calls_and_more_share_them(regions: int, share: float) -> None:
    assert share_of(left(LEARNED), regions) == CapacityEstimate(share, 0.25)


@pytest.mark.parametrize("value", [0, -3, nan, inf, "NaN", "many"], ids=str)
@pytest.mark.parametrize("name", LEARNED)
def test_metrics_that_are_no_positive_numbers_are_ignored(name: str, value: Any) -> None:
    assert share_of(left(LEARNED | {name: value}), 1) is None


@pytest.mark.parametrize("name", LEARNED)
def test_a_run_without_a_metric_tells_nothing(name: str) -> None:
    assert share_of(left({key: LEARNED[key] for key in LEARNED if key != name}), 1) is None
