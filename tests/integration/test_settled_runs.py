"""Runs whose worker has ended get true states, which frees their places."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow, get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectAlreadyExists
from prefect.states import Cancelling, Pending, Running

from deployments.local.lost_runs import settle_lost_runs
from deployments.local.pool import WORK_POOL
from flows.restarts import RunObserver


@pytest.fixture
def client(prefect_api: str) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def image(client: SyncPrefectClient) -> UUID:
    """The deployment of images, with two places."""
    return deployment(client, "image", "image-local")


def deployment(client: SyncPrefectClient, flow: str, name: str) -> UUID:
    with suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=WORK_POOL, type="process"))
    return client.create_deployment(
        flow_id=client.create_flow_from_name(flow),
        name=name,
        work_pool_name=WORK_POOL,
        concurrency_limit=2,
    )


def run(client: SyncPrefectClient, deployment: UUID, *states: State[Any]) -> UUID:
    """A run that has passed through some states, with its place."""
    made = client.create_flow_run_from_deployment(deployment, idempotency_key=uuid4().hex)
    for state in states:
        client.set_flow_run_state(made.id, state)
    return made.id


def read(client: SyncPrefectClient, *runs: UUID) -> list[str | None]:
    return [client.read_flow_run(each).state_name for each in runs]


def places_taken(client: SyncPrefectClient, deployment: UUID) -> int:
    limit = client.read_deployment(deployment).global_concurrency_limit
    assert limit is not None
    return limit.active_slots


def settle(prefect_api: str, *, stopped: bool, before: timedelta = timedelta()) -> None:
    settle_lost_runs(prefect_api, datetime.now(UTC) + before, stopped=stopped)


def test_images_of_a_killed_worker_free_their_places(
    client: SyncPrefectClient, prefect_api: str, image: UUID
) -> None:
    taken = run(client, image, Pending())
    begun = run(client, image, Pending(), Running())
    assert places_taken(client, image) == 2
    settle(prefect_api, stopped=False)
    assert read(client, taken, begun) == ["Scheduled", "Crashed"]
    assert places_taken(client, image) == 0


def test_an_image_of_a_killed_worker_need_not_wait_for_it_to_be_started_again(
    client: SyncPrefectClient, prefect_api: str, image: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.restarts._AFTER_HOOK", 0.0)
    begun = run(client, image, Pending(), Running())
    settle(prefect_api, stopped=False)
    assert RunObserver().is_settled(client.read_flow_run(begun))


def test_images_of_a_stack_that_was_stopped_are_scheduled_again(
    client: SyncPrefectClient, prefect_api: str, image: UUID
) -> None:
    taken = run(client, image, Pending())
    begun = run(client, image, Pending(), Running())
    settle(prefect_api, stopped=True)
    assert read(client, taken, begun) == ["Scheduled", "Scheduled"]
    assert places_taken(client, image) == 0


def test_other_runs_have_crashed_and_those_that_were_cancelled_are_cancelled(
    client: SyncPrefectClient, prefect_api: str, image: UUID
) -> None:
    sensor = deployment(client, "sensor", "sensor-local")
    taken = run(client, sensor, Pending())
    begun = run(client, sensor, Pending(), Running())
    cancelled = run(client, image, Pending(), Running(), Cancelling())
    settle(prefect_api, stopped=True)
    assert read(client, taken, begun, cancelled) == ["Crashed", "Crashed", "Cancelled"]


def test_runs_of_users_and_of_the_next_worker_are_left_alone(
    client: SyncPrefectClient, prefect_api: str, image: UUID
) -> None:
    @flow
    def own() -> None:
        later = run(client, image, Pending(), Running())
        settle(prefect_api, stopped=True, before=-timedelta(minutes=1))
        assert read(client, later) == ["Running"]
        settle(prefect_api, stopped=True)
        assert read(client, later) == ["Scheduled"]

    assert own(return_state=True).is_completed()
