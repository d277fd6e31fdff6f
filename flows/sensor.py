"""The sensor: reads messages from the queue, and creates a run for each image that they name.

A message is a request, or a notification of S3 about new images, which get requests by a template.
The runs wait in Prefect until it is their turn (`flows/image_turns.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from functools import partial
from math import inf

from botocore.exceptions import BotoCoreError, ClientError
from prefect import flow, get_client, get_run_logger
from prefect.client.schemas.objects import State
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency
from prefect.states import Completed

from flows.alive import alive
from flows.image_runs import ImageRuns
from flows.image_turns import ImageTurns, waiting_state
from flows.measured import measured
from flows.refusals import MovedMessages, give_up, refuse, requests_in
from flows.retention import Sweeper
from flows.run_records import PREFECT_ERRORS
from flows.sensor_runs import SensorRuns, stood_by
from tasks.errors import RequestError
from tasks.queue.sqs import VISIBILITY, Message, Queue, open_queue
from tasks.request.field_types import HIGHEST_PRIORITY
from tasks.settings import settings
from tasks.telemetry.catalogue import THROTTLES, Operation
from tasks.telemetry.operations import operation
from tasks.telemetry.source import SOURCE
from tasks.telemetry.spans import span

LEASE = 60.0
"""Seconds after which the slot of a sensor that was killed is free again."""

_NO_QUEUE = (
    "There is no queue to drain, so the sensor's schedule was paused: set SWATH_QUEUE_URL for the "
    "worker, then resume the schedule and run the sensor."
)
_SLOT_TIMEOUT = 600.0  # seconds in which the sensor before this one must have ended
_STANDBY_TIMEOUT = 1.0  # the same for one that stood by, which works without a slot too
_LONGEST_OUTAGE = 600.0  # seconds without an answer of Prefect or SQS, after which a sensor fails
_POLL = 10.0  # seconds of one receive: between two, the sensor shows that it lives
_POLL_OF_TWO = 2.0  # the same while another queue has to be looked at too
_POLL_WHILE_WAITING = 1.0  # the same while images wait, which get the next free place
_PAUSE = 0.5  # seconds before the second try while Prefect or SQS does not answer
_LONGEST_PAUSE = 16.0  # seconds between two tries while Prefect or SQS does not answer
_NO_ANSWER = (*PREFECT_ERRORS, BotoCoreError, ClientError)
"""Errors of Prefect and of SQS, after which the sensor tries again."""


@flow(name="sensor", flow_run_name="sensor")
def sensor(until: datetime | None = None) -> State[int]:
    """Drain the queue of requests, creating one image run for each image.

    A schedule starts a sensor every hour, which takes over from the one before it. If a sensor is
    killed, a run that stands by takes over within a minute, whatever the state of the one that died
    (`flows/sensor_runs.py`). A concurrency limit in Prefect, held by lease, lets
    `SWATH_SENSORS_PER_QUEUE` of them drain a queue at a time, one by default; and no message is
    deleted before its runs exist in Prefect. A run that stood by does not wait for the slot of the
    sensor that died, whose lease may last for another minute.

    Args:
        until: When to end. None to end when the next sensor has started, or the schedule is paused.

    Returns:
        Number of image runs created.
    """
    others = SensorRuns() if until is None else None
    if not settings().queue_url and others is not None:
        others.pause()
        return Completed(name="No queue", message=_NO_QUEUE, data=0)
    queue = open_queue(settings().queue_url)
    url = settings().urgent_queue_url
    urgent = open_queue(url, "SWATH_URGENT_QUEUE_URL") if url else None
    time_left = partial(_seconds_until, until)
    patience = _STANDBY_TIMEOUT if stood_by() else _SLOT_TIMEOUT
    with measured(), alive(), _slot(queue, min(time_left(), patience)) as acquired:
        if not acquired and not stood_by():
            return Completed(message="Another sensor drains the queue.", data=0)
        with get_client(sync_client=True) as client:
            runs = ImageRuns(settings().image_deployment, client)
            inflow = _Inflow(runs, ImageTurns(runs.name, client), queue, urgent, others)
            with runs.load.told():
                return _drain(inflow, time_left, others)


class _Inflow:
    """The queues of a sensor, and the image runs that it makes of their messages."""

    def __init__(
        self,
        runs: ImageRuns,
        turns: ImageTurns,
        queue: Queue,
        urgent: Queue | None,
        others: SensorRuns | None,
    ) -> None:
        self._runs, self._turns, self._others = runs, turns, others
        self._queue, self._urgent = queue, urgent
        self._moved = [MovedMessages(each) for each in (urgent, queue) if each is not None]
        self._looked = 0.0  # when places were given last, in seconds of the monotonic clock
        self._waiting = 0  # images that waited for a place then
        self._ahead = 0  # runs that have not begun

    def poll(self, timeout: float) -> int:
        """Give free places to the images whose turn it is, and handle the next message.

        No message is received while too many images wait, so that a backlog stays on the queue,
        where its depth can be watched, and does not fill Prefect; but urgent ones always are.

        Args:
            timeout: Seconds to wait for a message.

        Returns:
            Number of image runs created.
        """
        for moved in self._moved:
            moved.refuse_if_due()
        self._runs.reconcile()
        if not self._waiting or self._look_is_due():
            self._give_places()
            self._ahead = self._runs.waiting()
        # one at a time, so that no message stays hidden until those before it are handled
        if self._urgent and (messages := self._urgent.receive(1, 0)):
            return self._handle(messages[0], self._urgent)
        if self._ahead >= settings().look_ahead:
            time.sleep(_POLL_WHILE_WAITING)
            return 0
        longest = _POLL_WHILE_WAITING if self._waiting else _POLL_OF_TWO if self._urgent else _POLL
        messages = self._queue.receive(1, min(timeout, longest))
        return self._handle(messages[0], self._queue) if messages else 0

    def _handle(self, message: Message, queue: Queue) -> int:
        urgent = queue is self._urgent
        created = _handle(message, queue, self._runs, self._between_images, urgent=urgent)
        self._ahead += created
        if created and not self._waiting:
            self._give_places()
        return created

    def _between_images(self) -> None:
        """What cannot wait until a message is handled: the creation of many runs takes minutes.

        Images begin, runs that were lost are replaced, and the sensors that stand by still do.
        """
        with suppress(*_NO_ANSWER):  # the next time, or the next poll, may succeed
            self._runs.reconcile()
            if self._look_is_due():
                self._give_places()
            if self._others is not None:
                self._others.postpone_standby()

    def _look_is_due(self) -> bool:
        """Whether places are given again: each time costs Prefect's server ten requests."""
        return time.monotonic() >= self._looked + _POLL_WHILE_WAITING

    def _give_places(self) -> None:
        self._turns.forget(self._runs.take_raised())
        self._waiting, self._looked = self._turns.give_places(), time.monotonic()


def _drain(
    inflow: _Inflow, time_left: Callable[[], float], others: SensorRuns | None
) -> State[int]:
    """Handle messages until this run has to end; its state has the number of image runs created."""
    sweeper = Sweeper()
    created, failures, answered = 0, 0, time.monotonic()
    last_error: Exception | None = None
    reason = "its time is over"
    while time_left() > 0:
        try:
            if others is not None and (ends := others.reason_to_end()):
                reason, last_error = ends, None
                break
            sweeper.start_if_due()
            created += inflow.poll(time_left())
            failures, last_error, answered = 0, None, time.monotonic()
        except _NO_ANSWER as error:
            get_run_logger().warning("Prefect or SQS does not answer: %r", error)
            failures, last_error = failures + 1, error
            if time.monotonic() > answered + _LONGEST_OUTAGE:
                break
            time.sleep(max(0.0, min(_PAUSE * 2.0**failures, _LONGEST_PAUSE, time_left())))
    if last_error is not None:
        raise last_error  # so that the run is shown as Failed
    return Completed(message=f"{created} image runs created; ended as {reason}.", data=created)


def _handle(
    message: Message, queue: Queue, runs: ImageRuns, meanwhile: Callable[[], None], *, urgent: bool
) -> int:
    """Create the runs of a message and delete it, or refuse it; returns the number of runs."""
    about = span("message", new_trace=True, message=message.id)
    try:
        with operation(Operation.SCHEDULING), about:
            created = _create_runs(message, queue, runs, meanwhile, urgent=urgent)
    except RequestError as error:
        refuse(message, queue, str(error))
        return 0
    except Exception as error:  # of Prefect, S3 or SQS: the next delivery may succeed
        get_run_logger().warning("Message %s stays on the queue: %r", message.id, error)
        if message.receive_count >= queue.max_receive_count:
            give_up(message, queue, f"it was tried {message.receive_count} times: {error}")
        return 0
    queue.acknowledge(message)
    return created


def _create_runs(
    message: Message, queue: Queue, runs: ImageRuns, meanwhile: Callable[[], None], *, urgent: bool
) -> int:
    """Create one run for each image of a message; returns their number.

    All are created at once, because Prefect can hold runs that cannot start yet for any time, while
    SQS allows a message to be held for at most 12 hours. If the sensor is killed meanwhile, the
    message is delivered again, and the runs that exist are not created twice.
    """
    hidden_since, created = time.monotonic(), 0
    change = {"priority": HIGHEST_PRIORITY} if urgent else {}
    for request in (each.model_copy(update=change) for each in requests_in(message)):
        for url in request.image_urls:
            if time.monotonic() - hidden_since > VISIBILITY / 3:
                hidden_since = time.monotonic()
                _extend(message, queue)
            runs.create(request, url, message.id, state=waiting_state())
            created += 1
            if runs.load.waiting:
                model = request.image_processor.metric_name
                SOURCE.add(THROTTLES, Operation=Operation.SCHEDULING.value, ModelName=model)
            meanwhile()
        get_run_logger().info("%d runs of %s are created", len(request.image_urls), request.job_id)
    return created


def _extend(message: Message, queue: Queue) -> None:
    """Keep a message hidden. If that fails it is delivered twice, which creates no run twice."""
    try:
        queue.extend(message)
    except (BotoCoreError, ClientError) as error:
        get_run_logger().warning("Message %s cannot be kept hidden: %r", message.id, error)


@contextmanager
def _slot(queue: Queue, timeout: float) -> Iterator[bool]:
    """Hold one of the slots for sensors of a queue; False if none became free in time.

    Args:
        queue: The name of the concurrency limit contains the queue's.
        timeout: Seconds to wait for a slot.
    """
    name = "sensor:" + queue.url.rpartition("/")[2]
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name(name, settings().sensors_per_queue)
    with ExitStack() as stack:
        yield _acquire(stack, name, timeout)


def _acquire(stack: ExitStack, name: str, timeout: float) -> bool:
    """Acquire a slot and hold it until the stack is closed; False if none became free in time."""
    end = time.monotonic() + timeout
    while True:
        left = max(0.0, end - time.monotonic())
        try:
            stack.enter_context(concurrency(name, timeout_seconds=left, lease_duration=LEASE))
        except TimeoutError:
            return False
        except (*PREFECT_ERRORS, ConcurrencySlotAcquisitionError) as error:
            if left == 0:
                raise
            get_run_logger().warning("Prefect does not answer: %r", error)
            time.sleep(_PAUSE)
        else:
            return True


def _seconds_until(end: datetime | None) -> float:
    return inf if end is None else end.timestamp() - time.time()
