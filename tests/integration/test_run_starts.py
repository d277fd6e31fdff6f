"""The start of an image's run: it is counted, and its stages are told while the image is worked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prefect import flow, get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.flow_engine import run_flow
from prefect.states import Cancelling, Pending

from flows.image_turns import waiting_state
from flows.progress import image_progress
from flows.restarts import count_start
from flows.startup import startup_of
from tasks.grid.tiles import Region
from tests.polling import until

pytestmark = pytest.mark.usefixtures("prefect_api")


def own_run() -> FlowRun:
    """The run of this process, as Prefect's engine has it."""
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    return context.flow_run


def in_a_resumed_run(work: Callable[[SyncPrefectClient], None]) -> None:
    """Call a function in the run of a deployment that a user resumed while it waited."""
    done = False

    @flow
    def working() -> None:
        nonlocal done
        with get_client(sync_client=True) as prefect:
            work(prefect)
        done = True

    with get_client(sync_client=True) as prefect:
        pool = prefect.create_work_pool(WorkPoolCreate(name=f"pool-{uuid4()}", type="process"))
        deployment = prefect.create_deployment(
            prefect.create_flow(working), f"d-{uuid4()}", work_pool_name=pool.name
        )
        run = prefect.create_flow_run_from_deployment(deployment, state=waiting_state())
        prefect.resume_flow_run(run.id)
        prefect.set_flow_run_state(run.id, Pending())
        run = prefect.read_flow_run(run.id)
    end: Any = run_flow(working, run, return_type="state")
    assert done, end


def test_a_start_is_counted_although_the_answer_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    set_state = SyncPrefectClient.set_flow_run_state

    def answer_lost(self: Any, run_id: Any, state: Any, force: bool = False) -> object:
        answer = set_state(self, run_id, state, force=force)
        if force:
            raise httpx.ReadTimeout("it took too long")
        return answer

    def work(prefect: SyncPrefectClient) -> None:
        monkeypatch.setattr(SyncPrefectClient, "set_flow_run_state", answer_lost)
        count_start()
        monkeypatch.undo()
        now = prefect.read_flow_run(own_run().id)
        # or `alive` takes the run for another process's
        assert (own_run().run_count, own_run().state_id) == (now.run_count, now.state_id)
        assert now.run_count == 1

    in_a_resumed_run(work)


def test_a_cancel_before_the_start_is_counted_is_kept() -> None:
    def work(prefect: SyncPrefectClient) -> None:
        prefect.set_flow_run_state(own_run().id, Cancelling(), force=True)
        count_start()
        assert prefect.read_flow_run(own_run().id).state_name == "Cancelling"

    in_a_resumed_run(work)


def test_the_stages_are_told_by_a_client_that_an_image_never_waits_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @contextmanager
    def with_retries() -> Iterator[SyncPrefectClient]:
        raise AssertionError("its calls may take half a minute each")
        yield

    def work(prefect: SyncPrefectClient) -> None:
        monkeypatch.setattr("flows.startup.client_for_records", with_retries)
        monkeypatch.setattr("flows.run_records.client_for_records", with_retries)
        region = Region(
            index=0,
            of=1,
            x=0,
            y=0,
            width=1,
            height=1,
            row_start=0,
            row_stop=1,
            column_start=0,
            column_stop=1,
        )
        with image_progress([region], [region]):
            until(lambda: startup_of(prefect.read_flow_run(own_run().id)).stages)

    in_a_resumed_run(work)
