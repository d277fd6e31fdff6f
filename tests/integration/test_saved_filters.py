"""The filters of jobs, as saved on a Prefect server."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx
from prefect import flow, get_client
from prefect.client.schemas.objects import State
from prefect.states import Completed, Crashed, Failed

from deployments.saved_filters import INCOMPLETE_JOBS, JOBS, address, save_filters


@flow
def any_flow() -> None:
    """One whose runs have the tags and states of others."""


def saved(api_url: str) -> dict[str, dict[str, Any]]:
    """The saved filters as the runs page reads them: by name, the values of properties."""
    found = httpx.post(f"{api_url}/saved_searches/filter", json={}, trust_env=False).json()
    return {
        each["name"]: {line["property"]: line["value"] for line in each["filters"]}
        for each in found
    }


def selected(api_url: str, query: dict[str, Any]) -> set[str]:
    """Names of the runs that the page lists: it asks for tags and for names of states."""
    runs: dict[str, Any] = {"tags": {"all_": query["tag"]}}
    if "state" in query:
        runs["state"] = {"name": {"any_": query["state"]}}
    found = httpx.post(f"{api_url}/flow_runs/filter", json={"flow_runs": runs}, trust_env=False)
    return {run["name"] for run in found.raise_for_status().json()}


def test_the_filters_select_jobs_and_those_without_success(prefect_api: str) -> None:
    save_filters(prefect_api)
    save_filters(prefect_api)  # as each start of a worker does
    jobs, incomplete = saved(prefect_api)["Jobs"], saved(prefect_api)["Jobs without success"]
    prefix = f"filters-{uuid4()}"
    states: dict[str, tuple[str, State[None]]] = {
        "success": ("image", Completed()),
        "partial": ("image", Failed(name="Partial")),
        "failed": ("image", Failed()),
        "killed": ("image", Crashed()),
        "part": ("region", Failed()),
        "reader": ("sensor", Crashed()),
    }
    with get_client(sync_client=True) as client:
        for name, (tag, state) in states.items():
            client.create_flow_run(any_flow, name=f"{prefix} {name}", tags=[tag], state=state)

    def mine(query: dict[str, Any]) -> set[str]:
        names = selected(prefect_api, query)
        return {name.split()[1] for name in names if name.startswith(prefix)}

    assert mine(jobs) == {"success", "partial", "failed", "killed"}
    assert mine(incomplete) == {"partial", "failed", "killed"}
    assert len(saved(prefect_api)) == len({"Jobs", "Jobs without success"})


def test_the_addresses_open_the_page_with_the_same_filters() -> None:
    assert address("http://prefect", JOBS) == "http://prefect/runs?tag=image"
    only = "http://prefect/runs?tag=image&state=Partial&state=Failed&state=Crashed"
    assert address("http://prefect", INCOMPLETE_JOBS) == only
