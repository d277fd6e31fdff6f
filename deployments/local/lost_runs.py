"""The runs whose processes ended with the worker of the local stack, as all of them do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Any

import httpx

from deployments.local.pool import WORK_POOL
from flows.labels import HOOKED

_IMAGE = "image/image-local"
_PAGE = 200  # rows in one answer of Prefect's server, at the most
_REASON = "the worker and its processes had ended"


def settle_lost_runs(
    api_url: str, before: datetime, *, stopped: bool, headers: Mapping[str, str] | None = None
) -> None:
    """Give the runs of a worker that has ended the states that are true, which frees their places.

    Runs of images that it had taken but not begun are scheduled again. Those that were being
    cancelled are Cancelled. The others are Crashed; the sensor starts a crashed image again, as
    often as `SWATH_IMAGE_ATTEMPTS` allows.

    Args:
        api_url: URL of the API of a Prefect server.
        before: When the worker had ended; runs that changed their state later are of the next one.
        stopped: Whether it ended with its stack. Then images that had begun are scheduled again
            too, as often as the stack is stopped.
        headers: Those of each call, such as the server's password.

    Raises:
        httpx.HTTPError: Prefect does not answer.
    """
    with httpx.Client(base_url=api_url, headers=headers, timeout=10, trust_env=False) as api:
        image = _image_deployment(api)
        for run in _lost(api, before):
            again = run["deployment_id"] == image and (stopped or run["state"]["type"] == "PENDING")
            change = {"state": _true_state(run, again=again), "force": True}
            url = f"/flow_runs/{run['id']}"
            state = api.post(f"{url}/set_state", json=change).raise_for_status().json()["state"]
            if run["deployment_id"] == image and state["type"] == "CRASHED":
                # no worker is left that could set the state again: the sensor need not wait for it
                api.patch(f"{url}/labels", json={HOOKED: state["id"]}).raise_for_status()


def _true_state(run: dict[str, Any], *, again: bool) -> dict[str, Any]:
    """The state of a run whose process has ended.

    Args:
        run: The run.
        again: Whether it is started again.
    """
    if run["state"]["type"] == "CANCELLING":
        return {"type": "CANCELLED", "message": _REASON}
    if again:
        due = {"scheduled_time": datetime.now(UTC).isoformat()}
        return {"type": "SCHEDULED", "message": _REASON, "state_details": due}
    return {"type": "CRASHED", "message": _REASON}


def _lost(api: httpx.Client, before: datetime) -> list[dict[str, Any]]:
    """The runs that a worker had before a moment and that have not ended, and their children."""
    of_worker = [
        run
        for run in _unfinished(api, pool=WORK_POOL)
        if datetime.fromisoformat(run["state"]["timestamp"]) < before
    ]
    ids = [run["id"] for run in of_worker]
    children = _unfinished(api, parents=ids) if ids else ()
    return list({run["id"]: run for run in (*of_worker, *children)}.values())


def _unfinished(
    api: httpx.Client, *, pool: str | None = None, parents: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """The runs of a work pool, or of some parents, that are taken, running, or being cancelled."""
    runs: dict[str, Any] = {"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}}
    if parents:
        runs["parent_flow_run_id"] = {"any_": list(parents)}
    for offset in count(0, _PAGE):
        query = {
            "flow_runs": runs,
            "work_pools": {"name": {"any_": [pool]}} if pool else None,
            "limit": _PAGE,
            "offset": offset,
            "sort": "ID_DESC",
        }
        page = api.post("/flow_runs/filter", json=query).raise_for_status().json()
        yield from page
        if len(page) < _PAGE:
            return


def _image_deployment(api: httpx.Client) -> str:
    """The id of the deployment of images; empty if there is none."""
    answer = api.get(f"/deployments/name/{_IMAGE}")
    if answer.status_code == httpx.codes.NOT_FOUND:
        return ""
    return str(answer.raise_for_status().json()["id"])
