"""The runs of the image deployment: the sensor creates them, and replaces those that were lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from itertools import count
from typing import Any
from uuid import UUID

from prefect import get_client, get_run_logger
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterIdempotencyKey,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import PrefectHTTPStatusError

from flows.announce import announce_missed_end
from flows.cancel import cancel_children
from flows.image_load import ImageLoad, waiting_runs
from flows.labels import ANNOUNCED
from flows.measured import trace_labels
from flows.restarts import RunObserver, has_ended, replace_lost, will_restart
from flows.run_names import infrastructure_labels, run_name, tags
from flows.run_records import NOT_ACCEPTED, read_pages, write_labels
from flows.waiting_list import WAITING
from flows.work_queue import limit_work_queue
from tasks.errors import RequestError
from tasks.request import Request

FIRST_CHECK = timedelta(days=1)
"""How long ago a run may have ended for a sensor's first check to announce it."""

_LATER_CHECKS = timedelta(minutes=10)  # the same for its later checks, if it is not announced
_CLOCKS = timedelta(minutes=1)  # by which the clocks of Prefect and of this machine may differ
_INTERVAL = 10.0  # seconds between two checks
_ENDED = [StateType.CANCELLED, StateType.CRASHED, StateType.FAILED, StateType.COMPLETED]


class ImageRuns:
    """The runs of the image deployment.

    The methods raise `httpx.HTTPError` or `ValueError` if Prefect does not answer, or its answer is
    not valid; `ObjectNotFound` if there is no such deployment.

    Attributes:
        name: The deployment, `flow/deployment`.
        load: How many of them there are.
    """

    def __init__(self, name: str, client: SyncPrefectClient | None = None) -> None:
        """Begin without knowing of any; without an open client, each call opens one."""
        self.name = name
        self._raised: set[UUID] = set()
        self._client = client
        self._reconciled = -_INTERVAL  # seconds of the monotonic clock
        self._announced = datetime.now(UTC) - FIRST_CHECK
        """All runs that ended before are announced, or too old for that."""
        self._observer = RunObserver()
        self.load = ImageLoad()

    def waiting(self) -> int:
        """Count the runs that wait to start: for a slot of the deployment's limit, or a worker.

        The deployment is read again each time: if it does not exist, no message may be received,
        and if it was deleted and created again, it has another id.
        """
        with self._open() as client:
            deployment = client.read_deployment_by_name(self.name)
            self._id, self._variables = deployment.id, deployment.job_variables
            self.load.waiting = client.count_flow_runs(
                deployment_filter=self._filter, flow_run_filter=waiting_runs()
            )
        return self.load.waiting

    def create(
        self,
        request: Request,
        image_url: str,
        message_id: str,
        *,
        ask: bool = True,
        state: State[None] | None = None,
    ) -> UUID:
        """Create the run of one image, or find it if it exists.

        The idempotency key is the identity of the work and the number of the attempt, so a message
        that is delivered or sent twice has one run. A new message for work that has ended, with
        SUCCESS too, has a new run: it asks the model only for what is missing. While the run waits
        for its turn, a message of a higher priority gives it that priority.

        Args:
            request: The message.
            image_url: One of its images.
            message_id: Its id on the queue, or any other of who wants the run.
            ask: Whether the model may be called; if not, kept answers alone are used.
            state: The state of a new run; None if it may begin at once.

        Returns:
            The flow run's id.

        Raises:
            RequestError: Prefect does not accept the request as a parameter, for example because of
                its size.
        """
        create = partial(self._create, request, image_url, message_id, ask=ask, state=state)
        runs = map(create, _keys(request, image_url))
        run = next(run for run in runs if _serves(run, message_id))
        if not run.labels.get(_label_of(message_id)):  # it serves another message too
            with self._open() as client:
                write_labels(client, run.id, {_label_of(message_id): True})
        self._raise_priority(run, request.priority)
        return run.id

    def _raise_priority(self, run: FlowRun, priority: int) -> None:
        """Give a run that waits for its turn a priority, unless it has a higher one."""
        fields = run.parameters["request"]
        if run.state_name != WAITING or priority <= (fields.get("priority") or 0):
            return
        parameters = run.parameters | {"request": fields | {"priority": priority}}
        with self._open() as client:
            client.update_flow_run(run.id, parameters=parameters)
        self._raised.add(run.id)

    def take_raised(self) -> set[UUID]:
        """The runs that wait and were given a higher priority since the last call."""
        raised, self._raised = self._raised, set()
        return raised

    def reconcile(self) -> None:
        """Correct runs whose record in Prefect differs from what happened to them.

        - A run that does not start in time, whose ECS task has stopped, or whose process shows no
          life, is started again or ended as Crashed (`flows/restarts.py`).
        - A run that has ended without its hooks announcing it is announced, and its regions are
          cancelled.
        - The deployment's work queue gets the deployment's concurrency limit.

        It returns at once if the last check was less than ten seconds ago.
        """
        if time.monotonic() < self._reconciled + _INTERVAL:
            return
        self._reconciled, now = time.monotonic(), datetime.now(UTC)
        ended = FlowRunFilterEndTime(after_=self._announced - _CLOCKS, before_=now)
        unannounced = [now]
        started = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
        with self._open() as client:
            # all are read first: ending a run would change the pages that follow
            runs = list(self._read(client, started))
            self.load.note(client, self._filter, runs)
            for run in runs:
                self._try(self._replace_lost, client, run)
            # page by page to save memory: each run has the whole request as a parameter
            for run in self._read(client, _ENDED, ended):
                self._try(self._finish, client, run)
                if run.end_time and not run.labels.get(ANNOUNCED):
                    unannounced.append(run.end_time)
            self._announced = max(min(unannounced), now - _LATER_CHECKS)
            # last, so that an error in it affects no run
            limit_work_queue(client, client.read_deployment_by_name(self.name))

    def _replace_lost(self, client: SyncPrefectClient, run: FlowRun) -> None:
        """Replace a run that has not ended if its process is gone."""
        if reason := self._observer.reason_lost(run):
            replace_lost(client, run, reason)

    def _finish(self, client: SyncPrefectClient, run: FlowRun) -> None:
        """Start a run that crashed again, or announce an end that nobody announces."""
        if will_restart(run):
            if self._observer.is_settled(run):
                replace_lost(client, run, (run.state and run.state.message) or "it crashed")
        elif not run.labels.get(ANNOUNCED) and self._observer.nobody_announces(run):
            cancel_children(run)
            announce_missed_end(client, run)

    def _try(
        self,
        action: Callable[[SyncPrefectClient, FlowRun], None],
        client: SyncPrefectClient,
        run: FlowRun,
    ) -> None:
        """Act on one run; an error is logged, so that it affects no other run."""
        try:
            action(client, run)
        except Exception as error:
            get_run_logger().warning("%s cannot be reconciled: %r", run.name, error)

    def _read(
        self,
        client: SyncPrefectClient,
        states: list[StateType],
        end_time: FlowRunFilterEndTime | None = None,
    ) -> Iterator[FlowRun]:
        """Read all runs of the deployment that are in some states, a page at a time."""
        filter_ = FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states)), end_time=end_time
        )
        return read_pages(
            partial(client.read_flow_runs, deployment_filter=self._filter, flow_run_filter=filter_)
        )

    def _open(self) -> AbstractContextManager[SyncPrefectClient]:
        return nullcontext(self._client) if self._client else get_client(sync_client=True)

    @cached_property
    def _id(self) -> UUID:
        with self._open() as client:
            return client.read_deployment_by_name(self.name).id

    @cached_property
    def _variables(self) -> dict[str, Any] | None:
        with self._open() as client:
            return client.read_deployment(self._id).job_variables

    @property
    def _filter(self) -> DeploymentFilter:
        return DeploymentFilter(id=DeploymentFilterId(any_=[self._id]))

    def _create(
        self,
        request: Request,
        image_url: str,
        message_id: str,
        key: str,
        *,
        ask: bool,
        state: State[None] | None,
    ) -> FlowRun:
        with self._open() as client:
            try:
                return client.create_flow_run_from_deployment(
                    self._id,
                    parameters={
                        # a tile size that is not given is that of the model
                        "request": request.model_dump(mode="json", exclude_unset=True),
                        "image_url": image_url,
                    }
                    | ({} if ask else {"ask": False}),
                    name=run_name(image_url, request.job_id),
                    tags=tags(request),
                    job_variables=infrastructure_labels(request, image_url, self._variables),
                    state=state,
                    idempotency_key=key,
                    labels={_label_of(message_id): True, **trace_labels()},
                )
            except PrefectHTTPStatusError as error:
                if error.response.status_code in NOT_ACCEPTED:
                    raise RequestError(f"message: Prefect refuses it: {error}"[:2000]) from error
                raise


def find_run(
    client: SyncPrefectClient, request: Request, image_url: str, message_id: str
) -> FlowRun | None:
    """The run of one image that serves a message; None if no sensor has created it yet.

    Args:
        client: Of the Prefect server that the sensors use.
        request: The message.
        image_url: One of its images.
        message_id: Id of the message on the queue.
    """
    for key in _keys(request, image_url):
        filter_ = FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=[key]))
        runs = client.read_flow_runs(flow_run_filter=filter_, limit=1)
        if not runs or _serves(runs[0], message_id):
            return runs[0] if runs else None
    return None


def _keys(request: Request, image_url: str) -> Iterator[str]:
    """The idempotency key of each attempt at an image, without an end."""
    identity = request.identity(image_url)
    return (f"{identity}:{attempt}" for attempt in count(1))


def _serves(run: FlowRun, message_id: str) -> bool:
    """Whether a message needs no further run: this one is its own, or has not ended.

    One whose process died has not ended, as it is started again or ended as Crashed.
    """
    return bool(run.labels.get(_label_of(message_id))) or not has_ended(run)


def _label_of(message_id: str) -> str:
    """The label of a run that serves a message."""
    return f"swath.message.{message_id}"
