"""Runs of deployments: an image's, started by the sensor, and a region's, started by an image's."""

from __future__ import annotations

from functools import cached_property
from itertools import count
from typing import cast
from uuid import UUID

from prefect import get_client, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.deployments import run_deployment
from prefect.runtime import flow_run as this_flow_run
from prefect.runtime import task_run as this_task_run
from prefect.states import Cancelling

from tasks.errors import SwathError
from tasks.request import Request
from tasks.settings import settings
from tasks.status import JobStatus
from tasks.tiling import Region

UNFINISHED = [
    StateType.SCHEDULED,
    StateType.PENDING,
    StateType.RUNNING,
    StateType.PAUSED,
    StateType.CANCELLING,
]
_MESSAGE = "swath.message"  # label that names the delivery a run was launched for


class RegionLostError(SwathError):
    """A region's run ended without its findings."""


def run_name(image_url: str, job_id: str) -> str:
    """What people find an image's run by."""
    return f"{image_url.rsplit('/', 1)[-1]} · {job_id}"


def tags(request: Request) -> list[str]:
    """What an image's runs can be filtered by."""
    return [f"job:{request.job_id}", f"model:{request.image_processor.name}"]


def status_of_run(run: FlowRun) -> JobStatus:
    """The job's status that an ended image run stands for."""
    if run.state is None or not run.state.is_completed():
        return JobStatus.FAILED
    return JobStatus.SUCCESS if run.state.name == "Completed" else JobStatus.PARTIAL


class ImageRuns:
    """The runs of the image deployment.

    Attributes:
        name: The deployment, `flow/deployment`.
    """

    def __init__(self, name: str) -> None:
        """Look nothing up yet."""
        self.name = name

    @cached_property
    def _deployment(self) -> DeploymentResponse:
        with get_client(sync_client=True) as client:
            return client.read_deployment_by_name(self.name)

    def free(self) -> int:
        """Image runs that could start now: the concurrency limit less the unfinished ones.

        Unlimited deployments have a place for one batch of messages at any time.
        """
        limit = self._deployment.global_concurrency_limit
        if limit is None:
            return 10
        with get_client(sync_client=True) as client:
            unfinished = client.count_flow_runs(
                deployment_filter=DeploymentFilter(
                    id=DeploymentFilterId(any_=[self._deployment.id])
                ),
                flow_run_filter=FlowRunFilter(
                    state=FlowRunFilterState(type=FlowRunFilterStateType(any_=UNFINISHED))
                ),
            )
        return max(0, limit.limit - unfinished)

    def launch(self, request: Request, image_url: str, message_id: str) -> UUID:
        """Have Prefect hold the run of one image; asked again, it is the same run.

        The identity of the work is the idempotency key, so a message that is delivered or sent
        twice costs nothing. Only a new message for work that ended without success runs again.

        Returns:
            The flow run's id.
        """
        identity = request.identity(image_url)
        for attempt in count(1):
            run = self._create(request, image_url, message_id, f"{identity}:{attempt}")
            same_delivery = run.labels.get(_MESSAGE) == message_id
            if same_delivery or run.state is None or not run.state.is_final():
                return run.id
            if status_of_run(run) is JobStatus.SUCCESS:
                return run.id
        raise AssertionError("count() does not end")

    def _create(self, request: Request, image_url: str, message_id: str, key: str) -> FlowRun:
        with get_client(sync_client=True) as client:
            return client.create_flow_run_from_deployment(
                self._deployment.id,
                parameters={"request": request.model_dump(mode="json"), "image_url": image_url},
                name=run_name(image_url, request.job_id),
                tags=tags(request),
                idempotency_key=key,
                labels={_MESSAGE: message_id},
            )


@task(name="region", task_run_name="region {region.number} of {region.of}", cache_policy=NO_CACHE)
def run_region(request: Request, image_url: str, etag: str, region: Region, work_uri: str) -> None:
    """Run one region on the work pool and wait for it; each attempt is a run of its own.

    Raises:
        RegionLostError: The run failed, crashed, was cancelled, or took too long.
    """
    deployment = settings().region_deployment
    assert deployment is not None
    started = run_deployment(
        deployment,
        parameters={
            "request": request.model_dump(mode="json"),
            "image_url": image_url,
            "etag": etag,
            "region": region.model_dump(mode="json"),
            "work_uri": work_uri,
        },
        tags=tags(request),
        # a constant key would return the crashed run again
        idempotency_key=f"{this_flow_run.id}:{region.index}:{this_task_run.run_count}",
        timeout=settings().region_timeout,
        poll_interval=1,
    )
    run = cast("FlowRun", started)  # a coroutine only where there is an event loop
    if run.state is None or not run.state.is_final():
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(run.id, Cancelling(), force=True)
        raise RegionLostError(f"{run.name} took over {settings().region_timeout:g} s; cancelled.")
    if not run.state.is_completed():
        raise RegionLostError(f"{run.name} ended {run.state.name}: {run.state.message}")
