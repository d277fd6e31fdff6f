"""A queue of requests with all that a sensor needs beside it, in an emulated AWS and in Prefect."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prefect import get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName
from prefect.client.schemas.objects import FlowRun

from flows.image import image
from flows.sensor import sensor
from tasks.aws.clients import client
from tasks.settings import settings


@dataclass
class Inbox:
    """A queue that the sensor drains, and a bucket that may send its notifications there.

    Attributes:
        bucket: Its name.
        queue_url: The queue.
        dead_letter_url: Where refused messages go.
        status_url: A queue with every status.
        deployment: Of the image flow.
    """

    bucket: str
    queue_url: str
    dead_letter_url: str
    status_url: str
    deployment: str

    def drain(self, messages: int = 1) -> int:
        """Number of image runs that sensors create until the queue is empty.

        Args:
            messages: That must be on the queue first: S3's notifications come after a while.
        """
        self.await_messages(messages)
        return self.sense_until(lambda: not self.left())

    def await_messages(self, number: int) -> None:
        """Wait until the queue has a number of messages."""
        deadline = time.monotonic() + 60
        while self.left() < number:
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def sense_until(self, condition: Callable[[], bool]) -> int:
        """Number of image runs that sensors create until a condition holds."""
        created, deadline = 0, time.monotonic() + 240
        while not condition():
            assert time.monotonic() < deadline
            created += sense()
        return created

    def received_once(self) -> bool:
        """Whether the only message of the queue was received, and neither deleted nor set aside."""
        return self.depth() == (0, 1)

    def runs(self) -> list[FlowRun]:
        """The image runs, up to 200."""
        name = DeploymentFilter(name=DeploymentFilterName(any_=[self.deployment]))
        with get_client(sync_client=True) as prefect:
            return prefect.read_flow_runs(deployment_filter=name)

    def left(self) -> int:
        """Messages on the queue, hidden ones too."""
        return sum(self.depth())

    def depth(self) -> tuple[int, int]:
        """Messages on the queue that can be received, and those that are hidden."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = client("sqs").get_queue_attributes(QueueUrl=self.queue_url, AttributeNames=names)
        visible, hidden = (int(answer["Attributes"][name]) for name in names)
        return visible, hidden


def sense(seconds: float = 2.0) -> int:
    """Number of image runs that a sensor creates in some seconds.

    On a busy machine they may be over before the sensor receives anything.
    """
    until = datetime.now(UTC) + timedelta(seconds=seconds)
    end: Any = sensor(until=until, return_state=True)
    created: int = end.result()
    return created


def received(url: str) -> list[dict[str, Any]]:
    """All messages on a queue, which are deleted."""
    found = []
    while (
        messages := client("sqs")
        .receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"])
        .get("Messages")
    ):
        for message in messages:
            client("sqs").delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            attributes = message.get("MessageAttributes", {})
            values = {name: value["StringValue"] for name, value in attributes.items()}
            found.append({"body": message["Body"]} | values)
    return found


def arn(url: str) -> str:
    """The ARN of a queue."""
    answer = client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return str(answer["Attributes"]["QueueArn"])


@contextmanager
def open_inbox(bucket: str, **deployment: Any) -> Iterator[Inbox]:
    """A queue, a dead-letter queue, a topic and an image deployment, named after a bucket.

    Args:
        bucket: Its name.
        deployment: Arguments of `Flow.to_deployment`.
    """
    sqs, name = client("sqs"), bucket.replace("images", "arrivals")
    aside = sqs.create_queue(QueueName=f"{name}-dlq")["QueueUrl"]
    statuses = sqs.create_queue(QueueName=f"{name}-status")["QueueUrl"]
    redrive = json.dumps({"deadLetterTargetArn": arn(aside), "maxReceiveCount": 3})
    url = sqs.create_queue(QueueName=name, Attributes={"RedrivePolicy": redrive})["QueueUrl"]
    sends = {
        "Effect": "Allow",
        "Principal": {"Service": ["s3.amazonaws.com", "sns.amazonaws.com", "events.amazonaws.com"]},
        "Action": "sqs:SendMessage",
        "Resource": arn(url),
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [sends]})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    topic = client("sns").create_topic(Name=f"{name}-status")["TopicArn"]
    client("sns").subscribe(
        TopicArn=topic,
        Protocol="sqs",
        Endpoint=arn(statuses),
        Attributes={"RawMessageDelivery": "true"},
    )
    image.to_deployment(name, **deployment).apply()  # type: ignore[union-attr]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWATH_QUEUE_URL", url)
        patch.setenv("SWATH_STATUS_TOPIC_ARN", topic)
        patch.setenv("SWATH_IMAGE_DEPLOYMENT", f"image/{name}")
        settings.cache_clear()
        yield Inbox(bucket, url, aside, statuses, name)
    settings.cache_clear()
