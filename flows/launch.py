"""The runs of images, which the sensor launches and tends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import count
from uuid import UUID

from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import PrefectHTTPStatusError
from prefect.states import Crashed

from flows.announce import ANNOUNCED, announce_end, status_of
from flows.cancel import UNFINISHED, cancel, cancel_regions, never_started
from tasks.errors import RequestError
from tasks.inference.transport import shown
from tasks.request import Request
from tasks.status import JobStatus

_HOOKS = timedelta(seconds=30)  # after its end, in which a run speaks for itself
_OLDEST = timedelta(days=1)  # end of a run that is still spoken for
_ENDED = [StateType.CANCELLED, StateType.CRASHED, StateType.FAILED, StateType.COMPLETED]
_MESSAGE = "swath.message"  # label that names the delivery a run was launched for


def run_name(image_url: str, job_id: str) -> str:
    """What people find an image's run by."""
    return f"{image_url.rsplit('/', 1)[-1]} · {job_id}"


def tags(request: Request) -> list[str]:
    """What an image's runs can be filtered by."""
    return [f"job:{request.job_id}", f"model:{shown(request.image_processor.name)}"]


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
                deployment_filter=self._mine,
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

        Raises:
            RequestError: Prefect does not take the request as a parameter, for its size perhaps.
        """
        identity = request.identity(image_url)
        attempts = (
            self._create(request, image_url, message_id, f"{identity}:{attempt}")
            for attempt in count(1)
        )
        return next(run.id for run in attempts if _holds(run, message_id))

    def tend(self) -> None:
        """Speak and act for runs that cannot: whose process was never there, or was killed.

        A run that was submitted and does not start is given up. One that has ended, and whose
        hooks have not said so, is announced, and its regions are stopped.
        """
        with get_client(sync_client=True) as client:
            pending = FlowRunFilterStateType(any_=[StateType.PENDING])
            for run in self._read(client, FlowRunFilter(state=FlowRunFilterState(type=pending))):
                if late := never_started(run, run.state.timestamp if run.state else None):
                    cancel(client, run, late)
                    client.set_flow_run_state(run.id, Crashed(message=late), force=True)
            now = datetime.now(UTC)
            ended = FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_ENDED)),
                end_time=FlowRunFilterEndTime(after_=now - _OLDEST, before_=now),
            )
            for run in self._read(client, ended):
                silent = run.run_count == 0 or (run.end_time and run.end_time + _HOOKS < now)
                if run.state and silent and not run.labels.get(ANNOUNCED):
                    announce_end(None, run, run.state)
                    cancel_regions(None, run, run.state)

    def _read(self, client: SyncPrefectClient, which: FlowRunFilter) -> list[FlowRun]:
        return client.read_flow_runs(
            deployment_filter=self._mine,
            flow_run_filter=which,
            sort=FlowRunSort.END_TIME_DESC,
            limit=50,
        )

    @property
    def _mine(self) -> DeploymentFilter:
        return DeploymentFilter(id=DeploymentFilterId(any_=[self._deployment.id]))

    def _create(self, request: Request, image_url: str, message_id: str, key: str) -> FlowRun:
        with get_client(sync_client=True) as client:
            try:
                return client.create_flow_run_from_deployment(
                    self._deployment.id,
                    parameters={
                        "request": request.model_dump(mode="json"),
                        "image_url": image_url,
                    },
                    name=run_name(image_url, request.job_id),
                    tags=tags(request),
                    idempotency_key=key,
                    labels={_MESSAGE: message_id},
                )
            except PrefectHTTPStatusError as error:
                if error.response.is_client_error:
                    raise RequestError(f"message: Prefect refuses it: {error}"[:2000]) from error
                raise


def _holds(run: FlowRun, message_id: str) -> bool:
    """Whether a run stands for a message: made for it, still at work, or done with success."""
    if run.labels.get(_MESSAGE) == message_id or run.state is None or not run.state.is_final():
        return True
    return status_of(run.state) is JobStatus.SUCCESS
