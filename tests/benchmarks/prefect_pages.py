"""The requests that Prefect's pages send, as a browser was seen to send them (Prefect 3.9.1)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

CONNECTIONS = 6  # that a browser opens to one server
ENDED, AT_WORK = ["COMPLETED", "FAILED", "CRASHED"], ["RUNNING", "PENDING", "CANCELLING"]
POOL = "work_pools/swath"

Call = tuple[str, dict[str, Any] | None]
"""Path of a request and its JSON; None for a GET."""


@dataclass(frozen=True)
class Opened:
    """What it took to open a page once.

    Attributes:
        seconds: Until all its requests were answered.
        requests: Seconds of each request by its path.
        bytes: Of all answers.
    """

    seconds: float
    requests: list[tuple[str, float]]
    bytes: int


def _between(days: int) -> dict[str, str]:
    now = datetime.now(UTC).replace(microsecond=0)
    return {"before_": now.isoformat(), "after_": (now - timedelta(days=days)).isoformat()}


def _state(*types: str) -> dict[str, Any]:
    return {"state": {"type": {"any_": [*types]}}}


def dashboard() -> list[Call]:
    """The page that opens first: the bars of runs by state, of tasks, and of the work pool."""
    times = _between(1)
    expected = {"expected_start_time": times}
    counted = [
        ["CANCELLED"],
        ["FAILED", "CRASHED"],
        AT_WORK,
        ["COMPLETED"],
        ["SCHEDULED", "PAUSED"],
    ]
    tasks = {"start_time": times, "subflow_runs": {"exists_": False}}
    pool = {"work_pools": {"name": {"any_": ["swath"]}}}
    late = {"state": {"name": {"any_": ["late"]}}} | expected
    history = {"history_start": times["after_"], "history_end": times["before_"]}
    return [
        *[("admin/settings", None), ("health", None)],
        *[("flow_runs/count", {}), ("flow_runs/filter", {})],
        ("flow_runs/count", {"flow_runs": expected}),
        *[("flow_runs/count", {"flow_runs": _state(*types) | expected}) for types in counted],
        ("flows/paginate", {"flow_runs": _state("FAILED", "CRASHED") | expected}),
        *[
            ("task_runs/count", {"task_runs": _state(*types) | tasks})
            for types in ([*ENDED, "RUNNING"], ["COMPLETED"], ["FAILED", "CRASHED"], ["RUNNING"])
        ],
        (
            "task_runs/history",
            {"history_interval_seconds": 4320, "task_runs": {"start_time": times}} | history,
        ),
        *[("work_pools/filter", {}), (POOL, None), (f"{POOL}/workers/filter", {})],
        (f"{POOL}/queues/filter", {"limit": 51}),
        *[
            ("flow_runs/count", {"flow_runs": runs} | pool)
            for runs in (_state(*ENDED) | expected, _state("COMPLETED") | expected, late)
        ],
        ("flow_runs/lateness", {"flow_runs": expected} | pool),
        ("flow_runs/filter", {"flow_runs": expected, "sort": "START_TIME_DESC", "limit": 37}),
        (
            "flow_runs/filter",
            {"flow_runs": expected, "sort": "START_TIME_DESC", "limit": 14} | pool,
        ),
    ]


def runs() -> list[Call]:
    """The page of runs with the saved filter *Jobs*, which `swath up` prints the address of."""
    image, times = {"tags": {"all_": ["image"]}}, _between(7)
    chosen = {"flow_runs": image | {"start_time": times}, "sort": "START_TIME_DESC", "limit": 100}
    tasks = {"task_runs": image | {"expected_start_time": times}, "limit": 100, "page": 1}
    return [
        *[("admin/settings", None), ("health", None)],
        *[("flow_runs/count", {}), ("task_runs/count", {})],
        ("ui/flow_runs/history", chosen | {"offset": 0}),
        ("flow_runs/paginate", chosen | {"page": 1}),
        ("task_runs/paginate", tasks | {"sort": "EXPECTED_START_TIME_DESC"}),
        *[("saved_searches/filter", {}), ("flows/paginate", {"limit": 100})],
        *[("deployments/paginate", {"limit": 100}), ("work_pools/filter", {})],
        *[("flow_runs/filter", {}), (POOL, None), (f"{POOL}/queues/images", None)],
    ]


def run(run_id: str) -> list[Call]:
    """The page of an image's run: its parameters, log, tasks and events."""
    own = {"id": {"any_": [run_id]}}
    unfinished = _state("RUNNING", "SCHEDULED", "PENDING", "PAUSED")
    occurred = {"since": _between(1)["after_"], "until": _between(1)["before_"]}
    resource = {"any_resource": {"id": [f"prefect.flow-run.{run_id}"]}}
    return [
        *[("admin/settings", None), ("health", None)],
        *[(f"flow_runs/{run_id}", None), (POOL, None), (f"{POOL}/queues/images", None)],
        ("task_runs/count", {"flow_runs": own, "task_runs": {"subflow_runs": {"exists_": False}}}),
        (
            "flow_runs/filter",
            {"flow_runs": unfinished | {"parent_flow_run_id": {"any_": [run_id]}}},
        ),
        ("task_runs/count", {"flow_runs": own}),
        (
            "logs/filter",
            {"logs": {"flow_run_id": {"any_": [run_id]}}, "sort": "TIMESTAMP_ASC", "limit": 200},
        ),
        (f"flow_runs/{run_id}/graph-v2", None),
        ("events/filter", {"filter": {"occurred": occurred} | resource}),
        (f"flow_runs/{run_id}", None),
    ]


def open_page(api: httpx.Client, calls: Sequence[Call]) -> Opened:
    """Send the requests of a page, as many at a time as a browser does."""

    def send(call: Call) -> tuple[str, float, int]:
        path, body = call
        began = time.perf_counter()
        answer = api.get(path) if body is None else api.post(path, json=body)
        answer.raise_for_status()
        return path, time.perf_counter() - began, len(answer.content)

    began = time.perf_counter()
    with ThreadPoolExecutor(CONNECTIONS) as browser:
        answers = list(browser.map(send, calls))
    seconds = time.perf_counter() - began
    return Opened(seconds, [answer[:2] for answer in answers], sum(answer[2] for answer in answers))


PAGES: dict[str, Callable[[str], list[Call]]] = {
    "dashboard": lambda _: dashboard(),
    "runs": lambda _: runs(),
    "run": run,
}
"""The requests of each page, by the id of an image's run."""
