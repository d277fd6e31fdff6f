"""A sensor that dies with its worker, so that nobody reports its end."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import pytest
from prefect import get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import FlowRun

from flows.sensor_runs import STANDBY_TAG
from tests.chain import Chain
from tests.faults.conftest import SMALL
from tests.polling import until

pytestmark = pytest.mark.slow_fault


@pytest.fixture
def deployment(chain: Chain) -> Iterator[UUID]:
    """The sensor's deployment, without the sensors that its schedule began while others tested."""
    with get_client(sync_client=True) as prefect:
        found = prefect.read_deployment_by_name("sensor/sensor-local")

        def schedule(*, active: bool) -> None:
            for each in found.schedules:
                prefect.update_deployment_schedule(found.id, each.id, active=active)

        schedule(active=False)  # which ends its sensors
        until(lambda: all(run.state and run.state.is_final() for run in sensors(found.id)))
        schedule(active=True)
        yield found.id
        schedule(active=False)
        until(lambda: all(run.state and run.state.is_final() for run in sensors(found.id)))


def sensors(deployment: UUID) -> list[FlowRun]:
    """The runs of the sensor's deployment that have begun or stand by."""
    of = DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
    with get_client(sync_client=True) as prefect:
        runs = prefect.read_flow_runs(deployment_filter=of)
    return [run for run in runs if STANDBY_TAG in run.tags or not run.auto_scheduled]


def standing_by(deployment: UUID) -> list[FlowRun]:
    """The sensors that stand by, and have not ended."""
    runs = (run for run in sensors(deployment) if STANDBY_TAG in run.tags)
    return [run for run in runs if run.state and not run.state.is_final()]


def running(deployment: UUID) -> set[UUID]:
    """The sensors that are Running in Prefect."""
    return {run.id for run in sensors(deployment) if run.state_name == "Running"}


def test_a_sensor_that_dies_with_its_worker_is_replaced_and_its_run_ends(
    chain: Chain, job: str, deployment: UUID
) -> None:
    with get_client(sync_client=True) as prefect:
        first = prefect.create_flow_run_from_deployment(deployment).id
        until(lambda: len(standing_by(deployment)) == 2)
        chain.kill_worker()
        assert prefect.read_flow_run(first).state_name == "Running"
        chain.start_worker()
        chain.send(job, chain.models.model(), SMALL)
        assert chain.await_end(job) == "SUCCESS"
        until(lambda: prefect.read_flow_run(first).state_name == "Crashed")
    assert running(deployment)
