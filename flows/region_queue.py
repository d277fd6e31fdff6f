"""When an image's run submits its next region, so that images take turns on the work pool."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from prefect import get_run_logger
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType

from flows.abort import AbortSignal
from flows.run_records import PREFECT_ERRORS, client_without_retries
from flows.throughput import places
from flows.work_queue import limit_work_queue
from tasks.errors import RegionLostError

_POLL = 1.0  # seconds between two counts of the runs that have a place or wait for one
_PLACES_INTERVAL = 10.0  # seconds after which the number of places is read again
_UNFINISHED = FlowRunFilter(
    state=FlowRunFilterState(
        type=FlowRunFilterStateType(
            any_=[StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING]
        )
    )
)


class RegionQueue:
    """The regions of one image that wait for a place on the work pool.

    Prefect gives places to runs in the order in which they were submitted. So an image submits as
    many regions as there are free places, and beyond that one at a time: its next one when that one
    has a place. An image that comes later then waits for one region of each other image, not for
    all of them.

    Attributes:
        deployment: Name of the deployment of the regions, `flow/deployment`.
        job_variables: Those of the deployment, as they were last read.
    """

    def __init__(self, deployment: str, abort: AbortSignal) -> None:
        """Begin without a region that waits.

        Args:
            deployment: Name of the deployment of the regions, `flow/deployment`.
            abort: Shared by the regions of the image.
        """
        self.deployment, self._abort = deployment, abort
        self._submitting, self._counting = Lock(), Lock()
        self._waiting = 0
        self.job_variables: dict[str, Any] | None = None
        self._places_read = -_PLACES_INTERVAL  # seconds of the monotonic clock

    @contextmanager
    def submission(self) -> Iterator[None]:
        """Wait until a region may be submitted, which has to be done in the block.

        Raises:
            RegionLostError: The reason of the abort signal was set meanwhile.
        """
        with self._submitting:
            while not (self._abort.reason or self._place_is_free() or self._waiting == 0):
                self._abort.wait(_POLL)
            if self._abort.reason:
                raise RegionLostError(self._abort.reason)
            yield
            with self._counting:
                self._waiting += 1

    def leave(self) -> None:
        """Count a region that was submitted as one that no longer waits."""
        with self._counting:
            self._waiting -= 1

    def _place_is_free(self) -> bool:
        """Whether a region would find a place; False if Prefect does not answer."""
        try:
            with client_without_retries() as client:
                if time.monotonic() > self._places_read + _PLACES_INTERVAL:
                    self._read_places(client)
                taken = client.count_flow_runs(
                    deployment_filter=self._filter, flow_run_filter=_UNFINISHED
                )
                return taken < self._places
        except PREFECT_ERRORS as error:
            get_run_logger().debug("The regions on the work pool cannot be counted: %r", error)
            return False

    def _read_places(self, client: SyncPrefectClient) -> None:
        """Read the number of places, which operators may change meanwhile."""
        deployment = client.read_deployment_by_name(self.deployment)
        limit_work_queue(client, deployment)
        self.job_variables = deployment.job_variables
        self._places = places(client, deployment)
        self._filter = DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id]))
        self._places_read = time.monotonic()
