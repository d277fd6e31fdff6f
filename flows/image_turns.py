"""Whose turn it is: image runs wait in Prefect until the sensor gives them a place.

A run that waits is in the state `Waiting`, of Prefect's type PAUSED, in which no worker is given
it. When its turn comes, the sensor sets it to `Scheduled`. All that decides about that is in
Prefect, so a sensor that takes over goes on where the one before it ended.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any
from uuid import UUID

from prefect import get_run_logger
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterStartTime,
    FlowRunFilterState,
    FlowRunFilterStateName,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateDetails, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.states import Scheduled
from pydantic import ValidationError

from flows.endpoint_limit import limit_name
from flows.run_records import read_all
from flows.throughput import lowest_limit
from flows.waiting_list import WAITING, WaitingList
from tasks.request import Request
from tasks.settings import settings
from tasks.sharing.turns import Places, Turn, Waiting, Working, turns

_BEGUN = 4  # images that began last that are looked at, for each owner
_ENDED = 20  # images that ended last that are looked at
_INTERVAL = 5.0  # seconds between two looks at them
_REREAD = 60.0  # seconds after which all runs that wait are read again
_BRIEF = 120.0  # seconds below which an image's work is brief
_LISTED = 100  # images that wait whose reasons are shown


def waiting_state() -> State[None]:
    """The state of a run that waits for its turn; Resume in Prefect's pages lets it begin."""
    return State(
        type=StateType.PAUSED,
        name=WAITING,
        message="It waits until the sensor gives it a place.",
        state_details=StateDetails(pause_reschedule=True),  # no process waits with it
    )


class ImageTurns:
    """The image runs that wait, and the places that they get.

    The methods raise `httpx.HTTPError` or `ValueError` if Prefect does not answer.
    """

    def __init__(self, deployment: str, client: SyncPrefectClient) -> None:
        """Begin without knowing of any.

        Args:
            deployment: That of the images, `flow/deployment`.
            client: An open client of Prefect.
        """
        self._client = client
        self._name = deployment
        self._waiting: dict[UUID, Waiting[UUID]] = {}
        self._list = WaitingList()
        self._looked = -_INTERVAL  # seconds of the monotonic clock
        self._read = time.monotonic()  # when all runs that wait were read
        self._seconds: dict[str, float] = {}  # that the last image of each model took

    def give_places(self) -> int:
        """Let the images begin whose turn it is; returns how many wait on."""
        client = self._client
        deployment = client.read_deployment_by_name(self._name)
        self._filter = DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id]))
        self._look_for_waiting(client)
        if self._waiting:
            places = self._places(client, lowest_limit(client, deployment))
            order = turns(self._waiting.values(), places, datetime.now(UTC).timestamp())
            listed = list(islice(order, _LISTED))
            for turn in listed:
                if not turn.reason:
                    self._begin(client, turn.job.id)
            self._list.show(client, [_row(turn) for turn in listed if turn.reason])
        else:
            self._list.show(client, [])
        return len(self._waiting)

    def forget(self, runs: Iterable[UUID]) -> None:
        """Read runs that wait again when places are given next, as their priority was raised."""
        for run in runs:
            if known := self._waiting.pop(run, None):
                get_run_logger().info("%s waits with a higher priority from now on", known.name)

    def _begin(self, client: SyncPrefectClient, run_id: UUID) -> None:
        """Have a worker start a run, unless it was cancelled or begun meanwhile."""
        self._waiting.pop(run_id)
        try:
            run = client.read_flow_run(run_id)
        except ObjectNotFound:
            return
        if run.state_name == WAITING:
            # forced, or it would be resumed, and its start not counted (`count_start`)
            client.set_flow_run_state(run_id, Scheduled(message="It is its turn."), force=True)
            get_run_logger().info("%s begins", run.name)

    def _look_for_waiting(self, client: SyncPrefectClient) -> None:
        """Learn which runs wait.

        Each has a request, so those that are known are read again once a minute only: another
        sensor may have raised their priority.
        """
        if time.monotonic() > self._read + _REREAD:
            self._read = time.monotonic()
            self._waiting.clear()
        state = FlowRunFilterState(name=FlowRunFilterStateName(any_=[WAITING]))
        unknown = FlowRunFilterId(not_any_=[*self._waiting]) if self._waiting else None
        self._read_waiting(client, FlowRunFilter(state=state, id=unknown))
        if not self._waiting:
            return
        all_waiting = FlowRunFilter(state=state)
        number = client.count_flow_runs(deployment_filter=self._filter, flow_run_filter=all_waiting)
        if number != len(self._waiting):  # some were cancelled, or begun by others
            self._waiting.clear()
            self._read_waiting(client, all_waiting)

    def _read_waiting(self, client: SyncPrefectClient, filter_: FlowRunFilter) -> None:
        read = partial(
            client.read_flow_runs, deployment_filter=self._filter, flow_run_filter=filter_
        )
        for run in read_all(read):
            owner, model, priority = facts(run)
            since = run.created.timestamp() if run.created else 0.0
            self._waiting[run.id] = Waiting(run.id, owner, model, priority, since, run.name)

    def _places(self, client: SyncPrefectClient, number: int | None) -> Places:
        """The places for images, and who has them."""
        working = [self._working(run) for run in self._read_with_places(client)]
        owners = {job.owner for job in self._waiting.values()} | {job.owner for job in working}
        begun: list[tuple[str, float]] = []
        if len(owners) > 1:  # with one, it does not matter
            begun = self._begun(client, _BEGUN * len(owners))
        begun += [(job.owner, job.since) for job in working]
        brief, full = frozenset[str](), frozenset[str]()
        if number is not None and len(working) < number:
            brief = self._brief(client)
            images = Counter(job.model for job in working)
            many = {model for model, at_work in images.items() if at_work >= (number + 1) // 2}
            full = frozenset(model for model in many - brief if _is_full(client, model))
        return Places(
            number,
            working,
            begun,
            full,
            brief,
            lambda owner: settings().quota(owner).images,
        )

    def _brief(self, client: SyncPrefectClient) -> frozenset[str]:
        """The models whose images give back their places soon, as the last one of each did."""
        if time.monotonic() > self._looked + _INTERVAL:
            completed = FlowRunFilterStateType(any_=[StateType.COMPLETED])
            runs = client.read_flow_runs(
                deployment_filter=self._filter,
                flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=completed)),
                sort=FlowRunSort.END_TIME_DESC,
                limit=_ENDED,
            )
            self._looked, self._seconds = time.monotonic(), {}
            for run in runs:
                if run.start_time and run.end_time:
                    seconds = (run.end_time - run.start_time).total_seconds()
                    self._seconds.setdefault(facts(run)[1], seconds)
        return frozenset(model for model, seconds in self._seconds.items() if seconds < _BRIEF)

    def _read_with_places(self, client: SyncPrefectClient) -> list[FlowRun]:
        """The runs that are at work or about to begin, whoever created them."""
        now = datetime.now(UTC)
        types = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
        state = FlowRunFilterState(type=FlowRunFilterStateType(any_=types))
        query = partial(
            client.read_flow_runs,
            deployment_filter=self._filter,
            flow_run_filter=FlowRunFilter(state=state),
        )
        return [
            run
            for run in read_all(query)
            # one that is due later was postponed by a user
            if run.next_scheduled_start_time is None or run.next_scheduled_start_time <= now
        ]

    def _begun(self, client: SyncPrefectClient, number: int) -> list[tuple[str, float]]:
        """Owner and time of the images that began last."""
        runs = client.read_flow_runs(
            deployment_filter=self._filter,
            flow_run_filter=FlowRunFilter(start_time=FlowRunFilterStartTime(is_null_=False)),
            sort=FlowRunSort.START_TIME_DESC,
            limit=min(200, number),
        )
        return [(facts(run)[0], run.start_time.timestamp()) for run in runs if run.start_time]

    @staticmethod
    def _working(run: FlowRun) -> Working:
        owner, model, _ = facts(run)
        since = run.start_time or (run.state and run.state.timestamp)
        return Working(owner, model, since.timestamp() if since else 0.0)


def facts(run: FlowRun) -> tuple[str, str, int]:
    """Owner, model and priority of an image's run, by its request."""
    fields: Any = run.parameters.get("request")
    try:
        request = Request.model_validate(fields)
    except ValidationError:  # its run says what is wrong with it
        return "", "", 0
    return request.owner, limit_name(request), request.priority


def _is_full(client: SyncPrefectClient, model: str) -> bool:
    try:
        limit = client.read_global_concurrency_limit_by_name(model)
    except ObjectNotFound:  # it is called by nobody, or within the processes of the images
        return False
    return limit.active and limit.active_slots >= limit.limit


def _row(turn: Turn[UUID]) -> dict[str, str | int]:
    job = turn.job
    return {
        "run": str(job.id),
        "name": job.name,
        "owner": job.owner,
        "priority": job.priority,
        "waits": turn.reason,
    }
