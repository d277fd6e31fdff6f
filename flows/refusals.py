"""Messages for which no run is created: the sensor refuses them with the status FAILED.

Each has one terminal status: also a message that kills every sensor that handles it, which SQS
itself moves to the dead-letter queue.
"""

from __future__ import annotations

import time

from prefect import get_client, get_run_logger

from flows.announce import announce_image_refusal, announce_refusal
from flows.image_runs import find_run
from tasks.errors import PublishError, RequestError
from tasks.queue import read_arrivals, request_for
from tasks.queue.sqs import Message, Queue
from tasks.request import Request

_INTERVAL = 60.0  # seconds between two looks at the dead-letter queue


def requests_in(message: Message) -> list[Request]:
    """The request that a message holds, or one for each new image of an S3 notification.

    Raises:
        RequestError: The message, or the template for an image, is not a valid request.
        PublishError: S3 does not return the template.
    """
    arrivals = read_arrivals(message.body)
    if arrivals is None:
        return [Request.parse(message.body)]
    if not arrivals:
        get_run_logger().info("Message %s is from S3 and names no object", message.id)
    for arrival in arrivals:
        if arrival.ignored:
            get_run_logger().info("%r is ignored: %s", arrival.url, arrival.ignored)
    return [request_for(arrival) for arrival in arrivals if not arrival.ignored]


def refuse(message: Message, queue: Queue, reason: str) -> None:
    """Publish the status FAILED for a message, and put it on the dead-letter queue with the reason.

    If SNS does not take the status, the message stays where it is, and is refused again later.
    """
    get_run_logger().warning("Message %s is refused: %s", message.id, reason)
    if announce_refusal(message.body, reason):
        queue.dead_letter(message, reason)


def give_up(message: Message, queue: Queue, reason: str) -> None:
    """Refuse a message that was delivered too often, except for those of its images that have runs.

    Prefect may have created a run although its answer was lost. While Prefect does not say which
    images have runs, the message stays where it is; SQS moves it to the dead-letter queue, where
    `MovedMessages` finds it.
    """
    try:
        _refuse_without_run(message, queue, reason)
    except RequestError as error:
        refuse(message, queue, str(error))
    except PublishError:  # its template cannot be read
        refuse(message, queue, reason)
    except Exception as error:
        get_run_logger().warning("Message %s waits to be refused: %r", message.id, error)


def _refuse_without_run(message: Message, queue: Queue, reason: str) -> None:
    images = [(request, url) for request in requests_in(message) for url in request.image_urls]
    with get_client(sync_client=True) as client:
        missing = [
            (request, url)
            for request, url in images
            if find_run(client, request, url, message.id) is None
        ]
    if not missing:
        queue.acknowledge(message)
    elif len(missing) == len(images):
        refuse(message, queue, reason)
    else:
        reason = f"{len(missing)} of {len(images)} images have no run: {reason}"
        get_run_logger().warning("Message %s is refused: %s", message.id, reason)
        if all(announce_image_refusal(request, url, reason) for request, url in missing):
            queue.dead_letter(message, reason)


class MovedMessages:
    """Messages that SQS itself moved to the dead-letter queue, as no sensor was done with them."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._next = 0.0  # of the monotonic clock

    def refuse_if_due(self) -> None:
        """Refuse those that arrived, unless the last look was less than a minute ago.

        They stay on the dead-letter queue, from then on with the reason, and so are refused once.
        Of two sensors one receives such a message. What cannot be refused is left to the next look.
        """
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _INTERVAL
        reason = (
            f"it was delivered {self._queue.max_receive_count} times, and no sensor was done with "
            "it: each was killed, or Prefect did not answer; see the logs of the sensors, then "
            "send it again"
        )
        try:
            for message in self._queue.moved_by_sqs():
                give_up(message, self._queue, reason)
        except Exception as error:
            get_run_logger().warning("The dead-letter queue cannot be looked through: %r", error)
