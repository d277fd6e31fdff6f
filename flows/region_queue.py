"""When an image's run submits its next region, so that owners and images share the work pool."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from threading import Lock
from typing import Any
from uuid import UUID

from prefect import get_run_logger
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import StateType
from prefect.runtime import flow_run as this_flow_run

from flows.abort import AbortSignal
from flows.claim_rows import ClaimRows, Row
from flows.run_names import has_owner, owner_tag
from flows.run_records import PREFECT_ERRORS, client_without_retries, may_answer_later, read_all
from flows.throughput import places
from flows.work_queue import limit_work_queue
from tasks.errors import RegionLostError
from tasks.request import Request
from tasks.settings import settings
from tasks.sharing.regions import Pool, RegionClaim, may_submit, most_waiting

_POLL = 1.0  # seconds between two looks at this image's own regions
_LOOK = 5.0  # seconds between two looks at Prefect while none of them has begun or ended
_OTHERS = 30.0  # seconds for which an image remembers that others want places
_PLACES_INTERVAL = 10.0  # seconds after which the number of places is read again
_UNFINISHED = FlowRunFilterState(
    type=FlowRunFilterStateType(any_=[StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING])
)


class RegionQueue:
    """The regions of one image that wait for a place on the work pool.

    Prefect gives places to runs in the order in which they were submitted. So an image submits as
    many regions as there are free places, and beyond that the few by which its owner has its share
    and a free place is filled at once (`may_submit`). An image that comes later then waits for the
    few regions of each other owner, not for all regions of all images.

    Attributes:
        deployment: Name of the deployment of the regions, `flow/deployment`.
        job_variables: Those of the deployment, as they were last read.
    """

    def __init__(self, deployment: str, request: Request, abort: AbortSignal) -> None:
        """Begin without a region that waits.

        Args:
            deployment: Name of the deployment of the regions, `flow/deployment`.
            request: Whose image it is, and of which priority.
            abort: Shared by the regions of the image.
        """
        self.deployment, self._abort = deployment, abort
        self._owner, self._priority = request.owner, request.priority
        self._submitting, self._counting = Lock(), Lock()
        self._asking = 0  # regions that want to be submitted
        self._waiting = 0  # regions that were submitted and have no place yet
        self._unfinished = 0  # regions that were submitted and have not ended
        self._since = time.time()
        self._seen = (-1, -1)  # the last two numbers when Prefect was last asked
        self._next_look = 0.0  # seconds of the monotonic clock
        self._others_seen = -_OTHERS  # likewise, when other images wanted places
        self._rows: ClaimRows | None = None
        self.job_variables: dict[str, Any] | None = None
        self._places_read = -_PLACES_INTERVAL  # seconds of the monotonic clock

    @contextmanager
    def submission(self) -> Iterator[None]:
        """Wait until a region may be submitted, which has to be done in the block.

        Raises:
            RegionLostError: The reason of the abort signal was set meanwhile.
        """
        with self._counting:
            self._asking += 1
        with self._submitting:
            try:
                while not (self._abort.reason or self._may_submit()):
                    self._abort.wait(_POLL)
                if self._abort.reason:
                    raise RegionLostError(self._abort.reason)
                yield
                with self._counting:
                    self._waiting += 1
                    self._unfinished += 1
                self._since = time.time()
            finally:
                with self._counting:
                    self._asking -= 1
                    last = self._asking == 0
                if last:
                    self._withdraw()

    def leave(self) -> None:
        """Count a region that was submitted as one that no longer waits."""
        with self._counting:
            self._waiting -= 1

    def end(self) -> None:
        """Count a region that was submitted as one that has ended."""
        with self._counting:
            self._unfinished -= 1

    def _may_submit(self) -> bool:
        """Whether the next region may be submitted.

        Each request takes Prefect's server about 10 ms of CPU. So it is asked when a region of this
        image has got a place or ended, and otherwise every few seconds only.
        """
        with self._counting:
            now = (self._waiting, self._unfinished)
        if now == self._seen and time.monotonic() < self._next_look:
            return False
        try:
            with client_without_retries() as client:
                may = self._look(client)
        except PREFECT_ERRORS as error:
            get_run_logger().debug("The regions on the work pool cannot be counted: %r", error)
            # if Prefect refuses, creating a run says why; but not beyond the owner's quota
            return self._unfinished == 0 and not may_answer_later(error)
        self._seen, self._next_look = now, time.monotonic() + _LOOK
        return may

    def _look(self, client: SyncPrefectClient) -> bool:
        """Whether the next region may be submitted, by what is in Prefect."""
        if time.monotonic() > self._places_read + _PLACES_INTERVAL:
            self._read_places(client)
        taken = self._count(client)
        free = taken < self._places
        others_want = time.monotonic() < self._others_seen + _OTHERS
        if free and _quota(self._owner) is None and not others_want:
            return True
        own = self._claim(client)
        if not free and self._waiting >= most_waiting(self._places):
            return False
        others = [claim for claim in self._claims(client) if claim.image != own.image]
        if others:
            self._others_seen = time.monotonic()
        of_owner = self._of_owner(client, {claim.owner for claim in others}, taken)
        return may_submit(own, others, Pool(self._places, taken, of_owner, _quota))

    def _claim(self, client: SyncPrefectClient) -> RegionClaim:
        """Let the other images know that this one wants a place."""
        image = UUID(this_flow_run.id)
        if self._rows is None:
            description = f"Images that want places for regions of {self.deployment}"
            self._rows = ClaimRows(f"places-{self.deployment}", description, image)
        own = RegionClaim(image, self._owner, self._priority, self._unfinished, self._since)
        row: Row = {
            "deployment": self.deployment,
            "image": str(own.image),
            "owner": own.owner,
            "priority": own.priority,
            "held": own.held,
            "since": own.since,
        }
        self._rows.write(client, row)
        return own

    def _claims(self, client: SyncPrefectClient) -> list[RegionClaim]:
        """The images that want places."""
        assert self._rows is not None
        return [
            RegionClaim(
                UUID(row["image"]), row["owner"], row["priority"], row["held"], row["since"]
            )
            for row in self._rows.read(client)
            if row["deployment"] == self.deployment
        ]

    def _withdraw(self) -> None:
        """Let the other images know that this one wants no place; else its claim expires."""
        rows, self._rows = self._rows, None
        if rows is not None:
            with suppress(*PREFECT_ERRORS), client_without_retries() as client:
                rows.withdraw(client)

    def _of_owner(self, client: SyncPrefectClient, others: set[str], taken: int) -> int:
        """The regions of this image's owner that have a place or wait for one."""
        if not (others - {self._owner}) and _quota(self._owner) is None:
            return taken  # no other owner wants a place: all that wait are its own
        if self._owner:
            return self._count(client, FlowRunFilterTags(all_=[owner_tag(self._owner)]))
        query = partial(
            client.read_flow_runs,
            deployment_filter=self._filter,
            flow_run_filter=FlowRunFilter(state=_UNFINISHED),
        )
        return sum(not has_owner(run.tags) for run in read_all(query))

    def _count(self, client: SyncPrefectClient, tags: FlowRunFilterTags | None = None) -> int:
        """Count the regions of the deployment that have a place or wait for one."""
        return client.count_flow_runs(
            deployment_filter=self._filter,
            flow_run_filter=FlowRunFilter(state=_UNFINISHED, tags=tags),
        )

    def _read_places(self, client: SyncPrefectClient) -> None:
        """Read the number of places, which operators may change meanwhile."""
        deployment = client.read_deployment_by_name(self.deployment)
        limit_work_queue(client, deployment)
        self.job_variables = deployment.job_variables
        self._places = places(client, deployment)
        self._filter = DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id]))
        self._places_read = time.monotonic()


def _quota(owner: str) -> int | None:
    """The regions that the jobs of an owner may have on the work pool at a time."""
    return settings().quota(owner).regions
