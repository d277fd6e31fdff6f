"""How many image runs there are that have not ended, for metrics of the sensor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    FlowRunFilter,
    FlowRunFilterNextScheduledStartTime,
    FlowRunFilterState,
    FlowRunFilterStateName,
    Operator,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort

from flows.waiting_list import WAITING
from tasks.telemetry.catalogue import (
    BUFFERED,
    IMAGES_RUNNING,
    IMAGES_WAITING,
    OLDEST_IMAGE_AGE,
    VISIBLE,
    Operation,
)
from tasks.telemetry.source import SOURCE

_SOON = timedelta(minutes=1)  # a run that is due later than this was postponed by a user


def waiting_runs() -> FlowRunFilter:
    """Select the runs that wait: for their turn, or, as they are due, for a worker."""
    turn = FlowRunFilterState(name=FlowRunFilterStateName(any_=[WAITING]))
    # only runs that are scheduled have such a time
    due = FlowRunFilterNextScheduledStartTime(before_=datetime.now(UTC) + _SOON)
    either = {"state": turn, "next_scheduled_start_time": due, "operator": Operator.or_}
    return FlowRunFilter.model_validate(either)


@dataclass
class ImageLoad:
    """The image runs that have not ended, as a sensor has last seen them.

    Attributes:
        waiting: Number of those that wait to start.
        running: Number of the others.
        oldest: When the first of all of them should have started; None without any.
    """

    waiting: int = 0
    running: int = 0
    oldest: datetime | None = None

    def oldest_age(self) -> float:
        """Seconds since the first of them should have started; 0 without any."""
        now = datetime.now(UTC)
        return max(0.0, (now - (self.oldest or now)).total_seconds())

    def note(
        self, client: SyncPrefectClient, deployment: DeploymentFilter, begun: Sequence[FlowRun]
    ) -> None:
        """Note how many runs have begun, and since when the first of all should have.

        Args:
            client: Client of Prefect.
            deployment: Selects the deployment of the runs.
            begun: The runs that have begun.
        """
        first = list(begun)
        if self.waiting:
            first += client.read_flow_runs(
                deployment_filter=deployment,
                flow_run_filter=waiting_runs(),
                sort=FlowRunSort.EXPECTED_START_TIME_ASC,
                limit=1,
            )
        self.running = len(begun)
        due = (run.expected_start_time for run in first)
        self.oldest = min(filter(None, due), default=None)

    @contextmanager
    def told(self) -> Iterator[None]:
        """While it is open, tell them in metrics."""
        scheduling = {"Operation": Operation.SCHEDULING.value}
        with ExitStack() as stack:
            for metric, read, dimensions in (
                (IMAGES_WAITING, lambda: self.waiting, {}),
                (IMAGES_RUNNING, lambda: self.running, {}),
                (OLDEST_IMAGE_AGE, self.oldest_age, {}),
                (VISIBLE, lambda: self.waiting, scheduling),
                (BUFFERED, lambda: self.waiting + self.running, scheduling),
            ):
                stack.enter_context(SOURCE.gauge(metric, read, **dimensions))
            yield
