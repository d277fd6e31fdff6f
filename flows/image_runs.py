"""The runs of images, which the sensor launches and tends."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from itertools import count
from uuid import UUID

from prefect import get_client, get_run_logger
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
from prefect.exceptions import PrefectHTTPStatusError
from prefect.states import Crashed

from flows.announce import ANNOUNCED, announce_end, status_of
from flows.cancel import UNFINISHED, cancel_regions, never_started, stop_task
from flows.run_records import read_all
from tasks.aws import ecs
from tasks.errors import RequestError
from tasks.reporting.status import JobStatus
from tasks.request import Request
from tasks.request.locations import redact_url

_HOOKS = timedelta(seconds=30)  # after its end, in which a run speaks for itself
_OLDEST = timedelta(days=1)  # end of a run that a sensor's first look speaks for
_RECENT = timedelta(minutes=10)  # the same of its later looks
_ENDED = [StateType.CANCELLED, StateType.CRASHED, StateType.FAILED, StateType.COMPLETED]
_RECONCILE_INTERVAL = 5.0  # seconds between looks at runs that cannot speak for themselves
_MESSAGE = "swath.message"  # label that names the delivery a run was launched for


def run_name(image_url: str, job_id: str) -> str:
    """What people find an image's run by."""
    return f"{image_url.rsplit('/', 1)[-1]} · {job_id}"


def tags(request: Request) -> list[str]:
    """What an image's runs can be filtered by."""
    return [f"job:{request.job_id}", f"model:{redact_url(request.image_processor.name)}"]


class ImageRuns:
    """The runs of the image deployment.

    Attributes:
        name: The deployment, `flow/deployment`.
    """

    def __init__(self, name: str) -> None:
        """Look nothing up yet."""
        self.name = name
        self._reconciled = -_RECONCILE_INTERVAL

    def free(self) -> int:
        """Image runs that could start now: the concurrency limit less the unfinished ones.

        Unlimited deployments have a place for one batch of messages at any time.
        """
        with get_client(sync_client=True) as client:
            limit = client.read_deployment_by_name(self.name).global_concurrency_limit
            if limit is None:
                return 10
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

    def reconcile(self) -> None:
        """Speak and act for runs that cannot: whose process was never there, or was killed.

        A run that was submitted and does not start, or whose ECS task has stopped, is given up. One
        that has ended, and whose hooks have not said so, is announced, and its regions are stopped.
        It may be asked often: it looks every few seconds at most.
        """
        if time.monotonic() < self._reconciled + _RECONCILE_INTERVAL:
            return
        now, oldest = datetime.now(UTC), _RECENT if self._reconciled > 0 else _OLDEST
        self._reconciled = time.monotonic()
        ended = FlowRunFilterEndTime(after_=now - oldest, before_=now)
        begun = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
        with get_client(sync_client=True) as client:
            for run in self._read(client, begun):
                self._try(_give_up_lost, client, run)
            for run in self._read(client, _ENDED, ended):
                hooks_may_run = run.end_time is None or run.end_time > now - _HOOKS
                if run.run_count == 0 or not hooks_may_run:  # without a process there are none
                    self._try(_announce_missed_end, client, run)

    def _try(
        self,
        act: Callable[[SyncPrefectClient, FlowRun], None],
        client: SyncPrefectClient,
        run: FlowRun,
    ) -> None:
        """Act for a run; what goes wrong with one costs no other anything."""
        try:
            act(client, run)
        except Exception as error:
            get_run_logger().warning("%s cannot be tended: %r", run.name, error)

    def _read(
        self,
        client: SyncPrefectClient,
        states: list[StateType],
        end_time: FlowRunFilterEndTime | None = None,
    ) -> list[FlowRun]:
        """All its runs in some states."""
        which = FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states)), end_time=end_time
        )
        return read_all(
            partial(client.read_flow_runs, deployment_filter=self._mine, flow_run_filter=which)
        )

    @cached_property
    def _id(self) -> UUID:
        with get_client(sync_client=True) as client:
            return client.read_deployment_by_name(self.name).id

    @property
    def _mine(self) -> DeploymentFilter:
        return DeploymentFilter(id=DeploymentFilterId(any_=[self._id]))

    def _create(self, request: Request, image_url: str, message_id: str, key: str) -> FlowRun:
        with get_client(sync_client=True) as client:
            try:
                return client.create_flow_run_from_deployment(
                    self._id,
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


def _give_up_lost(client: SyncPrefectClient, run: FlowRun) -> None:
    """End a run that never started, or whose ECS task has stopped without a word of it."""
    why = ""
    if run.state and run.state.is_pending():
        why = never_started(run, run.state.timestamp)
    if not why and ecs.is_task(run.infrastructure_pid):
        if not (stopped := ecs.stopped(run.infrastructure_pid)):
            return
        run = client.read_flow_run(run.id)  # it may have ended in order meanwhile
        why = f"its ECS task stopped: {stopped}"
    if why and run.state and not run.state.is_final():
        client.set_flow_run_state(run.id, Crashed(message=why), force=True)
        stop_task(run, why)


def _announce_missed_end(client: SyncPrefectClient, run: FlowRun) -> None:
    """Announce the end of a run that has not been, and leave none of its regions at work."""
    if run.labels.get(ANNOUNCED) or client.read_flow_run(run.id).labels.get(ANNOUNCED):
        return  # by then, perhaps, by another sensor
    if run.state:
        cancel_regions(None, run, run.state)
        announce_end(None, run, run.state)
