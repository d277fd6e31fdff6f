"""The queue → one image run per image: those that a request names, and those that arrive in S3."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from functools import partial

import httpx
from prefect import flow, get_client, get_run_logger
from prefect.concurrency.sync import concurrency
from prefect.runtime import flow_run

from flows.announce import announce_refusal
from flows.image_runs import ImageRuns
from tasks.errors import PublishError, RequestError
from tasks.queue import read_arrivals, request_for
from tasks.queue.sqs import LONGEST_POLL, Message, Queue, open_queue
from tasks.request import Request
from tasks.settings import settings

HANDOVER = timedelta(seconds=90)  # in which a successor starts, on ECS too
LEASE = 60.0  # seconds after which a dead sensor's place is free again


@flow(name="sensor", flow_run_name="sensor")
def sensor(minutes: float = 5.0) -> int:
    """Drain the queue of requests for a while, launching one image run for each image.

    A schedule starts a sensor every `minutes`; each drains until its successor is there, and a
    lease in Prefect lets `SWATH_SENSORS_PER_QUEUE` of them, one by default, drain a queue at a
    time. So whatever kills a sensor, the next takes over within its interval, and no message is
    deleted before Prefect holds its runs.

    Args:
        minutes: How long to drain: the interval of the schedule.

    Returns:
        Image runs launched.
    """
    end = flow_run.get_scheduled_start_time() + timedelta(minutes=minutes) + HANDOVER
    left = partial(_seconds_to, end)
    queue = open_queue(settings().queue_url)
    runs, launched = ImageRuns(settings().image_deployment), 0
    with _place(queue, left()) as mine:
        while mine and left() > 0:
            try:
                runs.reconcile()
                free = runs.free()
            except httpx.HTTPError as error:
                get_run_logger().warning("Prefect does not answer: %r", error)
                free = 0
            if free == 0:
                time.sleep(0.5)
                continue
            # one at a time: while it waits for places, none waits behind it and comes back
            for message in queue.receive(1, min(left(), LONGEST_POLL)):
                launched += _handle(message, queue, runs)
    return launched


def _handle(message: Message, queue: Queue, runs: ImageRuns) -> int:
    """Launch what a message asks for, or set it aside; returns the runs launched."""
    logger = get_run_logger()
    try:
        launched = _launch(message, queue, runs)
    except (RequestError, ValueError) as error:  # a ValueError is of text that is none
        reason = str(error)
    except (httpx.HTTPError, PublishError) as error:  # Prefect's or S3's trouble may pass
        logger.warning("Message %s is left on the queue: %s", message.id, error)
        if message.receives < queue.most_receives:
            return 0
        reason = f"it was tried {message.receives} times: {error}"
    else:
        queue.acknowledge(message)
        return launched
    logger.warning("Message %s is refused: %s", message.id, reason)
    announce_refusal(message.body, reason)
    queue.set_aside(message, reason)
    return 0


def _launch(message: Message, queue: Queue, runs: ImageRuns) -> int:
    """One run for each image, as places come free; returns their number."""
    work = [(request, url) for request in _requests(message) for url in request.image_urls]
    for request, url in work:
        while runs.free() == 0:
            queue.extend(message)
            runs.reconcile()  # or a run that cannot end keeps its place, and this one waiting
            time.sleep(1)
        runs.launch(request, url, message.id)
        get_run_logger().info("%s of %s is launched", url, request.job_id)
    return len(work)


def _requests(message: Message) -> list[Request]:
    """The request that a message is, or those for the new images that S3 tells of in it."""
    arrivals = read_arrivals(message.body)
    if arrivals is None:
        return [Request.parse(message.body)]
    if not arrivals:
        get_run_logger().info("Message %s of S3 tells of no object", message.id)
    for arrival in arrivals:
        if arrival.passed_over:
            get_run_logger().info("%r is passed over: %s", arrival.url, arrival.passed_over)
    return [request_for(arrival) for arrival in arrivals if not arrival.passed_over]


@contextmanager
def _place(queue: Queue, patience: float) -> Iterator[bool]:
    """One of the places that sensors of a queue have; False if none came free in time."""
    name = "sensor:" + queue.url.rpartition("/")[2]
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name(name, settings().sensors_per_queue)
    place = concurrency(name, timeout_seconds=max(0.0, patience), lease_duration=LEASE)
    with ExitStack() as held:
        try:
            held.enter_context(place)
        except TimeoutError:
            yield False
            return
        yield True


def _seconds_to(end: datetime) -> float:
    return end.timestamp() - time.time()
